"""The live page: the report of this instant, served beside the metrics and loaded again by itself.

Reads: the store. Writes: nothing. Never: AWS, the store's writers. Whoever asks often is shown what was
gathered a moment ago: a page costs Redis a little, and the state of 100,000 findings a second or two.
"""

import threading
import time
from collections.abc import Callable

import structlog

from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.errors import MonitorError
from pipeline.gathering import ASKED_BY_PAGE, gather, maker
from pipeline.metrics import Page, Served
from pipeline.report.facts import Facts
from pipeline.store import StoreView

log = structlog.get_logger(__name__)

#: Facts are shown so long before they are gathered again; at least so many times as long as it took.
LEAST_SECONDS, REST_FACTOR = 5.0, 10.0
#: In the question of the page's address: do not load it again.
STILL = "still"


def pages(process: ProcessConfig, migrations: tuple[MigrationConfig, ...]) -> dict[str, Page]:
    """What to serve, by path."""
    (migration,) = migrations
    page = LivePage(process, migration)
    return {"/": page.html, "/report.json": page.json}


class LivePage:
    """The page of one migration. Thread-safe: of those who ask at once one gathers, the others wait."""

    def __init__(self, process: ProcessConfig, migration: MigrationConfig) -> None:
        self._process, self._migration = process, migration
        self._lock = threading.Lock()
        self._store: StoreView | None = None
        self._facts: Facts | None = None
        self._good_until = 0.0

    def html(self, question: str) -> Served:
        """The page; `?still`: one that is not loaded again."""
        # Jinja is needed by nobody who only scrapes.
        from pipeline.report import html

        refreshed = question != STILL
        headers = {"Content-Security-Policy": html.content_policy(), "Cache-Control": "no-store"}
        if refreshed:
            headers["Refresh"] = str(html.REFRESH_SECONDS)
        return self._served(
            "text/html; charset=utf-8",
            headers,
            lambda facts: html.page(facts, live=True, refreshed=refreshed),
        )

    def json(self, _question: str) -> Served:
        """What `report --format json` prints."""
        from pipeline.report.report_text import as_json

        return self._served("application/json", {"Cache-Control": "no-store"}, as_json)

    def _served(self, kind: str, headers: dict[str, str], render: Callable[[Facts], str]) -> Served:
        try:
            facts = self._gathered()
        except MonitorError as error:
            log.warning("no live page", error=str(error))
            return Served(503, "text/plain; charset=utf-8", f"{error.problem}\n".encode(), headers)
        if facts is None:
            return Served(503, "text/plain; charset=utf-8", b"the migration has not begun yet\n", headers)
        return Served(200, kind, render(facts).encode(), headers)

    def _gathered(self) -> Facts | None:
        """The facts, gathered anew where they are old; None before the migration has begun."""
        with self._lock:
            began = time.monotonic()
            if self._facts is None or began >= self._good_until:
                process, migration = self._process, self._migration
                self._store = self._store or StoreView.open(process.redis_url, migration.name)
                if self._store is None:
                    return None
                self._facts = gather(
                    self._store,
                    migration.gate_limits(),
                    maker(process.redis_url),
                    show_keys=process.show_keys,
                    ask_at_most=ASKED_BY_PAGE,
                )
                took = time.monotonic() - began
                self._good_until = time.monotonic() + max(LEAST_SECONDS, REST_FACTOR * took)
            return self._facts

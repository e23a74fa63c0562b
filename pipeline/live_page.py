"""The live page: the report of this instant, served beside the metrics and loaded again by itself.

Reads: the store. Writes: nothing. Never: AWS, the store's writers. Whoever asks often is shown what was
gathered a moment ago: a page costs Redis a little, and the state of 100,000 findings a second or two.

Of many migrations `/` is an overview, made of their figures alone; each has its page at `/m/NAME`.
"""

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.gate import NOT_BEGUN
from pipeline.errors import ConfigurationError, MonitorError
from pipeline.gathering import ASKED_BY_PAGE, check_tables, gather, maker, not_named, serves_nobody
from pipeline.metrics import Page, Served
from pipeline.report import cover, standing
from pipeline.report.facts import Facts
from pipeline.report.standing import Standing
from pipeline.store import StoreView

log = structlog.get_logger(__name__)

#: Facts are shown so long before they are gathered again; at least so many times as long as it took.
LEAST_SECONDS, REST_FACTOR = 5.0, 10.0
#: How long it holds which other migrations the Redis has the state of.
NOT_NAMED_SECONDS = 300.0
#: In the question of the page's address: do not load it again.
STILL = "still"
HTML, JSON, TEXT = "text/html; charset=utf-8", "application/json", "text/plain; charset=utf-8"


def pages(process: ProcessConfig, migrations: tuple[MigrationConfig, ...]) -> dict[str, Page]:
    """What to serve, by path."""
    if len(migrations) == 1:
        page = LivePage(process, migrations[0])
        return {"/": page.html, "/report.json": page.json}
    each = [LivePage(process, one, f"/m/{one.name}", among=len(migrations)) for one in migrations]
    overview = Overview(process, each)
    served: dict[str, Page] = {"/": overview.html, "/report.json": overview.json}
    for page in each:
        served |= {page.path: page.html, f"{page.path}/report.json": page.json}
    return served


class LivePage:
    """The page of one migration. Thread-safe: of those who ask at once one gathers, the others wait."""

    def __init__(
        self, process: ProcessConfig, migration: MigrationConfig, path: str = "/", among: int = 1
    ) -> None:
        """path: where it is served. among: as `gather` takes it."""
        self._process, self._migration = process, migration
        self.name, self.path, self._among = migration.name, path, among
        self._lock = threading.Lock()
        self._store: StoreView | None = None
        self._facts: Facts | None = None
        self._good_until = 0.0

    def html(self, question: str) -> Served:
        """The page; `?still`: one that is not loaded again."""
        # Jinja is needed by nobody who only scrapes.
        from pipeline.report import html

        refreshed = question != STILL
        return _served(
            HTML,
            _page_headers(refreshed=refreshed),
            lambda: html.page(self.facts(), live=True, refreshed=refreshed, path=self.path),
        )

    def json(self, _question: str) -> Served:
        """What `report --format json` prints."""
        from pipeline.report.report_text import as_json

        return _served(JSON, {"Cache-Control": "no-store"}, lambda: as_json(self.facts()))

    def facts(self) -> Facts:
        """Gathered anew where they are old. Raises MonitorError, also before the migration has begun."""
        with self._lock:
            began = time.monotonic()
            if self._facts is None or began >= self._good_until:
                self._facts = gather(
                    self._opened(),
                    self._migration.gate_limits(),
                    maker(self._process.redis_url),
                    show_keys=self._process.show_keys,
                    ask_at_most=ASKED_BY_PAGE,
                    among=self._among,
                )
                self._good_until = _good_until(began)
            return self._facts

    def standing(self) -> tuple[Standing, int]:
        """Where it stands by its figures, and when that was (ms). Raises as `facts` does."""
        figures = self._opened().figures()
        return standing.of_figures(self.name, figures, self._migration.gate_limits()), figures.now_ms

    def _opened(self) -> StoreView:
        if self._store is None:
            self._store = StoreView.open(self._process.redis_url, self.name)
        if self._store is None:
            raise ConfigurationError(NOT_BEGUN)
        check_tables(self._migration, self._store.meta)
        self._store.terms = self._migration.terms()
        return self._store


class Overview:
    """The page of many migrations: a line each. Thread-safe, as `LivePage` is."""

    def __init__(self, process: ProcessConfig, each: Sequence[LivePage]) -> None:
        self._process, self._each = process, each
        self._links = {page.name: page.path for page in each}
        self._lock = threading.Lock()
        self._standings: list[Standing] = []
        self._not_named: list[str] = []
        self._not_named_until = 0.0
        self._at_ms: int | None = None
        self._good_until = 0.0

    def html(self, question: str) -> Served:
        """The page; `?still`: one that is not loaded again."""
        from pipeline.report import html

        refreshed = question != STILL

        def made() -> str:
            standings, at_ms = self._known()
            who = maker(self._process.redis_url)
            others = self._others()
            return html.overview_page(standings, at_ms, who, self._links, others, refreshed=refreshed)

        return _served(HTML, _page_headers(refreshed=refreshed), made)

    def json(self, _question: str) -> Served:
        """What `report --format json` prints of all."""
        from pipeline.report.overview_text import cover_json

        return _served(JSON, {"Cache-Control": "no-store"}, lambda: cover_json(self._cover()))

    def _cover(self) -> cover.Cover:
        found: dict[str, Facts | standing.Problem] = {}
        for page in self._each:
            try:
                found[page.name] = page.facts()
            except MonitorError as error:
                if serves_nobody(self._process.redis_url, error):
                    raise
                found[page.name] = standing.problem_of(error)
        return cover.make(found, maker(self._process.redis_url), self._others())

    def _others(self) -> list[str]:
        """A server of many keys is busy with this for a second: not with each page."""
        began = time.monotonic()
        if began >= self._not_named_until:
            self._not_named = not_named(self._process, self._links)
            self._not_named_until = began + NOT_NAMED_SECONDS
        return self._not_named

    def _known(self) -> tuple[list[Standing], int | None]:
        with self._lock:
            began = time.monotonic()
            if began >= self._good_until:
                self._standings, self._at_ms = self._look()
                self._good_until = _good_until(began)
            return self._standings, self._at_ms

    def _look(self) -> tuple[list[Standing], int | None]:
        """Of each migration; and when that was (ms), None = none can be read."""
        standings: list[Standing] = []
        at_ms: int | None = None
        for page in self._each:
            try:
                one, at_ms = page.standing()
            except MonitorError as error:
                if serves_nobody(self._process.redis_url, error):
                    raise
                one = standing.unread(page.name, standing.problem_of(error))
            standings.append(one)
        return standings, at_ms


def _good_until(began: float) -> float:
    """Until when what was gathered since `began` is shown (monotonic)."""
    now = time.monotonic()
    return now + max(LEAST_SECONDS, REST_FACTOR * (now - began))


def _page_headers(*, refreshed: bool) -> dict[str, str]:
    from pipeline.report import html

    headers = {"Content-Security-Policy": html.content_policy(), "Cache-Control": "no-store"}
    return headers | ({"Refresh": str(html.REFRESH_SECONDS)} if refreshed else {})


def _served(kind: str, headers: dict[str, str], made: Callable[[], str]) -> Served:
    try:
        return Served(200, kind, made().encode(), headers)
    except MonitorError as error:
        log.warning("no live page", error=str(error))
        return Served(503, TEXT, f"{error.problem}\n".encode(), headers)

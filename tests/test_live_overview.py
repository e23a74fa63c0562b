"""The live pages of many migrations: an overview of all, a page of each; over HTTP, in a real browser."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from pipeline import live_page, metrics
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.gate import Scope
from pipeline.report import html
from pipeline.report.facts import fingerprint
from tests import servers
from tests.browser import Page, chromium
from tests.test_findings import put
from tests.test_report_command import asked
from tests.test_several import World

LENIENT = MigrationConfig(gate_scope=Scope.CHANGES, gate_objective=0.5)


@pytest.fixture
def world(valkey_url: str, tmp_path: Path) -> Iterator[World]:
    """One that may go, one with a finding, one that has not begun."""
    made = World(valkey_url, tmp_path)
    made.begun("good")
    put(made.begun("bad"), "c#1")
    yield made
    for store in made.stores.values():
        store.close()


def migrations(world: World) -> tuple[MigrationConfig, ...]:
    return tuple(replace(LENIENT, name=world.name(one)) for one in ("good", "bad", "never"))


@pytest.fixture
def served(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(live_page, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(live_page, "REST_FACTOR", 0.0)
    pages = live_page.pages(ProcessConfig(redis_url=world.url), migrations(world))
    server = metrics.serve("127.0.0.1", 0, CollectorRegistry(), lambda: (True, "fine"), pages)
    yield f"http://127.0.0.1:{server.port}"
    server.close()


def test_the_overview_has_a_line_of_each_that_leads_to_its_page(served: str, world: World) -> None:
    status, headers, text = asked(f"{served}/")
    assert status == 200 and headers["Refresh"] == str(html.REFRESH_SECONDS)
    assert "default-src 'none'" in headers["Content-Security-Policy"] and "<script" not in text
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
    assert "3 migrations: 1 NO-GO, 1 CANNOT BE READ, 1 GO." in text
    links = re.findall(r'<a href="(/m/[^"]+)"', text)
    assert links == [f"/m/{world.name(one)}" for one in ("bad", "never", "good")]
    assert "the migration has not begun yet" in text
    told = {link: asked(served + link) for link in links}
    assert [status for status, _, _ in told.values()] == [200, 503, 200]
    bad = told[f"/m/{world.name('bad')}"]
    assert "1 finding open" in bad[2] and '<a href="/">every migration</a>' in bad[2]
    assert f'href="/m/{world.name("bad")}?still"' in bad[2] and bad[1]["Refresh"]
    assert asked(f"{served}/m/else")[0] == 404
    assert asked(f"{served}/?still")[1]["Refresh"] is None


def test_the_facts_of_all_and_of_each_are_served(served: str, world: World) -> None:
    status, headers, text = asked(f"{served}/report.json")
    kept = json.loads(text)
    said = kept.pop("sha256")
    assert (status, headers["Content-Type"], kept["result"]) == (200, "application/json", "failed")
    assert said == fingerprint(kept) and "facts" not in kept["migrations"][world.name("never")]
    alone = json.loads(asked(f"{served}/m/{world.name('bad')}/report.json")[2])
    assert alone["sha256"] == fingerprint(alone["facts"]) and alone["facts"]["migration"] == world.name("bad")


def test_whoever_asks_often_is_shown_what_was_read_a_moment_ago(world: World) -> None:
    page = live_page.pages(ProcessConfig(redis_url=world.url), migrations(world))["/"]
    first = page("").body
    put(world.stores["good"], "c#1")
    assert page("").body == first


def test_without_redis_the_overview_says_so_and_waits_for_it_once() -> None:
    away = ProcessConfig(redis_url=f"redis://127.0.0.1:{servers.free_port()}/0")
    pages = live_page.pages(away, tuple(MigrationConfig(name=f"m{number}") for number in range(30)))
    for path in ("/", "/report.json"):
        answer = pages[path]("")
        assert answer.status == 503 and b"cannot be reached" in answer.body


def test_the_overview_is_accessible_and_asks_for_nothing_else(served: str) -> None:
    with chromium() as browser:
        page = Page(browser, 380, 600)
        page.open(f"{served}/")
        assert page.accessibility() == [] and page.said == [] and page.requests == [f"{served}/"]
        assert page.evaluate("document.documentElement.scrollWidth") <= 380
        page.close()

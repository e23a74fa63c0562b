"""The report's page in a real browser: five states, two widths, light, dark, printed; names from outside."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.gate import Result
from pipeline.core.samples import TIERS_MS, Sample
from pipeline.report import cover, html
from pipeline.report.cover import cover_object
from pipeline.report.facts import Facts, facts_object, fingerprint
from tests.browser import Browser, Page, chromium
from tests.report_states import (
    HOSTILE,
    MAKER,
    NOON_MS,
    STATES,
    covers,
    facts_of,
    finding,
    healthy,
    hostile,
    thirty,
    with_ledger,
)
from tests.servers import ROOT, needed

WIDTHS = (1200, 380)
ALL = {**STATES, "hostile": hostile}
COVERS = covers()
EVERY = {
    **{name: html.page(facts()) for name, facts in ALL.items()},
    **{f"cover-{name}": html.cover_page(one) for name, one in COVERS.items()},
    "overview": html.overview_page(
        COVERS["thirty"].standings, NOON_MS, MAKER, {one: f"/m/{one}" for one in thirty()}, refreshed=True
    ),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file for each state, and for reports of many."""
    folder = tmp_path_factory.mktemp("pages")
    written = {}
    for name, text in EVERY.items():
        written[name] = folder / f"{name}.html"
        written[name].write_text(text, encoding="utf-8")
    return written


def opened(browser: Browser, file: Path, width: int = 1200, **how: Any) -> Page:
    page = Page(browser, width, 900, **how)
    page.open(file.as_uri())
    return page


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("state", EVERY)
def test_nothing_is_said_asked_for_or_out_of_reach(
    browser: Browser, pages: dict[str, Path], state: str, width: int, dark: bool
) -> None:
    """No console message, no request beyond the page, no rule of accessibility broken, nothing cut off."""
    page = opened(browser, pages[state], width, dark=dark)
    try:
        assert page.requests == [pages[state].as_uri()]
        assert page.said == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("getComputedStyle(document.querySelector('.answer')).borderTopWidth") == "3px"
        assert page.evaluate("document.scripts.length") == 0
        assert page.accessibility() == []
    finally:
        page.close()


@pytest.mark.parametrize("state", EVERY)
def test_it_prints_in_black_and_cuts_nothing_off(
    browser: Browser, pages: dict[str, Path], state: str
) -> None:
    page = opened(browser, pages[state], 800, media="print")
    try:
        colours = page.evaluate(
            "JSON.stringify([...document.querySelectorAll('td,li,p')].map(e => getComputedStyle(e).color))"
        )
        assert set(json.loads(colours)) <= {"rgb(0, 0, 0)", "rgb(51, 51, 51)"}
        assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
        assert page.pdf().startswith(b"%PDF")
    finally:
        page.close()


def test_every_state_is_valid_html(pages: dict[str, Path]) -> None:
    """By the W3C's own checker; it warns of the style, whose hash it does not work out."""
    jar = next((ROOT / ".tools" / "vnu-jar").glob("build/**/vnu.jar"), None)
    checker = needed("vnu-jar", jar, ".ci/run shows how to unpack it into .tools")
    done = subprocess.run(
        ("java", "-jar", checker, "--format", "json", "--stdout", *map(str, pages.values())),
        capture_output=True,
        check=False,
        timeout=120,
    )
    messages = json.loads(done.stdout)["messages"]
    assert [one for one in messages if "Inline style violates" not in one["message"]] == []


@pytest.mark.parametrize(
    ("state", "answer", "said"),
    [
        ("healthy", "GO", "Every check passes."),
        ("lagging", "NO-GO", "280 s old"),
        ("one-bad-item", "NO-GO", "open findings: 1 different"),
        ("gap", "NO-GO", "losses of stream records: 1"),
        ("nothing-compared", "TOO EARLY TO SAY", "no key was compared yet"),
    ],
)
def test_each_state_gives_its_answer_and_the_reason_first(state: str, answer: str, said: str) -> None:
    text = html.page(STATES[state]())
    assert re.search(r'<strong class="answer \w+">([^<]+)<', text)[1] == answer  # type: ignore[index]
    why = text[text.index('id="h-why"') : text.index("<table>")]
    assert said in why


def test_the_page_shows_the_fingerprint_of_its_facts() -> None:
    facts = STATES["gap"]()
    assert fingerprint(facts_object(facts)) in html.page(facts)
    other = STATES["healthy"]()
    assert fingerprint(facts_object(facts)) != fingerprint(facts_object(other))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_kind_is_never_broken_into_two_lines(browser: Browser, tmp_path: Path, width: int) -> None:
    """Beside paths and prefixes that take all the room they are given."""
    paths = ["address.city", "address.floor", "avatar", "balance", "name", "orders[]", "active"]
    found = [
        finding(f"{prefix}#{n}", attributes=paths, first_seen_ms=NOON_MS - n * 600_000)
        for n, prefix in enumerate(("3bda6586af1e14de", "a0c77f5dff4e87e4"))
    ]
    bad = with_ledger(healthy(), reached=299_898, alarmed=2, open={"different": 2})
    file = tmp_path / "page.html"
    file.write_text(html.page(facts_of(bad, found)), encoding="utf-8")
    page = opened(browser, file, width)
    try:
        lines = page.evaluate(
            "[...document.querySelectorAll('#findings td')].filter(e => e.textContent === 'different')"
            ".map(e => { const r = document.createRange(); r.selectNodeContents(e);"
            " return r.getClientRects().length })"
        )
        assert lines and set(lines) == {1}
    finally:
        page.close()


# --- many migrations ---------------------------------------------------------------------------------------


def test_the_cover_has_a_line_for_each_migration_that_leads_to_its_section(
    browser: Browser, pages: dict[str, Path]
) -> None:
    page = opened(browser, pages["cover-thirty"])
    try:
        rows = page.evaluate(
            "[...document.querySelectorAll('#migrations tbody tr')].map(r => "
            "[...r.cells].map(c => c.innerText.trim()))"
        )
        standings = {one.migration: one for one in COVERS["thirty"].standings}
        assert {row[0]: row[1] for row in rows} == {name: one.answer for name, one in standings.items()}
        assert [row[1] for row in rows[:8]] == [
            *["NO-GO"] * 4,
            *["CANNOT BE READ"] * 2,
            "TOO EARLY TO SAY",
            "GO",
        ]
        led = page.evaluate(
            "[...document.querySelectorAll('#migrations tbody a')].map(a => "
            "[a.innerText, document.querySelector(a.getAttribute('href') + ' h2').innerText])"
        )
        assert len(led) == 30 and all(name == heading for name, heading in led)
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(ids) == len(set(ids))
    finally:
        page.close()


@pytest.mark.parametrize(
    ("name", "answer"), [("thirty", "NO-GO"), ("all-go", "GO"), ("none-read", "TOO EARLY TO SAY")]
)
def test_the_whole_answer_stands_first(name: str, answer: str) -> None:
    text = EVERY[f"cover-{name}"]
    assert re.search(r'<strong class="answer \w+">([^<]+)<', text)[1] == answer  # type: ignore[index]
    assert fingerprint(cover_object(COVERS[name])) in text
    for chapter in COVERS[name].migrations.values():
        assert chapter.sha256 in text
        assert chapter.facts is None or chapter.sha256 == fingerprint(facts_object(chapter.facts))


def test_each_migration_of_a_printed_report_begins_on_a_page_of_its_own(
    browser: Browser, pages: dict[str, Path]
) -> None:
    page = opened(browser, pages["cover-all-go"], 800, media="print")
    try:
        assert page.evaluate("getComputedStyle(document.querySelector('article')).breakBefore") == "page"
    finally:
        page.close()


def test_why_a_migration_cannot_be_read_is_text(browser: Browser, pages: dict[str, Path]) -> None:
    text = EVERY["cover-none-read"]
    assert "<script" not in text and "<img" not in text and "\u202e" not in text
    page = opened(browser, pages["cover-none-read"])
    try:
        shown = page.evaluate("document.body.innerText")
        assert HOSTILE[0] in shown and HOSTILE[1] in shown
        assert page.evaluate("document.images.length + document.scripts.length") == 0
    finally:
        page.close()


# --- names from outside, and very many ---------------------------------------------------------------------


def test_names_from_outside_are_shown_as_text(browser: Browser, pages: dict[str, Path]) -> None:
    text = pages["hostile"].read_text(encoding="utf-8")
    assert "<script" not in text and "<img" not in text and "\x1b" not in text and "\u202e" not in text
    page = opened(browser, pages["hostile"])
    try:
        shown = page.evaluate("document.body.innerText")
        for name in (HOSTILE[0], HOSTILE[1], HOSTILE[2], "💥👩", "\\u202e gnp.exe", "\\x1b[2J"):
            assert name in shown
        assert page.evaluate("document.images.length + document.scripts.length") == 0
    finally:
        page.close()


def test_a_hundred_thousand_findings_make_a_page_of_bounded_size() -> None:
    kinds = {"different": 100_000}
    figures = with_ledger(healthy(), reached=199_900, alarmed=100_000, open=kinds)
    many = [finding(f"c#{number}", attributes=[f"attribute{number % 300}"]) for number in range(100_000)]
    facts: Facts = facts_of(figures, many)
    assert facts.findings.total == 100_000 and facts.result is Result.FAILED
    assert len(html.page(facts).encode()) < 5_000_000


def test_thirty_migrations_of_ninety_days_make_a_page_of_bounded_size() -> None:
    at_ms, row = NOON_MS, []
    for width_ms, kept_ms in TIERS_MS:
        for _ in range(kept_ms // width_ms):
            at_ms -= width_ms
            row.append(Sample(at_ms, wrong=0.001, lag_p50=1.5, lag_p99=at_ms % 7, reader=1.0, compared=0.5))
    facts = facts_of(healthy(), history=row[::-1])
    made = cover.make({f"table-{number}": facts for number in range(30)}, MAKER)
    assert len(html.cover_page(made).encode()) < 5_000_000

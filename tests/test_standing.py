"""Where many migrations stand: the whole answer of them, by its properties, and their order."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.budget import Lowered, at
from pipeline.core.comparing.state import CompareSettings
from pipeline.core.gate import DEFAULT_LIMITS, Result, overall
from pipeline.report import cover, html
from pipeline.report.overview_text import gate_lines, status_lines
from pipeline.report.standing import (
    Problem,
    Standing,
    counted,
    coverage_text,
    of_facts,
    of_figures,
    unread,
    whole_answer,
    worst_first,
)
from pipeline.report.watch_overview import overview
from tests.report_states import MAKER, PROBLEMS, STATES, facts_of, healthy, nothing, with_ledger

RANK = [Result.FAILED, Result.INCONCLUSIVE, Result.PASSED]
ONES = st.builds(
    lambda name, result, is_unread, wrong: (
        unread(name, Problem("gone")) if is_unread else Standing(migration=name, result=result, open=wrong)
    ),
    st.text("abc", min_size=1, max_size=3),
    st.sampled_from(Result),
    st.booleans(),
    st.none() | st.integers(0, 9),
)


@given(st.lists(ONES, min_size=1))
def test_it_is_a_go_only_where_every_one_is_and_is_read(standings: list[Standing]) -> None:
    every = all(one.result is Result.PASSED and one.problem is None for one in standings)
    assert (whole_answer(standings) is Result.PASSED) == every


@given(st.lists(ONES), ONES)
def test_no_migration_and_no_bad_news_make_the_answer_better(
    standings: list[Standing], more: Standing
) -> None:
    """One more, or one that gets worse, never turns a no-go into a go."""
    if standings:
        assert RANK.index(whole_answer([*standings, more])) <= RANK.index(whole_answer(standings))
    for position, one in enumerate(standings):
        for worse in RANK[: RANK.index(one.result)]:
            changed = [*standings]
            changed[position] = msgspec.structs.replace(one, result=worse)
            assert RANK.index(whole_answer(changed)) <= RANK.index(whole_answer(standings))


def test_of_none_nothing_can_be_told() -> None:
    assert whole_answer([]) is overall([]) is Result.INCONCLUSIVE
    assert counted([]) == "no migration"


def test_a_no_go_beats_what_cannot_be_told_in_any_order() -> None:
    for order in itertools.permutations(Result):
        assert overall(order) is Result.FAILED
    assert overall([Result.PASSED, Result.INCONCLUSIVE, Result.PASSED]) is Result.INCONCLUSIVE


@given(st.lists(ONES))
def test_the_worst_come_first_and_nobody_is_lost(standings: list[Standing]) -> None:
    ranked = worst_first(standings)
    assert sorted(map(repr, ranked)) == sorted(map(repr, standings))
    ranks = [RANK.index(one.result) for one in ranked]
    assert ranks == sorted(ranks)


def test_one_that_cannot_be_read_is_inconclusive_with_its_reason_and_hides_none() -> None:
    standings = [unread(name, problem) for name, problem in PROBLEMS.items()]
    standings += [of_facts(STATES["one-bad-item"]()), of_facts(STATES["healthy"]())]
    assert counted(standings) == "4 migrations: 1 NO-GO, 2 CANNOT BE READ, 1 GO"
    assert [one.reasons for one in standings[:1]] == [
        ["there is no migration gone in this Redis: begin it with `run`"]
    ]


@pytest.mark.parametrize(
    "figures", [healthy(), nothing(), with_ledger(healthy(), open={"stale": 2}, alarmed=2)]
)
def test_figures_and_the_facts_made_of_them_say_the_same(figures) -> None:

    assert of_figures("orders", figures, DEFAULT_LIMITS) == of_facts(facts_of(figures))


def test_one_that_has_not_begun_is_no_no_go() -> None:
    """Nobody reads it, and nothing was ever read of it: that is not known to be wrong."""
    one = of_figures("orders", msgspec.structs.replace(nothing(), has_begun=False), DEFAULT_LIMITS)
    assert (one.answer, one.result, one.open) == ("CANNOT BE READ", Result.INCONCLUSIVE, None)


def test_lines_without_an_answer_say_everything_else() -> None:
    standings = [of_facts(STATES["one-bad-item"]()), unread("gone", PROBLEMS["gone"])]
    with_answer, without = (list(status_lines(standings, answered=said)) for said in (True, False))
    assert "NO-GO" in with_answer[1] and "1 NO-GO" in with_answer[-1]
    assert not any("NO-GO" in line or "ANSWER" in line for line in without)
    assert without[1].split()[:1] == ["orders"] and "there is no migration gone" in without[3]


def test_what_is_not_covered_is_said_once_with_those_that_it_is_said_of() -> None:
    names = ("a", "b", "c", "d", "e")
    standings = [Standing(migration=name, result=Result.PASSED) for name in names]
    unknowns = {name: ["of all", *(["of most"] if name != "e" else []), f"of {name}"] for name in names}
    lines = list(gate_lines(standings, unknowns))
    assert "  - of all" in lines and "  - a, b, c and 1 more: of most" in lines and "  - b: of b" in lines
    assert not any("cover" in line for line in gate_lines(standings, {}))


def test_a_lowered_sample_is_said_in_every_overview() -> None:
    """Beside a GO as well: so many fewer keys speak for it."""
    figures = healthy()
    since_ms = figures.now_ms - 1_200_000
    lowered = msgspec.structs.replace(figures, lowered=Lowered(25, since_ms, 1.0, 3.0, 25, since_ms))
    one = of_figures("orders", lowered, DEFAULT_LIMITS)
    assert one == of_facts(facts_of(lowered))
    said = f"25 % of the keys are followed since {at(since_ms)}, not 100 %"
    standings = [one, of_figures("other", figures, DEFAULT_LIMITS)]
    for lines in (
        [*status_lines(standings)],
        [line.text for line in overview(standings, None, "", 0, 20)],
    ):
        text = " ".join(" ".join(lines).split())
        assert text.count(said) == 1 and "(a lowered sample: 1)" in text
    assert "(a lowered sample: 1)" in " ".join(line.text for line in overview(standings, None, "", 0, 2))
    assert said in html.cover_page(
        cover.make({"orders": facts_of(lowered), "other": facts_of(figures)}, MAKER)
    )


def test_coverage_is_of_the_whole_table_and_never_rounded_up() -> None:
    comparison = healthy().comparison
    assert comparison is not None and comparison.coverage == 1
    sample = CompareSettings(table_bytes=0, segments=1_000, sample_percent=10)
    half = msgspec.structs.replace(comparison, settings=sample, planned=100, done=50)
    assert half.coverage == pytest.approx(0.05)
    assert [coverage_text(share) for share in (1, 0.99999, 0.1, 0.0349)] == [
        "100 %",
        "99.9 %",
        "10 %",
        "3.4 %",
    ]

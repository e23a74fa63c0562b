"""The outlook: up to when all is settled, when enough is known; and that what cannot be told is not told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.gate import Limits, keys_needed
from pipeline.core.judging.history import History
from pipeline.core.ledger import Queue, ReaderState
from pipeline.core.model import ABSENT, Phase
from pipeline.core.outlook import Unsettled, outlook, verified_up_to
from pipeline.core.samples import Sample
from tests.core.test_gate import NOW, figures, ledger

A, B, C = (bytes([n]) * 16 for n in (1, 2, 3))
NONE_LEFT = Unsettled(None, complete=True)
LIMITS = Limits(objective=0.999)


@given(st.integers(NOW - 10**6, NOW), st.none() | st.integers(NOW - 10**6, NOW))
def test_verified_is_never_later_than_the_watermark_or_what_is_unsettled(
    watermark_ms: int, oldest_ms: int | None
) -> None:
    found = verified_up_to(
        figures(reader=ReaderState(watermark_ms, {}, 0, 1)), Unsettled(oldest_ms, complete=True)
    )
    assert found.at_ms == min(watermark_ms, NOW if oldest_ms is None else oldest_ms)


@pytest.mark.parametrize(
    ("changes", "unsettled", "why"),
    [
        ({"reader": ReaderState(0, {}, 0, 1)}, NONE_LEFT, "have not said"),
        ({"reader": ReaderState(NOW, {}, 1, 1)}, NONE_LEFT, "lost"),
        ({"queue": Queue(0, 0, 0, 0, 1)}, NONE_LEFT, "given up"),
        ({}, Unsettled(None, complete=False), "too many keys"),
    ],
)
def test_what_cannot_be_verified_has_no_instant(
    changes: dict[str, object], unsettled: Unsettled, why: str
) -> None:
    found = verified_up_to(figures(**changes), unsettled)
    assert found.at_ms is None and why in found.why


@pytest.mark.parametrize(
    ("history", "oldest"),
    [
        (History(((ABSENT, 0), (A, 5), (B, 9)), 1), 5),
        (History(((ABSENT, 0), (A, 5)), 2, Phase.SETTLING), 5),
        (History(((ABSENT, 0), (A, 5)), 1, Phase.ALARMED, alarmed=1), None),
        (History(((ABSENT, 0), (A, 5), (B, 9)), 1, Phase.ALARMED, alarmed=1), 9),
        (History(((ABSENT, 0), (A, 5), (C, 9)), 1, Phase.ALARMED, alarmed=4, skipped=3), 9),
        (History(((ABSENT, 0), (A, 5)), 1, Phase.EXCUSED, excused=1), None),
    ],
)
def test_findings_and_excuses_are_answers_and_a_settling_look_is_not(
    history: History, oldest: int | None
) -> None:
    assert history.oldest_unsettled_ms == oldest


def test_enough_keys_come_at_the_rate_of_the_last_minutes() -> None:
    few = figures(ledger=ledger(keys_judged=1_000))
    since = Sample(NOW - 600_000, keys=400)
    expected = NOW + (keys_needed(0.999, 0.95) - 1_000) * 1_000
    assert outlook(few, [since], LIMITS, NONE_LEFT).enough_keys.at_ms == expected
    assert outlook(few, [], LIMITS, NONE_LEFT).enough_keys.at_ms is None
    assert outlook(few, [Sample(NOW - 600_000, keys=1_000)], LIMITS, NONE_LEFT).enough_keys.at_ms is None
    wrong = figures(ledger=ledger(keys_judged=1_000, open={"missing": 1}))
    assert outlook(wrong, [since], LIMITS, NONE_LEFT).enough_keys.why == "findings are open"
    never = outlook(few, [since], Limits(objective=1), NONE_LEFT).enough_keys
    assert never.at_ms is None and "no sample" in never.why


def test_the_backlog_is_empty_when_it_shrinks_as_it_did() -> None:
    waiting = figures(queue=Queue(500, 0, 0, 0, 0))
    since = Sample(NOW - 100_000, backlog=1_500)
    assert outlook(waiting, [since], LIMITS, NONE_LEFT).backlog_empty.at_ms == NOW + 50_000
    growing = Sample(NOW - 100_000, backlog=100)
    assert outlook(waiting, [growing], LIMITS, NONE_LEFT).backlog_empty.at_ms is None
    assert outlook(figures(), [], LIMITS, NONE_LEFT).backlog_empty.at_ms == NOW

"""What an answer does not cover: everything that keeps it from covering all is said, and nothing else."""

import msgspec
import pytest

from pipeline.core.figures import Figures
from pipeline.core.gate import Limits, Scope
from pipeline.core.ledger import ReaderState
from pipeline.core.unknowns import keys_in_words, unknowns
from tests.core.test_gate import compared, figures, ledger

ALL = {"verify_on": "target", "sample_rate": "100.0", "iterator_type": "TRIM_HORIZON"}
WHOLE, CHANGES = Limits(), Limits(scope=Scope.CHANGES)


def test_only_the_direction_is_left_where_all_was_compared() -> None:
    [only] = unknowns(figures(), ALL, WHOLE)
    assert "written to the target alone" in only and "makes up" not in only


@pytest.mark.parametrize(
    ("of", "settings", "limits", "said"),
    [
        (figures(), ALL | {"verify_on": "source"}, WHOLE, "never reached the target leaves no record"),
        (figures(), ALL, CHANGES, "--gate-scope changes"),
        (figures(comparison=None), ALL, WHOLE, "`compare` does that"),
        (figures(comparison=None), ALL, WHOLE, "no comparison of the whole table makes up for it"),
        (figures(comparison=compared(done=1, finished_ms=None)), ALL, WHOLE, "proves nothing yet"),
        (figures(), ALL | {"sample_rate": "5.0"}, WHOLE, "5 % of the keys are followed"),
        (figures(comparison=compared(percent=10)), ALL, WHOLE, "10 % of the segments"),
        (figures(), ALL | {"ignore_attributes": "a,b"}, WHOLE, "not compared: a, b"),
        (figures(), ALL | {"iterator_type": "LATEST"}, WHOLE, "before the watch began"),
        (figures(ledger=ledger(excused=3)), ALL, WHOLE, "neither right nor wrong: 3"),
        (figures(ledger=ledger(indeterminate=4)), ALL, WHOLE, "could not be decided: 4"),
        (figures(ledger=ledger(suspects_indeterminate=5)), ALL, WHOLE, "never stood still, not decided: 5"),
        (figures(ledger=ledger(outstanding=6)), ALL, WHOLE, "no answer yet: 6"),
        (figures(reader=ReaderState(1, {}, 7, 1)), ALL, WHOLE, "losses of stream records: 7"),
    ],
)
def test_each_limit_is_said(of: Figures, settings: dict[str, str], limits: Limits, said: str) -> None:
    assert any(said in one for one in unknowns(of, settings, limits))


def test_keys_given_up_are_said() -> None:
    buried = msgspec.structs.replace(figures(), queue=msgspec.structs.replace(figures().queue, dead=8))
    assert any("given up without a verdict: 8" in one for one in unknowns(buried, ALL, WHOLE))


def test_keys_seen_and_keys_compared_stand_together_with_the_difference() -> None:
    under_way = msgspec.structs.replace(figures().queue, outstanding=7)
    some = figures(
        ledger=ledger(keys_judged=90, keys_sampled=100, excused=2, suspects_published=3), queue=under_way
    )
    said = keys_in_words(some)
    for part in (
        "100 keys were seen",
        "90 of them",
        "2 are excused",
        "7 are under way",
        "3 came from a",
    ):
        assert part in said
    assert keys_in_words(figures()).endswith("have an answer")

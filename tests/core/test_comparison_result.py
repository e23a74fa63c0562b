"""What a comparison comes to: nothing compared is no pass, a sample says what it counts, costs are known."""

import msgspec
import pytest

from pipeline.core.comparing.result import Answer, Share, answer, estimate, success, unproven
from pipeline.core.comparing.state import CompareSettings, Comparison, ExportSeen, Tally
from pipeline.core.figures import Figures
from pipeline.core.ledger import Ledger, Queue, ReaderState
from pipeline.core.model import Side
from pipeline.core.statistics import exact_interval

FINE = Tally(equal=90, different=10, source_items=100, target_items=100, covered_both=4, partition_keys=100)


def comparison(percent: float = 100, **changes: object) -> Comparison:
    settings = CompareSettings(table_bytes=0, sample_percent=percent, segments=100)
    planned = len(settings.plan().segments)
    fine = Comparison("c", settings, planned, planned, 1, 2, FINE)
    return msgspec.structs.replace(fine, **changes)


def figures(**changes: object) -> Figures:
    ledger = Ledger(**changes)  # type: ignore[arg-type]
    return Figures(
        now_ms=3,
        started_ms=0,
        ledger=ledger,
        queue=Queue(0, 0, 0, 0, 0),
        reader=ReaderState(0, {}, 0, 0),
        lag_counts=[],
        oldest_waiting_ms=None,
    )


def test_a_finished_comparison_without_findings_says_equal() -> None:
    assert answer(comparison(), figures()) == (Answer.EQUAL, "")


def test_findings_come_before_all_else() -> None:
    found = answer(comparison(done=3, finished_ms=None), figures(open={"missing": 2}))
    assert found == (Answer.FINDINGS, "open findings: 2; 3 of 100 segments were read")
    assert answer(comparison(), figures(open={"missing": 2})) == (Answer.FINDINGS, "open findings: 2")


@pytest.mark.parametrize(
    ("of", "then", "says"),
    [
        (comparison(done=3), {}, "3 of 100 segments were read"),
        (comparison(finished_ms=None), {"suspects_waiting": 5}, "suspects without an answer: 5"),
        (comparison(tally=Tally()), {}, "both tables are empty: nothing was compared"),
        (comparison(tally=Tally(equal=1, source_items=2, target_items=1)), {}, "2 items of the source ≠"),
        (comparison(), {"records_read": 1}, "the accounting identity does not hold"),
        (comparison(indeterminate_before=2), {"suspects_indeterminate": 3}, "never stood still: 1"),
    ],
)
def test_what_proves_nothing_is_inconclusive_and_says_why(
    of: Comparison, then: dict[str, int], says: str
) -> None:
    assert says in unproven(of, figures(**then))
    assert answer(of, figures(**then))[0] is Answer.INCONCLUSIVE


def test_the_coverage_identity_holds_of_each_side() -> None:
    assert (FINE.imbalance, FINE.suspects, FINE.covered, FINE.keys) == ("", 6, 4, 100)
    more_covered = msgspec.structs.replace(FINE, covered_both=11)
    assert "items of the source" in more_covered.imbalance


def test_of_a_whole_table_the_share_is_exact_and_of_a_sample_it_is_an_interval() -> None:
    five = figures(open={"missing": 5})
    assert success(comparison(), five) == Share(0.95, 0.95, 1.0, "key")
    sample = success(comparison(percent=50), five, 3)
    assert sample is not None and sample.low < 0.97 < sample.high
    assert sample.by_partition_key == exact_interval(97, 100)
    assert sample.unit == "partition key"
    assert success(comparison(tally=Tally()), figures()) is None


def test_the_interval_of_a_sample_holds_where_differences_lie_together() -> None:
    """An import lost one file of a hundred: 1 % of the table, all of it in one segment that was not read."""
    read = Tally(equal=90_000, source_items=90_000, target_items=90_000, partition_keys=90_000)
    sample = success(comparison(percent=50, tally=read), figures())
    assert sample is not None and sample.by_partition_key is not None
    assert sample.low < 0.99 < sample.by_partition_key[0]
    assert sample.by_segment == exact_interval(50, 50)
    # And where the one that was read is the one that lacks it, the others may all be whole.
    lost = success(comparison(percent=50, tally=read), figures(open={"missing": 9_000}), 9_000)
    assert lost is not None and lost.low < 0.99 < lost.high


def test_more_findings_than_keys_of_a_sample_are_no_error() -> None:
    few = Tally(equal=2, source_items=2, target_items=2, partition_keys=2)
    sample = success(comparison(percent=50, tally=few), figures(open={"missing": 900}))
    assert sample is not None and sample.low == 0


def test_what_is_not_read_to_its_end_has_no_share() -> None:
    """Its segments were not chosen by chance, and "100 %" of a tenth of a table is no answer."""
    assert success(comparison(done=10, finished_ms=None), figures()) is None


def test_what_has_no_answer_may_be_wrong() -> None:
    unknown = figures(suspects_waiting=4, suspects_indeterminate=1)
    assert success(comparison(), unknown) == Share(0.95, 1.0, 1.0, "key")
    sample = success(comparison(percent=50), unknown)
    assert sample is not None and sample.by_partition_key is not None
    assert sample.by_partition_key[0] == exact_interval(95, 100)[0]


def test_a_key_that_changed_on_both_sides_makes_no_share_look_better() -> None:
    """Three keys changed at the source, four at the target; two of them may be the same ones."""
    window = ExportSeen("/there", None, "abc", 1, 4, 1, to_ms=2, from_ms=1)
    settings = CompareSettings(0, source_export=window, target_export=window)
    tally = Tally(source_only=3, target_only=4, source_items=3, target_items=4)
    found = comparison(settings=settings, planned=2, done=2, tally=tally)
    share = success(found, figures(open={"missing": 3}))
    assert share == Share(1 / 4, 4 / 7, 1.0, "changed key")


def test_costs_are_those_of_both_sides_and_fall_with_the_sample() -> None:
    gigabyte = 2**30
    sizes = dict.fromkeys(Side, (1_000, gigabyte))
    whole = estimate(CompareSettings(gigabyte), sizes, max_rcu=100)
    assert whole.units == pytest.approx(2 * gigabyte / 8_192 + 43, rel=0.01)
    assert whole.dollars == pytest.approx(whole.units * 0.125 / 1e6)
    assert whole.seconds == pytest.approx(whole.units / 2 / 90)
    tenth = estimate(CompareSettings(gigabyte, 10), sizes, max_rcu=0)
    assert tenth.units < whole.units / 5 and tenth.seconds is None


def test_units_are_counted_in_halves() -> None:
    tally = Tally(half_units_source=3, half_units_target=1)
    assert (tally.units(Side.SOURCE), tally.units(Side.TARGET)) == (1.5, 0.5)

"""What figures and findings look like to a person and to a script."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pipeline.core.causes import cause_id
from pipeline.core.differing import CUT
from pipeline.core.figures import Figures
from pipeline.core.ledger import Finding, Ledger, PartitionCounts, Queue, ReaderState
from pipeline.core.model import Side, VerdictKind
from pipeline.core.statistics import LAG_BUCKETS_SECONDS
from pipeline.report.columns import ROWS_MEASURED
from pipeline.report.findings_text import Listed, csv_line, finding_object, findings_table, json_line
from pipeline.report.text import (
    Heading,
    gate_text,
    notes,
    statistics_fields,
    statistics_text,
    status_object,
    status_text,
)
from pipeline.report.words import span
from tests.report_states import STATES

GOLDEN = Path(__file__).parent / "golden"
#: 2026-11-23T12:00:00Z
NOON_MS = 1_795_435_200_000
ORDERS = Heading("orders", Side.TARGET)


def lags(**seconds: int) -> list[int]:
    """lags(s2=10): ten lags in the bucket that ends at 2 s."""
    counts = [0] * (len(LAG_BUCKETS_SECONDS) + 1)
    for bound, count in seconds.items():
        counts[LAG_BUCKETS_SECONDS.index(float(bound[1:]))] = count
    return counts


def running() -> Figures:
    """Five and a half minutes into a migration with two kinds of findings."""
    ledger = Ledger(
        records_read=12_300,
        records_repeated=45,
        records={"INSERT": 8_000, "MODIFY": 4_000, "REMOVE": 300},
        not_sampled=2_300,
        versions_published=10_000,
        reached=9_940,
        alarmed=4,
        expired=1,
        indeterminate=2,
        outstanding=53,
        matches=9_100,
        mismatches={"missing": 3, "stale": 1, "different": 0, "extra": 0},
        open={"missing": 2, "stale": 1, "different": 0, "extra": 0},
        keys_judged=1_020,
        keys_sampled=1_100,
    )
    return Figures(
        now_ms=NOON_MS + 330_000,
        started_ms=NOON_MS,
        ledger=ledger,
        queue=Queue(backlog=12, pending=5, outstanding=40, due=30, dead=0),
        reader=ReaderState(NOON_MS + 329_100, {"stream": PartitionCounts(4, 2)}, gaps=0, readers=1),
        lag_counts=lags(s1=900, s5=95, s60=5),
        oldest_waiting_ms=NOON_MS + 320_000,
        validators=2,
    )


def just_begun() -> Figures:
    return Figures(
        now_ms=NOON_MS + 1_000,
        started_ms=NOON_MS,
        ledger=Ledger.from_fields({}, 0, 0),
        queue=Queue(0, 0, 0, 0, 0),
        reader=ReaderState(0, {}, gaps=0, readers=1),
        lag_counts=lags(),
        oldest_waiting_ms=None,
        validators=2,
    )


def troubled() -> Figures:
    """Everything that a note is made for, at once."""
    before = running()
    ledger = msgspec.structs.replace(before.ledger, reached=9_939, dead=0)
    return msgspec.structs.replace(
        before,
        ledger=ledger,
        queue=Queue(backlog=0, pending=0, outstanding=0, due=0, dead=2),
        reader=ReaderState(NOON_MS - 20 * 3_600_000, {"stream": PartitionCounts(1)}, gaps=1, readers=0),
        validators=0,
        longest_due_ms=NOON_MS + 240_000,
    )


def finding(
    kind: VerdictKind = VerdictKind.STALE, attributes: tuple[str, ...] = ("address.city",)
) -> Finding:
    looked_ms, written_ms = NOON_MS + 61_500, NOON_MS - 60_000
    return Finding(b'"user#1"', kind, 2, list(attributes), NOON_MS, looked_ms, oldest_change_ms=written_ms)


# --- golden texts: tests/golden holds what an operator sees, word by word ---


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("statistics", statistics_text(running(), None)),
        ("statistics-just-begun", statistics_text(just_begun(), None)),
        ("status", status_text(ORDERS, running())),
        ("status-just-begun", status_text(ORDERS, just_begun())),
        ("status-troubled", status_text(Heading("orders", Side.SOURCE), troubled())),
        (
            "findings",
            "\n".join(
                findings_table(
                    [
                        Listed(finding(), "9f2c4e"),
                        Listed(finding(VerdictKind.MISSING, ()), '{"pk":{"S":"a long key"}}'),
                    ]
                )
            ),
        ),
        ("findings-none", "\n".join(findings_table([]))),
    ],
)
def test_console_text_is_as_agreed(name: str, text: str) -> None:
    assert text + "\n" == (GOLDEN / f"{name}.txt").read_text()


# --- honesty -----------------------------------------------------------------------------------------------


def test_nothing_compared_is_never_shown_as_a_percentage() -> None:
    assert "%" not in statistics_text(just_begun(), None)
    assert status_object(ORDERS, just_begun())["success"]["ratio"] is None
    assert statistics_fields(just_begun(), None)["success_ratio"] is None


def test_a_rate_below_one_is_never_rounded_up_to_100_percent() -> None:
    ledger = msgspec.structs.replace(running().ledger, keys_judged=10_000_000)
    text = statistics_text(msgspec.structs.replace(running(), ledger=ledger), None)
    assert "99.99 % of" in text
    assert "100 %" not in text


def test_more_findings_than_the_estimated_number_of_keys_is_a_rate_of_zero_not_below() -> None:
    ledger = msgspec.structs.replace(running().ledger, keys_judged=2)
    success = msgspec.structs.replace(running(), ledger=ledger).success
    assert (success.ratio, success.keys) == (0, 3)


@pytest.mark.parametrize(("excused", "said"), [(1, "; 1 key more excused"), (30, "; 30 keys more excused")])
def test_excused_keys_are_said_beside_the_success_rate_also_when_nothing_was_compared(
    excused: int, said: str
) -> None:
    for of in (running(), just_begun()):
        ledger = msgspec.structs.replace(of.ledger, excused=excused, expired=excused)
        figures = msgspec.structs.replace(of, ledger=ledger)
        for text in (status_text(ORDERS, figures), statistics_text(figures, None)):
            row = " ".join(text.split()).partition(" success ")[2].partition(" open ")[0]
            assert said in row
        assert status_object(ORDERS, figures)["success"]["excused"] == excused
        assert statistics_fields(figures, None)["keys_excused"] == excused


def test_lag_is_null_and_said_to_be_unmeasured_before_the_first_match() -> None:
    assert status_object(ORDERS, just_begun())["lag_seconds"] == {"p50": None, "p95": None, "p99": None}
    assert "no lag measured yet" in statistics_text(just_begun(), None)


def test_rates_are_since_the_previous_statistics() -> None:
    before = running()
    ledger = msgspec.structs.replace(before.ledger, records_read=12_900)
    after = msgspec.structs.replace(before, ledger=ledger, now_ms=before.now_ms + 30_000)
    assert statistics_fields(after, before)["records_per_second"] == 20


def test_an_unbalanced_ledger_is_said_and_a_balanced_one_is_not() -> None:
    assert any("accounting identity" in note for note in notes(ORDERS, troubled()))
    assert not any("accounting identity" in note for note in notes(ORDERS, running()))


def test_the_limits_of_following_the_target_are_said_only_there() -> None:
    assert any(
        "never reached the target" in note for note in notes(Heading("orders", Side.SOURCE), running())
    )
    assert notes(ORDERS, running()) == []


# --- JSON --------------------------------------------------------------------------------------------------


def test_status_json_has_the_agreed_fields() -> None:
    reported = json.loads(json.dumps(status_object(ORDERS, running())))
    terms = {"records_read", "not_sampled", "versions_published", "reached", "alarmed", "expired"}
    assert terms | {"indeterminate", "dead", "outstanding"} <= reported["ledger"].keys()
    assert reported["success"].keys() == {"ratio", "low", "high", "confidence", "keys", "excused"}
    assert reported["open"] == {"missing": 2, "stale": 1, "different": 0, "extra": 0}
    assert reported["lag_seconds"].keys() == {"p50", "p95", "p99"}
    assert reported["replication_delay_seconds"] == 10.0  # of the change that was not found; p99 is less
    assert reported["reader"] == {
        "lag_seconds": 0.9,
        "retention_headroom_seconds": 24 * 3600 - 0.9,
        "partitions": {"stream": {"open": 4, "finished": 2}},
        "gaps": 0,
        "gaps_open": 0,
        "gaps_closed": [],
    }
    queue = {"backlog": 12, "outstanding": 40, "due": 30, "dead": 0, "overdue_seconds": 0, "validators": 2}
    assert reported["queue"] == queue
    assert reported["balanced"] is True


def test_findings_json_is_one_line_with_instants_in_utc() -> None:
    line = json_line(finding_object(finding(), msgspec.Raw(b'{"pk":{"S":"user#1"}}')))
    assert "\n" not in line
    assert json.loads(line) == {
        "key": {"pk": {"S": "user#1"}},
        "kind": "stale",
        "versions_behind": 2,
        "attributes": ["address.city"],
        "attributes_cut": False,
        "types": {},
        "operation": None,
        "cause": cause_id(finding()),
        "oldest_change": "2026-11-23T11:59:00.000Z",
        "first_seen": "2026-11-23T12:00:00.000Z",
        "last_looked": "2026-11-23T12:01:01.500Z",
    }


@pytest.mark.parametrize("name", ["\x9b2J", "\x1b]0;x\x07", "\x7f", "\u202eno open findings", "a\u2028b"])
def test_an_attribute_s_name_moves_no_terminal(name: str) -> None:
    hostile = finding(attributes=(name,))
    shown = "\n".join(findings_table([Listed(hostile, '{"pk":{"S":"' + name + '"}}')]))
    assert len(shown.splitlines()) == 2
    assert all(line.isprintable() for line in shown.split("\n"))
    line = json_line(finding_object(hostile, {"pk": name}))
    assert line.isprintable()
    assert json.loads(line)["attributes"] == [name]
    assert json.loads(line)["key"] == {"pk": name}
    cells = finding_object(hostile, msgspec.Raw(msgspec.json.encode({"pk": name})))
    assert csv_line(cells.values()).isprintable()


def test_paths_that_were_cut_are_said_to_be() -> None:
    cut = finding(attributes=("a", "b", CUT))
    assert json.loads(json_line(finding_object(cut, "x")))["attributes"] == ["a", "b"]
    assert json.loads(json_line(finding_object(cut, "x")))["attributes_cut"] is True
    assert list(findings_table([Listed(cut, "x")]))[1].endswith("a, b, …")


def test_a_long_table_is_made_row_by_row() -> None:
    taken = 0

    def many() -> Iterator[Listed]:
        nonlocal taken
        for _ in range(3 * ROWS_MEASURED):
            taken += 1
            yield Listed(finding(), "9f2c4e")

    next(findings_table(many()))
    assert taken == ROWS_MEASURED


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (59, "59 s"), (61, "1 min 1 s"), (7_260, "2 h 1 min"), (3 * 86_400 + 7_200, "3 d 2 h")],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert span(seconds) == said


@pytest.mark.parametrize("state", STATES)
def test_the_gate_is_read_at_80_columns(state: str) -> None:
    """A reason is wrapped beside its check; nothing of it is lost."""
    facts = STATES[state]()
    text = gate_text(facts)
    assert max(map(len, text.splitlines())) <= 80
    told = " ".join(text.split())
    assert all(f"{one.result} {one.name} {' '.join(one.reason.split())}" in told for one in facts.checks)

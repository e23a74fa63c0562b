"""`python -m tests.drill`: run the drill, print its table. Exit code 1 when a fault was missed, an alarm
false, or the interval overstated.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pipeline.core.comparing.state import Comparison
from pipeline.core.model import MISMATCHES
from tests import servers
from tests.drill.interval import covered
from tests.drill.run import Report, drill
from tests.drill.scenarios import FULL, SMALL

_HEAD = (
    *("scenario", "changes", "faults", "planted", "found", "missed", "false", "opened"),
    *("detected after, p50 / p99", "reads per version", "took"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.drill", allow_abbrev=False)
    parser.add_argument("--small", action="store_true", help="what CI runs, a minute")
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    options = parser.parse_args()
    chosen = [one for one in (SMALL if options.small else FULL) if options.only in one.name]
    # No account is reachable from here, whatever this machine is logged in to.
    os.environ.update(
        AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_EC2_METADATA_DISABLED="true"
    )
    reports = []
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        print(_row(_HEAD), _row("---" for _ in _HEAD), sep="\n")
        with servers.redis_like(servers.valkey_binary(), directory / "valkey") as url:
            for scenario in chosen:
                reports.append(drill(scenario, url, directory))
                print(_row(_cells(reports[-1])), flush=True)
                if not reports[-1].perfect:
                    print(_wrong(reports[-1]), flush=True)
    print("", _row(("kind", "planted", "found", "missed", "false")), _row("---" for _ in range(5)), sep="\n")
    for kind in MISMATCHES:
        rows = [row for report in reports for row in report.score.rows() if row.kind == kind]
        sums = [
            sum(getattr(row, what) for row in rows) for what in ("planted", "found", "missed", "false_alarms")
        ]
        print(_row([str(kind), *(f"{count:,}" for count in sums)]))
    for report in reports:
        if report.comparison is not None:
            print(f"\n{_compared(report.scenario.name, report.comparison)}")
    repetitions = 100 if options.small else 1_000
    held = covered(range(repetitions))
    honest = held >= 0.95 * repetitions
    print(f"\nThe stated interval holds the true share in {held:,} of {repetitions:,} repetitions.")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    changes, took = (
        sum(report.scenario.changes for report in reports),
        sum(report.seconds for report in reports),
    )
    print(f"\n{changes:,} changes, {took / 60:.0f} min, {os.cpu_count()} cores, {pages / 2**30:.0f} GB")
    return 0 if all(report.perfect for report in reports) and honest else 1


def _cells(report: Report) -> list[str]:
    score, ledger = report.score, report.ledger
    waits = report.detection_ms
    detected = "–"
    if waits:
        detected = f"{waits[len(waits) // 2] / 1000:.1f} s / {waits[len(waits) * 99 // 100] / 1000:.1f} s"
    counts = (
        *(report.scenario.changes, report.faults, len(score.planted)),
        *(len(score.planted) - len(score.missed), len(score.missed)),
        *(len(score.false_alarms.keys() | score.groundless), report.opened),
    )
    reads = (ledger.reads + ledger.reads_strong) / max(1, ledger.versions_published)
    return [
        report.scenario.name,
        *(f"{n:,}" for n in counts),
        detected,
        f"{reads:.2f}",
        f"{report.seconds:.0f} s",
    ]


def _compared(name: str, found: Comparison) -> str:
    tally = found.tally
    seconds = ((found.finished_ms or found.started_ms) - found.started_ms) / 1000
    return (
        f"{name}: {tally.source_items:,} items with {tally.target_items:,}, {tally.equal:,} equal, "
        f"{tally.suspects:,} suspects, {tally.covered:,} covered, in {seconds:,.0f} s; "
        f"segments {found.done} of {found.planned}; {tally.imbalance or 'every item counted once'}"
    )


def _wrong(report: Report) -> str:
    score = report.score
    missed = {key: (kind, score.found.get(key)) for key, kind in score.missed.items()}
    alarms = {key: (score.planted.get(key), kind) for key, kind in score.false_alarms.items()}
    return (
        f"NOT RIGHT: missed {missed}, false {alarms}, groundless {sorted(score.groundless)}, {report.ledger}"
    )


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())

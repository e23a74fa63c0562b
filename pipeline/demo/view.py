"""What the demo shows while it runs, and its result: a live view on a terminal, plain lines elsewhere.

Reads: a Scene. Writes: the console. Never: the store. No item value is shown.
"""

import time
from dataclasses import dataclass, field
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from pipeline.core.figures import Figures
from pipeline.core.model import MISMATCHES
from pipeline.demo.score import Score

#: Without a terminal, a line this often, and at each new phase.
LINE_EVERY_SECONDS = 5.0


@dataclass
class Scene:
    """What there is to show now.

    remaining_seconds: estimated; done: 0 … 1 of the whole demo. divergent: keys by kind whose target differs
    at this moment, late changes included. faults: done so far, by name.
    """

    phase: str = "starting"
    done: float = 0.0
    remaining_seconds: float = 0.0
    changes: int = 0
    planned_changes: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    divergent: dict[str, int] = field(default_factory=dict)
    figures: Figures | None = None


@dataclass(frozen=True)
class Result:
    """What it came to. truth: the replicator's file. compared: `compare --json`. gate: result by check."""

    score: Score
    figures: Figures
    truth: dict[str, Any]
    compared: dict[str, Any]
    gate: dict[str, str]


class View:
    """Shows scenes until it is left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        )
        self._phase = ""
        self._said = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, scene: Scene) -> None:
        if self._live:
            self._live.update(_picture(scene), refresh=True)
        elif scene.phase != self._phase or time.monotonic() - self._said >= LINE_EVERY_SECONDS:
            self._said, self._phase = time.monotonic(), scene.phase
            self._console.print(_line(scene), highlight=False, soft_wrap=True)


def _line(scene: Scene) -> str:
    parts = [f"[{scene.done:4.0%}] {scene.phase}"]
    parts[0] = parts[0].replace("[", "\\[")  # else rich takes it for markup
    if scene.planned_changes:
        parts.append(f"changes {scene.changes:,} of {scene.planned_changes:,}")
    if scene.faults:
        parts.append(f"faults {sum(scene.faults.values())}, wrong now {sum(scene.divergent.values())}")
    if scene.figures:
        figures = scene.figures
        parts.append(
            f"judged {figures.ledger.keys_judged:,} keys, outstanding {figures.ledger.outstanding:,}, "
            f"open findings {figures.open_total}, "
            f"lag p50 {seconds(figures.lag.p50)} p99 {seconds(figures.lag.p99)}"
        )
    parts.append(f"about {scene.remaining_seconds:.0f} s left")
    return " · ".join(parts)


def _picture(scene: Scene) -> Group:
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(40),
        TaskProgressColumn(),
        TextColumn("{task.fields[eta]}"),
    )
    bar.add_task(
        scene.phase,
        total=100,
        completed=round(scene.done * 100),
        eta=f"about {scene.remaining_seconds:.0f} s left",
    )
    return Group(
        bar, _state(scene), _kinds(scene), Text("wrong now: changes that are only late included", "dim")
    )


def _state(scene: Scene) -> Text:
    faults = ", ".join(f"{name} {number}" for name, number in sorted(scene.faults.items())) or "none yet"
    lines = [f"changes written {scene.changes:,} of {scene.planned_changes:,}", f"faults done     {faults}"]
    if scene.figures:
        figures, lag = scene.figures, scene.figures.lag
        ledger = figures.ledger
        lines += [
            f"monitor         read {ledger.records_read:,}, keys judged {ledger.keys_judged:,}, "
            f"versions outstanding {ledger.outstanding:,}, reads {ledger.reads:,}",
            f"lag             p50 {seconds(lag.p50)}, p95 {seconds(lag.p95)}, p99 {seconds(lag.p99)}",
        ]
    return Text("\n".join(lines))


def _kinds(scene: Scene) -> Table:
    table = Table()
    table.add_column("kind")
    table.add_column("wrong now", justify="right")
    table.add_column("open findings", justify="right")
    found = scene.figures.ledger.open if scene.figures else {}
    for kind in MISMATCHES:
        table.add_row(str(kind), str(scene.divergent.get(kind, 0)), str(found.get(kind, 0)))
    return table


def seconds(value: float | None) -> str:
    """Seconds to a tenth; a dash where there is no figure."""
    return "–" if value is None else f"{value:.1f} s"


# --- the result ------------------------------------------------------------------------------------------


def show_result(console: Console, result: Result, elapsed_seconds: float) -> None:
    """The final table and what belongs to it."""
    score, figures, truth = result.score, result.figures, result.truth
    ledger, lag = figures.ledger, figures.lag
    carried = truth["lag_ms"]
    compared, checks = result.compared, result.gate
    lines = [
        f"keys     {ledger.keys_judged:,} judged, {ledger.recovered:,} findings recovered on the way",
        f"         accused though no fault was done to them and nothing was late: {len(score.groundless)}",
        f"lag      p50 {seconds(lag.p50)}, p99 {seconds(lag.p99)}: write to first matching look, with faults",
        f"         p50 {seconds(carried['p50'] / 1000)}, p99 {seconds(carried['p99'] / 1000)}: "
        "the replicator's own, without its faults",
        f"reads    {ledger.reads:,} of items for {ledger.versions_published:,} versions "
        f"({ledger.reads / max(ledger.versions_published, 1):.2f} each), "
        f"{ledger.reads_strong:,} of them strongly consistent",
        f"compared {compared['source']['items']:,} items with {compared['target']['items']:,}: "
        f"{compared['equal']:,} equal, {compared['suspects']:,} suspects, "
        f"{compared['covered']:,} that the stream covers",
        f"gate     whole table: {checks['whole-table']}, open findings: {checks['mismatches']}",
        f"ledger   {'every record is accounted for' if ledger.balanced else 'RECORDS ARE UNACCOUNTED FOR'}; "
        f"outstanding {ledger.outstanding:,}, gaps {figures.reader.gaps}, dead letters {figures.queue.dead}",
        f"took     {elapsed_seconds:.0f} s",
    ]
    wrong = [
        f"missed: {key} {kind}, found as {score.found.get(key, 'nothing')}"
        for key, kind in score.missed.items()
    ]
    wrong += [f"accused without reason: {key}" for key in sorted(score.groundless)]
    wrong += [
        f"false alarm: {key} {kind}" for key, kind in score.false_alarms.items() if key not in score.planted
    ]
    console.print(_score_table(result))
    console.print("\n".join([*lines, *wrong]), markup=False, highlight=False, soft_wrap=True)


def _score_table(result: Result) -> Table:
    """Changed keys are the stream's to find, cold ones the comparison's."""
    changed, changes = set(result.truth["changed"]), result.truth["changes"]
    title = f"planted against found: {changes:,} changes of {len(changed):,} keys, and the cold ones"
    table = Table(title=title, title_justify="left", show_footer=True)
    table.add_column("keys", footer="all")
    table.add_column("kind")
    rows = result.score.rows()
    for name in ("planted", "found", "missed", "false alarms"):
        total = sum(getattr(row, name.replace(" ", "_")) for row in rows)
        table.add_column(name, justify="right", footer=str(total))
    parts = {"changed": result.score.of(changed), "cold": result.score.of(changed, others=True)}
    for name, part in parts.items():
        # Which versions a cold item once had nobody knows: none is stale.
        for row in (row for row in part.rows() if name == "changed" or row.planted or row.found):
            table.add_row(name, row.kind, *map(str, (row.planted, row.found, row.missed, row.false_alarms)))
        table.add_section()
    return table

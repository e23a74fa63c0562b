"""`compare` of many migrations: one after the other, a heading each, and in the end a table of all.

Reads: nothing by itself. Writes: standard output, standard error. Never: AWS, the store. One that is refused,
or whose tables cannot be read, is named, and the next one is compared; a signal ends them all.
"""

import dataclasses
import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import msgspec

from pipeline import exit_codes
from pipeline.commands.comparison import Ended, Say
from pipeline.commands.several import worst
from pipeline.config import MigrationConfig, ProcessConfig, listed
from pipeline.errors import MonitorError
from pipeline.process import streams
from pipeline.report import comparison_text
from pipeline.report.columns import paragraph
from pipeline.report.findings_text import json_line

#: Makes the comparison of one migration. Raises MonitorError.
Compare = Callable[[ProcessConfig, MigrationConfig, Say], Ended]


class _Stopped(BaseException):
    """A signal came while no processes ran that would have taken it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def run(process: ProcessConfig, migrations: Sequence[MigrationConfig], compare: Compare) -> int:
    """Compare all of them; the exit code of the worst. --stop-after is of all together."""
    began = time.monotonic()
    ended: dict[str, Ended] = {}
    notes = _Notes()
    code = None
    for number, migration in enumerate(migrations, start=1):
        left = _left(process, time.monotonic() - began)
        if code is not None or left is None:
            why = "a signal had ended the command" if code is not None else "--stop-after had passed"
            ended[migration.name] = Ended(exit_codes.INCONCLUSIVE, problem=why)
            continue
        streams.say(f"{migration.name}: comparing ({number} of {len(migrations)})")
        try:
            one = _one(left, migration, compare, notes.of(migration.name))
        except _Stopped as stopped:
            one = Ended(stopped.code, problem="a signal ended the command", stopped=True)
        ended[migration.name] = one
        _say(process, migration.name, one)
        code = one.code if one.stopped else None
    notes.say(len(migrations))
    _conclude(process, ended)
    return (
        exit_codes.INTERRUPTED
        if code == exit_codes.INTERRUPTED
        else worst([one.code for one in ended.values()])
    )


def _left(process: ProcessConfig, seconds: float) -> ProcessConfig | None:
    """With what is left of --stop-after; None = nothing is."""
    if process.stop_after_ms is None:
        return process
    left_ms = process.stop_after_ms - int(seconds * 1000)
    return dataclasses.replace(process, stop_after_ms=left_ms) if left_ms > 0 else None


class _Notes:
    """What was to be known of each, kept and said once for all of whom it is true."""

    def __init__(self) -> None:
        self._of: dict[str, list[str]] = {}

    def of(self, name: str) -> Say:
        return lambda note: self._of.setdefault(note, []).append(name)

    def say(self, count: int) -> None:
        for note, names in self._of.items():
            whom = f"all {count}" if len(names) == count else listed(names)
            streams.say(f"{whom}: {note}")


def _one(process: ProcessConfig, migration: MigrationConfig, compare: Compare, say: Say) -> Ended:
    """Signals are the supervisor's while it has processes, and ours before and after."""
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return compare(process, migration, say)
    except MonitorError as error:
        return Ended(error.exit_code, problem=str(error))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise _Stopped(exit_codes.INTERRUPTED if number == signal.SIGINT else exit_codes.INCONCLUSIVE)


def _say(process: ProcessConfig, name: str, ended: Ended) -> None:
    if ended.result is None:
        streams.say(f"{name}: {ended.problem}")
    elif not process.json:
        print(f"{name}: {ended.text}\n", flush=True)


def _conclude(process: ProcessConfig, ended: dict[str, Ended]) -> None:
    if process.json:
        shown = {name: one.result or {"answer": None, "problem": one.problem} for name, one in ended.items()}
        print(json_line({"migrations": shown}), flush=True)
        return
    for line in comparison_text.results_table(
        [(name, one.result, one.problem) for name, one in ended.items()]
    ):
        print(line, flush=True)


def plans(
    process: ProcessConfig,
    migrations: Sequence[MigrationConfig],
    plan: Callable[[ProcessConfig, MigrationConfig], str],
) -> int:
    """`--dry-run`: the plan of each, or why it is refused; the exit code of the worst."""
    told: dict[str, Any] = {}
    codes = []
    for migration in migrations:
        try:
            text = plan(process, migration)
            codes.append(exit_codes.FINE)
        except MonitorError as error:
            streams.say(f"{migration.name}: {error}")
            told[migration.name] = {"problem": str(error)}
            codes.append(error.exit_code)
            continue
        if process.json:
            told[migration.name] = msgspec.Raw(text.encode())
        else:
            print(f"{paragraph(f'migration {migration.name}')}\n{text}\n")
    if process.json:
        print(json_line({"migrations": told}))
    return worst(codes)


def joined(
    migrations: Sequence[MigrationConfig], join: Callable[[MigrationConfig, Say], MigrationConfig]
) -> tuple[MigrationConfig, ...]:
    """Those whose comparison a `comparer` has joined. Of several, one that is refused is left out."""
    notes = _Notes()
    found: list[MigrationConfig] = []
    refused: list[MonitorError] = []
    for migration in migrations:
        if len(migrations) > 1:
            streams.say(f"{migration.name}: joining its comparison")
        try:
            found.append(join(migration, notes.of(migration.name) if len(migrations) > 1 else streams.say))
        except MonitorError as error:
            if len(migrations) == 1:
                raise
            streams.say(f"{migration.name}: left out: {error}")
            refused.append(error)
    notes.say(len(migrations))
    if not found:
        raise refused[0]
    return tuple(found)

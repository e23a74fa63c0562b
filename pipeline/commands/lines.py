"""Checks as lines, ok, warn or fail, each with its remedy; for a terminal, or as JSON.

Reads: nothing. Writes: standard output.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec
from rich.console import Console
from rich.text import Text

from pipeline import exit_codes
from pipeline.core.quoting import MESSAGE_CHARACTERS, printable_json, quoted
from pipeline.errors import MonitorError
from pipeline.report.words import many

Level = Literal["ok", "warn", "fail"]
_STYLES: dict[Level, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


class Line(msgspec.Struct, frozen=True):
    """One line of the preflight. remedy: what to do, "" where nothing is to be done."""

    check: str
    level: Level
    says: str
    remedy: str = ""


def checked(check: str, lines: Callable[[], Iterable[Line]]) -> list[Line]:
    """The check's lines; what it raised is its last."""
    found: list[Line] = []
    try:
        found.extend(lines())
    except MonitorError as error:
        found.append(Line(check, "fail", error.problem, error.remedy))
    return found


def failed(lines: Iterable[Line]) -> bool:
    """Whether any of them is a failure."""
    return any(line.level == "fail" for line in lines)


def show(lines: Sequence[Line], *, as_json: bool) -> int:
    """Print them and what they come to; the exit code."""
    if as_json:
        _print_json(_object(lines))
    else:
        _print(lines)
        print(closing(lines))
    return exit_codes.CONFIGURATION if failed(lines) else exit_codes.FINE


def show_each(sections: Mapping[str, Sequence[Line]], *, as_json: bool) -> int:
    """Print those of each migration and what they come to, at last what all come to; the exit code."""
    not_ready = [name for name, lines in sections.items() if failed(lines)]
    if as_json:
        each = {name: _object(lines) for name, lines in sections.items()}
        _print_json({"passed": not not_ready, "migrations": each})
    else:
        for name, lines in sections.items():
            print(f"migration {name}")
            _print(lines)
            print(f"{closing(lines, name)}\n")
        print(_all_in_all(len(sections), not_ready))
    return exit_codes.CONFIGURATION if not_ready else exit_codes.FINE


def closing(lines: Iterable[Line], of: str = "doctor") -> str:
    """What it comes to, in one line."""
    counts = Counter(line.level for line in lines)
    warnings = f"{many(counts['warn'], 'warning')}" if counts["warn"] else "no warning"
    if counts["fail"]:
        failing = many(counts["fail"], "check")
        return f"{of}: NOT READY: {failing} failed, {warnings}: mend that, then ask again"
    return f"{of}: READY: every check passed, {warnings}"


def _all_in_all(count: int, not_ready: Sequence[str]) -> str:
    if not_ready:
        return f"doctor: NOT READY: {len(not_ready)} of {count} migrations: {', '.join(not_ready)}"
    return f"doctor: READY: all {count} migrations"


def _object(lines: Sequence[Line]) -> dict[str, object]:
    return {"passed": not failed(lines), "checks": lines}


def _print_json(made: dict[str, object]) -> None:
    print(printable_json(msgspec.json.format(msgspec.json.encode(made)).decode()))


def _print(lines: Iterable[Line]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        remedy = f"; {line.remedy}" if line.remedy else ""
        said = quoted(f"{line.check}: {line.says}{remedy}", MESSAGE_CHARACTERS)
        console.print(Text(f"{line.level:<5}", _STYLES[line.level]) + Text(said))

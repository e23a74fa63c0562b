"""Holds each module's branch coverage against the floor that pyproject.toml gives it, with the reason.

A module that is not listed must be covered whole. Reads: coverage's JSON report (first argument),
`[tool.coverage-floors]` of pyproject.toml. Writes: standard output. Exit code 1: a module is below its floor,
or a listed one does not exist or needs no floor any more.
"""

import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

ROOT = Path(__file__).parent.parent


class Floor(TypedDict):
    """floor: percent of lines and branches. reason: why not 100."""

    floor: int
    reason: str


def main(report: str) -> int:
    """Print what is below 100 %, and what is wrong with it; the exit code."""
    measured = json.loads(Path(report).read_text(encoding="utf-8"))
    percent = {name: one["summary"]["percent_covered"] for name, one in measured["files"].items()}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["coverage-floors"]
    for name in sorted(percent, key=lambda name: (percent[name], name)):
        if percent[name] < 100:
            print(f"{percent[name]:5.1f} %  {name}  {listed[name]['reason'] if name in listed else ''}")
    print(f"{measured['totals']['percent_covered']:5.1f} %  of all lines and branches of pipeline/")
    wrong = complaints(percent, listed)
    print(*wrong, sep="\n")
    return 1 if wrong else 0


def complaints(percent: Mapping[str, float], listed: Mapping[str, Floor]) -> list[str]:
    """What does not hold. percent: module → measured; listed: module → its floor."""
    wrong = [f"{name}: is listed with a floor and does not exist" for name in listed.keys() - percent.keys()]
    for name, covered in sorted(percent.items()):
        floor = listed[name]["floor"] if name in listed else 100
        if covered < floor:
            wrong.append(f"{name}: {covered:.1f} % is below {floor}: test it, or list it with the reason")
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

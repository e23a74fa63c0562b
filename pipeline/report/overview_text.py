"""Many migrations as text and as JSON: a line each, and what all come to.

Reads: standings. Writes: nothing; callers print. Never: the store.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from pipeline.core.quoting import printable
from pipeline.report.columns import paragraph, row, table
from pipeline.report.cover import Cover, cover_object
from pipeline.report.facts import fingerprint
from pipeline.report.findings_text import json_line
from pipeline.report.report_text import as_text
from pipeline.report.standing import Problem, Standing, counted, measured, whole_answer, worst_first
from pipeline.report.text import ANSWERS
from pipeline.report.words import instant, many

#: So many migrations are named where something is said of several.
NAMED = 3


def status_lines(
    standings: Sequence[Standing], most: int | None = None, *, answered: bool = True
) -> Iterator[str]:
    """`status`: a line a migration, in the order given, why some cannot be read, and of which fewer keys are
    followed. most: lines. answered: with the gate's answer, which means nothing where those have ended who
    read and judge.
    """
    head = ("MIGRATION", "ANSWER", "RIGHT", "AT LEAST", "OPEN", "LAG", "READER LAG", "COVERAGE")
    shown = standings[:most]
    if answered:
        yield from table(head, map(_cells, shown), "no migration")
    else:
        without = ((name, *rest) for name, _, *rest in map(_cells, shown))
        yield from table((head[0], *head[2:]), without, "no migration")
    for one in shown:
        if one.problem is not None:
            yield paragraph(f"{one.migration}: {one.problem.words}")
        if one.sample:
            yield paragraph(f"{one.migration}: {one.sample}")
    if answered:
        yield paragraph(f"{counted(standings)}; `gate` says why, `--migration NAME` shows one of them")


def _cells(one: Standing) -> tuple[str, ...]:
    return (
        *(one.migration, one.answer),
        *(measured(one.right, "share"), measured(one.at_least, "share"), measured(one.open, "count")),
        *(measured(one.lag_seconds, "span"), measured(one.reader_lag_seconds, "span")),
        measured(one.coverage, "coverage"),
    )


def gate_lines(
    standings: Sequence[Standing], unknowns: Mapping[str, Sequence[str]], not_named: Sequence[str] = ()
) -> Iterator[str]:
    """`gate`: the whole answer, a line a migration, worst first, with the reasons of those that are no GO.

    unknowns: what the answer does not cover, by migration. not_named: migrations of which nothing is said.
    """
    answer = ANSWERS[whole_answer(standings)]
    alike = all(one.answer == answer for one in standings)
    yield paragraph(f"{many(len(standings), 'migration') if alike else counted(standings)}: {answer}")
    for one in worst_first(standings):
        yield f"  {one.answer:<16} {printable(one.migration)}"
        if one.problem is not None:
            yield row("", one.problem.words, 2, margin=2)
        for check in one.open_checks:
            yield row(f"{check.result:<13} {check.name:<11}", check.reason, 25, margin=4)
    if any(unknowns.values()) or not_named:
        yield "what this does not cover:"
    for said, whose in _grouped(unknowns).items():
        whom = "" if len(whose) == len(unknowns) else f"{_named(whose)}: "
        yield paragraph(f"  - {whom}{said}", indent=4)
    if not_named:
        yield paragraph(f"  - {not_named_words(not_named)}", indent=4)


def not_named_words(others: Sequence[str]) -> str:
    """Of migrations in the same Redis that the file does not name."""
    return (
        f"this Redis holds {many(len(others), 'migration')} that the file does not name and nothing here "
        f"speaks of: {_named(others)}; write below `migrations:` what belongs to this move"
    )


def _grouped(unknowns: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Each sentence once, with those that it is said of."""
    found: dict[str, list[str]] = {}
    for migration, said in unknowns.items():
        for one in said:
            found.setdefault(one, []).append(migration)
    return found


def _named(migrations: Sequence[str]) -> str:
    more = len(migrations) - NAMED
    return ", ".join(migrations[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def problem_object(problem: Problem) -> dict[str, Any]:
    """What stands in JSON for a migration that could not be read."""
    return {"result": "inconclusive", **msgspec.to_builtins(problem)}


def cover_json(cover: Cover) -> str:
    """`report --format json`: of each what `report` says of it alone, and the fingerprint of all."""
    plain = cover_object(cover)
    return f"{json_line({'sha256': fingerprint(plain), **plain})}\n"


def cover_text(cover: Cover) -> str:
    """`report --format text`: the cover, then each migration."""
    kept = {name: one.facts for name, one in cover.migrations.items() if one.facts is not None}
    unknowns = {name: facts.unknowns for name, facts in kept.items()}
    made = "" if cover.at_ms is None else f"{instant(cover.at_ms)} "
    lines = [
        *gate_lines(cover.standings, unknowns, cover.not_named),
        *(f"\n{as_text(facts).rstrip()}" for facts in kept.values()),
        f"\n{many(len(cover.migrations), 'migration')}, made {made}by {cover.maker.by} with version "
        f"{cover.maker.version}",
        f"SHA-256 of the facts of all: {fingerprint(cover_object(cover))}",
    ]
    return "\n".join(lines) + "\n"

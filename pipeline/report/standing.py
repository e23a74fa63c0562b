"""Where each of many migrations stands: what one line of an overview says of it, and what all come to.

Reads: figures, facts. Writes: nothing. Never: the store. A migration that could not be read stands there like
every other, with the reason; it is never a pass.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import msgspec

from pipeline.core.figures import Figures
from pipeline.core.gate import NOT_BEGUN, Check, Limits, Result, evaluate, overall
from pipeline.core.statistics import share_text
from pipeline.errors import MonitorError
from pipeline.report.facts import Facts, failing
from pipeline.report.text import ANSWERS
from pipeline.report.words import many, span

#: The worst comes first.
_RANK = {Result.FAILED: 0, Result.INCONCLUSIVE: 1, Result.PASSED: 2}


class Problem(msgspec.Struct, frozen=True):
    """Why a migration could not be read, and what to do about it."""

    problem: str
    remedy: str = ""

    @property
    def words(self) -> str:
        return f"{self.problem}: {self.remedy}" if self.remedy else self.problem


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One migration. None: not measured, or not read.

    open_checks: those that did not pass, failed ones first. problem: why it could not be read. right,
    at_least: of the keys that changed. coverage: share of both tables that a comparison has read.
    """

    migration: str
    result: Result
    open_checks: list[Check] = []
    problem: Problem | None = None
    right: float | None = None
    at_least: float | None = None
    open: int | None = None
    lag_seconds: float | None = None
    reader_lag_seconds: float | None = None
    coverage: float | None = None

    @property
    def answer(self) -> str:
        return ANSWERS[self.result] if self.problem is None else "CANNOT BE READ"

    @property
    def reasons(self) -> list[str]:
        """Why it is no GO, one sentence each."""
        return [check.reason for check in self.open_checks] if self.problem is None else [self.problem.words]


def problem_of(error: MonitorError) -> Problem:
    """What the error says."""
    return Problem(error.problem, error.remedy)


def unread(migration: str, problem: Problem) -> Standing:
    """Of one that could not be read."""
    return Standing(migration=migration, result=Result.INCONCLUSIVE, problem=problem)


def of_figures(migration: str, figures: Figures, limits: Limits) -> Standing:
    """Of one whose figures were read, and nothing else."""
    if not figures.has_begun:
        return unread(migration, Problem(NOT_BEGUN))
    verdict, comparison = evaluate(figures, limits), figures.of_table
    return Standing(
        migration=migration,
        result=verdict.result,
        open_checks=failing(verdict.checks),
        right=figures.success.ratio,
        at_least=figures.success.low,
        open=figures.open_total,
        lag_seconds=figures.replication_delay_seconds,
        reader_lag_seconds=figures.reader_lag_seconds,
        coverage=None if comparison is None else comparison.coverage,
    )


def of_facts(facts: Facts) -> Standing:
    """The same of one whose facts were gathered."""
    changed = facts.strata[0].numbers
    return Standing(
        migration=facts.migration,
        result=facts.result,
        open_checks=failing(facts.checks),
        right=changed.ratio,
        at_least=changed.low,
        open=sum(facts.ledger["open"].values()),
        lag_seconds=facts.replication_delay_seconds,
        reader_lag_seconds=facts.reader_lag_seconds,
        coverage=(facts.comparison or {}).get("coverage"),
    )


def coverage_text(share: float) -> str:
    """Never rounded up: only what was read whole is 100 %."""
    return f"{math.floor(share * 1000 + 1e-9) / 10:g} %"


def whole_answer(standings: Iterable[Standing]) -> Result:
    """GO only where every migration is."""
    return overall(one.result for one in standings)


def worst_first(standings: Iterable[Standing]) -> list[Standing]:
    """Those that are no GO before those that are; of the same answer, more open findings first."""
    return sorted(standings, key=lambda one: (_RANK[one.result], -(one.open or 0), one.migration))


def counted(standings: Sequence[Standing]) -> str:
    """`30 migrations: 1 NO-GO, 2 TOO EARLY TO SAY, 1 CANNOT BE READ, 26 GO`."""
    found: dict[str, int] = {}
    for one in worst_first(standings):
        found[one.answer] = found.get(one.answer, 0) + 1
    answers = ", ".join(f"{count:,} {answer}" for answer, count in found.items())
    return f"{many(len(standings), 'migration')}: {answers}" if found else "no migration"


#: How a figure of an overview is said, by what it is.
_SAID: dict[str, Callable[[float], str]] = {
    "share": share_text,
    "count": lambda number: f"{number:,.0f}",
    "span": span,
    "coverage": coverage_text,
}


def measured(figure: float | None, kind: str) -> str:
    """A figure in words; "-" where there is none."""
    return "-" if figure is None else _SAID[kind](figure)

"""What is spent, in words: a sentence, and a line for each side and operation.

Reads: structs of the core. Writes: nothing; callers print. Never: the store.
"""

from pipeline.core.budget import money
from pipeline.core.cost import Cost, CostLine
from pipeline.report.words import many

_NOT_KNOWN = "not known yet"


def cost_sentence(cost: Cost) -> str:
    """In all: so far, and as it runs now."""
    now = f"an hour {_NOT_KNOWN}"
    if cost.an_hour is not None and cost.a_day is not None:
        now = f"{money(cost.an_hour)} an hour and {money(cost.a_day)} a day as it runs now"
    allowed = f", {money(cost.budget)} an hour is allowed" if cost.budget else ""
    return f"{money(cost.dollars)} so far, {now}{allowed} ({cost.prices.said})"


def cost_rows(cost: Cost) -> list[tuple[str, str]]:
    """A row for each side and operation that was asked anything."""
    return [(f"{one.side} {one.operation}", _said(one)) for one in cost.lines if one.requests]


def _said(line: CostLine) -> str:
    now = _NOT_KNOWN if line.an_hour is None else money(line.an_hour)
    asked = f"{many(line.requests, 'request')}, {line.units:,.1f} units"
    return f"{asked}, {money(line.dollars)} so far, {now} an hour"

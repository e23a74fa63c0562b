"""What `status --watch` shows of many migrations: the worst first, each in a line, the rest counted.

Reads: standings. Writes: nothing. Never: the store. Colours are only said as tones: every line means the
same without them.
"""

from collections.abc import Sequence

import msgspec

from pipeline.core.gate import Result
from pipeline.core.quoting import printable
from pipeline.report.standing import Standing, counted, measured, whole_answer, worst_first
from pipeline.report.text import ANSWERS
from pipeline.report.watch_text import Line, old_lines
from pipeline.report.words import instant

#: Columns of a name; a longer one is shortened in its middle.
_NAME = 24
_HEAD = f"  {'MIGRATION':<{_NAME}} {'ANSWER':<16} {'OPEN':>8} {'LAG':>11} {'READER LAG':>11}"


def overview(
    standings: Sequence[Standing], at_ms: int | None, trouble: str, age_seconds: float, height: int
) -> list[Line]:
    """No more than `height` lines. trouble: why there are no newer figures, "" = there are. age_seconds: of
    these figures.
    """
    answer = whole_answer(standings)
    when = "" if at_ms is None else f"  at {instant(at_ms)}"
    head = [Line(f"{ANSWERS[answer]}{when}", Result.INCONCLUSIVE if trouble else answer)]
    head += old_lines(trouble, age_seconds) if trouble else []
    head.append(Line(counted(standings)))
    head += [Line(""), Line(_HEAD)] if height > len(head) + 6 else []
    ranked = worst_first(standings)
    room = max(height - len(head), 0)
    shown = ranked if len(ranked) <= room else ranked[: max(room - 1, 0)]
    rest = ranked[len(shown) :]
    lines = [*head, *_rows(shown, room - bool(rest))]
    if rest:
        lines.append(Line(f"  and {counted(rest)}"))
    return [msgspec.structs.replace(one, text=printable(one.text)) for one in lines[: max(height, 1)]]


def _rows(standings: Sequence[Standing], room: int) -> list[Line]:
    """A line of each, and below it why it is no GO: of the worst, as many as there is room for."""
    spare = room - len(standings)
    lines = []
    for one in standings:
        lines.append(Line(_row(one), None if one.result is Result.PASSED else one.result))
        if one.reasons and spare > 0:
            more = f" (and {len(one.reasons) - 1:,} more)" if len(one.reasons) > 1 else ""
            lines.append(Line(f"    {one.reasons[0]}{more}", indent=4))
            spare -= 1
        if one.sample and spare > 0:
            lines.append(Line(f"    {one.sample}", indent=4))
            spare -= 1
    return lines


def _row(one: Standing) -> str:
    lag, reader = measured(one.lag_seconds, "span"), measured(one.reader_lag_seconds, "span")
    return (
        f"  {_shortened(one.migration):<{_NAME}} {one.answer:<16} {measured(one.open, 'count'):>8} "
        f"{lag:>11} {reader:>11}"
    )


def _shortened(name: str) -> str:
    half = (_NAME - 1) // 2
    return name if len(name) <= _NAME else f"{name[:half]}…{name[half + 1 - _NAME :]}"

"""The explanation of one key as text.

Reads: an `Explanation`. Writes: nothing; callers print. Never: the store. Names and values are escaped, and
long values cut.
"""

from collections.abc import Sequence

from pipeline.core.outline import Outline, Shape
from pipeline.core.quoting import printable, quoted
from pipeline.report.columns import paragraph, rows
from pipeline.report.explained import Explanation
from pipeline.report.words import many


def explanation_text(told: Explanation, key: str) -> str:
    """key: the text that stands for it."""
    facts = [("key", key), ("read at", f"{told.at}, both sides strongly consistent")]
    facts += [("source", told.source), ("target", told.target), ("answer", told.answer)]
    if (one := told.finding) is not None:
        oldest = f", oldest change that is not there {one['oldest_change']}" if one["oldest_change"] else ""
        facts.append(
            ("finding", f"{one['kind']}, open since {one['first_seen']}{oldest}, cause {one['cause']}")
        )
    facts += [
        ("closed", f"{one['kind']}, {one['first_seen']} to {one['closed']}: {one['why']}")
        for one in told.closed
    ]
    lines = [rows(facts, 8), *_outline_lines(told.outline), *_version_lines(told)]
    return "\n".join([*lines, "concluded:", *(paragraph(f"  {one}", indent=4) for one in told.concluded)])


def _version_lines(told: Explanation) -> list[str]:
    if not told.versions:
        return ["history: none"]
    table = [("VERSION", "WRITTEN", "CONTENT", "STANDING")]
    table += [(str(one.number), one.written, one.content, one.standing) for one in told.versions]
    left = f", {many(told.versions_left_out, 'version')} left out" if told.versions_left_out else ""
    return [f"history, oldest first{left}:", *_aligned(table)]


def _outline_lines(shown: Outline | None) -> list[str]:
    if shown is None or not (shown.rows or shown.left_out):
        return []
    table = [("PATH", "SOURCE", "TARGET", "")]
    for row in shown.rows:
        said = "" if not row.differs else "only one side" if None in (row.source, row.target) else "differs"
        table.append((row.path, _shape_text(row.source), _shape_text(row.target), said))
    head = f"paths: {shown.differing:,} differ, {shown.equal:,} are equal"
    if left := shown.differing + shown.equal - len(shown.rows):
        head += f"; {left:,} are not listed"
    if shown.left_out:
        head += f"; left out of the comparison: {', '.join(map(printable, shown.left_out))}"
    return [paragraph(head), *_aligned(table)]


def _shape_text(shape: Shape | None) -> str:
    if shape is None:
        return "-"
    size = f" {many(shape.size, shape.unit)}" if shape.unit else ""
    return f"{shape.type}{size}" + ("" if shape.value is None else f" {quoted(shape.value)}")


def _aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    shown = [tuple(map(printable, row)) for row in table]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]

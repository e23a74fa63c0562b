"""Charts as SVG: lines over time with the milestones, and bars of a distribution.

Reads: numbers. Writes: nothing. Never: the store. Texts are escaped; colours come from the page's style.
Nothing in them runs or is fetched.
"""

from collections.abc import Mapping, Sequence

import msgspec
from markupsafe import Markup

from pipeline.report.words import minute

WIDTH, HEIGHT = 900, 150
LEFT, RIGHT, TOP, BOTTOM = 64, 890, 18, 118
#: Samples that lie so many times further apart than those before are not joined: nobody measured then.
GAP_FACTOR, LEAST_GAP_MS = 2.5, 60_000
_CLASSES = ("one", "two")
_BAR = 22


#: Where a scale begins, and the least that it reaches.
Bounds = tuple[float, float]


class Line(msgspec.Struct, frozen=True):
    """One line of a chart. values: one an instant, None = not measured."""

    label: str
    values: Sequence[float | None]


def over_time(
    title: str,
    at_ms: Sequence[int],
    lines: Sequence[Line],
    unit: str,
    marks: Mapping[str, int],
    bounds: Bounds,
) -> Markup:
    """Lines with a scale. marks: milestone → instant; those outside stay away."""
    found = [value for line in lines for value in line.values if value is not None]
    if len(at_ms) < 2 or not found:
        return Markup("<p class='dim'>{}: not measured yet.</p>").format(title)
    lowest, highest = bounds[0], max(*found, bounds[1]) or 1
    x, y = _Scale(at_ms[0], at_ms[-1], LEFT, RIGHT), _Scale(lowest, highest, BOTTOM, TOP)
    parts = [_axes(x, (lowest, highest), unit, at_ms)]
    parts += [_mark(x, name, when) for name, when in marks.items() if at_ms[0] <= when <= at_ms[-1]]
    for line, kind in zip(lines, _CLASSES, strict=False):
        parts += [_run(run, kind) for run in _runs(at_ms, line.values, x, y)]
    return _svg(title, _description(lines, unit), HEIGHT, parts)


def _description(lines: Sequence[Line], unit: str) -> str:
    """What the chart shows, for whoever does not see it."""
    said = []
    for line in lines:
        values = [value for value in line.values if value is not None]
        if values:
            said.append(f"{line.label}: last {_number(values[-1])}, highest {_number(max(values))} {unit}")
    return "; ".join(said)


class _Scale:
    """From values to places."""

    def __init__(self, low: float, high: float, from_: float, to: float) -> None:
        self._low, self._span = low, (high - low) or 1
        self._from, self._length = from_, to - from_

    def __call__(self, value: float) -> float:
        return round(self._from + (value - self._low) / self._span * self._length, 1)


def _axes(x: _Scale, bounds: Bounds, unit: str, at_ms: Sequence[int]) -> Markup:
    frame = Markup('<path class="axis" d="M{} {}V{}H{}"/>').format(LEFT, TOP, BOTTOM, RIGHT)
    labels = ((TOP + 4, _number(bounds[1])), (TOP + 18, unit), (BOTTOM, _number(bounds[0])))
    side = Markup().join(
        Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(LEFT - 6, *one) for one in labels
    )
    ends = Markup('<text x="{}" y="{}">{}</text><text x="{}" y="{}" text-anchor="end">{}</text>').format(
        x(at_ms[0]), BOTTOM + 16, minute(at_ms[0]), x(at_ms[-1]), BOTTOM + 16, minute(at_ms[-1])
    )
    return frame + side + ends


def _mark(x: _Scale, name: str, at_ms: int) -> Markup:
    return Markup(
        '<path class="mark" d="M{0} {1}V{2}"/><text x="{0}" y="12" text-anchor="middle">{3}</text>'
    ).format(x(at_ms), TOP, BOTTOM, name)


def _runs(
    at_ms: Sequence[int], values: Sequence[float | None], x: _Scale, y: _Scale
) -> list[list[tuple[float, float]]]:
    """Points that are joined: a run ends where nothing was measured."""
    runs: list[list[tuple[float, float]]] = [[]]
    before_ms, usual_ms = None, 0
    for when, value in zip(at_ms, values, strict=True):
        step_ms = when - (when if before_ms is None else before_ms)
        if value is None or (usual_ms and step_ms > GAP_FACTOR * usual_ms):
            runs.append([])
        if value is not None:
            runs[-1].append((x(when), y(value)))
        # Older samples lie further apart than younger ones.
        usual_ms = max(step_ms, LEAST_GAP_MS) if before_ms is not None else 0
        before_ms = when
    return [run for run in runs if run]


def _run(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    if len(points) == 1:
        dot = "dot1" if kind == "one" else "dot2"
        return Markup('<circle class="{}" cx="{}" cy="{}" r="2.5"/>').format(dot, *points[0])
    path = " ".join(f"{left},{height}" for left, height in points)
    return Markup('<polyline class="{}" points="{}"/>').format(kind, path)


def bars(title: str, counts: Mapping[str, int]) -> Markup:
    """One bar a label, with its count."""
    most = max(counts.values(), default=0)
    if not most:
        return Markup("<p class='dim'>{}: not measured in the last minutes.</p>").format(title)
    length = _Scale(0, most, 0, 600)
    parts = [
        Markup(
            '<text x="{}" y="{}" text-anchor="end">{}</text>'
            '<rect class="bar" x="{}" y="{}" width="{}" height="14"/><text x="{}" y="{}">{}</text>'
        ).format(
            *(LEFT + 36, _BAR * row + 12, label, LEFT + 44, _BAR * row + 1, max(1, length(count))),
            *(LEFT + 52 + length(count), _BAR * row + 12, f"{count:,}"),
        )
        for row, (label, count) in enumerate(counts.items())
    ]
    said = ", ".join(f"{label}: {count:,}" for label, count in counts.items())
    return _svg(title, said, _BAR * len(counts) + 4, parts)


def _svg(title: str, description: str, height: int, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        WIDTH, height, f"{title}. {description}"
    )
    return head + Markup().join(parts) + Markup("</svg>")


def _number(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"

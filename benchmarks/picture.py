"""The results as one small SVG: factors against what is required, and the two growth curves.

Reads: results. Writes: text. Never: colours that carry meaning alone: numbers stand beside them.
"""

import math
from collections.abc import Sequence
from html import escape

from benchmarks.results import Results, Row

WIDTH, ROW_HEIGHT, LEFT = 860, 26, 400
CURVE_HEIGHT = 190
INK, FAINT, MET, MISSED = "#1f2933", "#9aa5b1", "#2f7d5b", "#b7472a"


def draw(results: Results) -> str:
    rows = [row for row in results.rows if row.factor is not None and row.need is not None]
    bars_height = 60 + ROW_HEIGHT * len(rows)
    curves = [
        ("CPU per record by number of shards, µs", results.by_shards),
        ("CPU per key by outstanding keys, µs", results.by_keys),
    ]
    parts = [_bars(rows)]
    for index, (title, curve) in enumerate(curves):
        points = [(size, figures["us"]) for size, figures in sorted(curve.items())]
        parts.append(_curve(title, points, 20 + index * WIDTH // 2, bars_height))
    height = bars_height + CURVE_HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}"><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _bars(rows: Sequence[Row]) -> str:
    """One bar a row on a logarithmic scale, with a mark where it has to reach."""
    factors = [row.factor.median for row in rows if row.factor]
    decades = math.log10(max([*factors, *(row.need or 1 for row in rows)]) * 1.3)
    scale = (WIDTH - LEFT - 90) / decades
    parts = [
        _text(
            20,
            22,
            "times better than the baseline in the same run (bar), and required (line); log scale",
            FAINT,
        )
    ]
    for index, row in enumerate(rows):
        assert row.factor is not None and row.need is not None
        top = 36 + index * ROW_HEIGHT
        length, mark = (max(0.0, math.log10(value)) * scale for value in (row.factor.median, row.need))
        colour = MET if row.met else MISSED
        parts += [
            _text(LEFT - 8, top + 13, row.what, INK, "end"),
            f'<rect x="{LEFT}" y="{top}" width="{length:.0f}" height="18" fill="{colour}"/>',
            f'<path d="M{LEFT + mark:.0f} {top - 3}v24" stroke="{INK}" stroke-width="2"/>',
            _text(LEFT + max(length, mark) + 6, top + 13, f"{row.factor.median:.1f} × (≥ {row.need:g})"),
        ]
    return "".join(parts)


def _curve(title: str, points: Sequence[tuple[int, float]], left: int, top: int) -> str:
    """Cost over size, both axes from a fixed place: size logarithmic, cost linear from 0."""
    width, height = WIDTH // 2 - 80, CURVE_HEIGHT - 80
    most = max((cost for _, cost in points), default=1) * 1.25
    first, last = math.log10(min(size for size, _ in points)), math.log10(max(size for size, _ in points))
    placed = [
        (
            left + 20 + (math.log10(size) - first) / max(last - first, 1) * width,
            top + 30 + height * (1 - cost / most),
            size,
            cost,
        )
        for size, cost in points
    ]
    line = " ".join(f"{x:.0f},{y:.0f}" for x, y, _, _ in placed)
    parts = [
        _text(left, top + 14, title, FAINT),
        f'<path d="M{left} {top + 30 + height}h{width + 40}" stroke="{FAINT}"/>',
        f'<polyline points="{line}" fill="none" stroke="{MET}" stroke-width="2"/>',
    ]
    for x, y, size, cost in placed:
        parts.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3.5" fill="{MET}"/>')
        parts.append(_text(x, y - 9, f"{cost:.1f}", INK, "middle"))
        parts.append(_text(x, top + height + 46, f"{size:,}", INK, "middle"))
    return "".join(parts)


def _text(x: float, y: float, text: str, colour: str = INK, anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}" text-anchor="{anchor}">{escape(text)}</text>'

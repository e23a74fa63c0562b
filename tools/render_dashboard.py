"""Draw the dashboard from its JSON and a real Prometheus: a preview for the docs, not Grafana's picture.

    python tools/render_dashboard.py URL OUT.png [--migration demo] [--minutes 5] [--first 1] [--rows 3]

Reads: deploy/grafana/dashboards/cutover.json, Prometheus. Writes: the picture. Never: a panel that is not in
the JSON; what it cannot draw it names in its place.

Needs matplotlib (`pip install -e .[pictures]`). A world to draw: `python -m tests.deploy.live 240`.
"""

import argparse
import json
import sys
import textwrap
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates as mdates
from matplotlib import pyplot
from matplotlib.axes import Axes

JSON = Path(__file__).parent.parent / "deploy" / "grafana" / "dashboards" / "cutover.json"
COLUMNS = 24
INCHES_A_COLUMN, INCHES_A_LINE = 0.75, 0.36
#: Shares of the picture's width.
MARGINS = {"timeseries": 0.03, "heatmap": 0.03, "state-timeline": 0.045}
COLOURS = {
    "green": "#3f9c55",
    "orange": "#e08b1b",
    "red": "#c7362f",
    "blue": "#3a6ea8",
    "transparent": "#777777",
}
UNKNOWN = "#808080"
CYCLE = ("#3a6ea8", "#e08b1b", "#3f9c55", "#8e5ea2", "#c7362f", "#4db6ac", "#a1887f", "#7f8c8d")
VARIABLES = {
    "$__rate_interval": "30s",
    "$__range": "1h",
    "$job": ".+",
    "$instance": ".+",
}
#: Where the columns of a table of labels begin, in shares of its width.
LABEL_COLUMNS = (0.02, 0.4, 0.55, 0.7, 0.85)
Panel = dict[str, Any]
Series = list[dict[str, Any]]


class Prometheus:
    """Queries of one span of time, with Grafana's variables filled in."""

    def __init__(self, url: str, migration: str, start: float, end: float) -> None:
        self._url, self._start, self._end = url, start, end
        self._variables = {**VARIABLES, "$migration": migration}

    def now(self, expr: str) -> Series:
        return self._ask("query", query=self._filled(expr), time=self._end)

    def range(self, expr: str) -> Series:
        step = max((self._end - self._start) / 300, 1)
        return self._ask("query_range", query=self._filled(expr), start=self._start, end=self._end, step=step)

    def _filled(self, expr: str) -> str:
        for name, value in self._variables.items():
            expr = expr.replace(name, value)
        return expr

    def _ask(self, what: str, **parameters: object) -> Series:
        query = urllib.parse.urlencode(parameters)
        url = f"{self._url}/api/v1/{what}?{query}"
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - the one that was given
            found: Series = json.load(answer)["data"]["result"]
        return found


def main(argv: list[str]) -> None:
    """Draw what the arguments say."""
    args = _parse(argv)
    end = time.time() - args.ago
    source = Prometheus(args.prometheus, args.migration, end - args.minutes * 60, end)
    panels = _shown(json.loads(JSON.read_text(encoding="utf-8"))["panels"], args.first, args.rows)
    top = min(panel["gridPos"]["y"] for panel in panels)
    for panel in panels:
        panel["gridPos"]["y"] -= top
        panel["title"] = panel["title"].replace("$migration", args.migration)
    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = pyplot.figure(figsize=(COLUMNS * INCHES_A_COLUMN, lines * INCHES_A_LINE), facecolor="#f4f5f6")
    grid = figure.add_gridspec(
        lines, COLUMNS, left=0.012, right=0.988, top=0.985, bottom=0.015, hspace=0.1, wspace=0.1
    )
    for panel in panels:
        at = panel["gridPos"]
        cell = grid[at["y"] : at["y"] + at["h"], at["x"] : at["x"] + at["w"]]
        _draw(figure.add_subplot(cell), panel, source)
    figure.text(
        0.988, 0.004, "preview drawn from the dashboard's JSON and Prometheus", ha="right", color="#888888"
    )
    figure.savefig(args.out, dpi=args.dpi)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("prometheus", help="URL")
    parser.add_argument("out", type=Path)
    parser.add_argument("--migration", default="demo")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--first", type=int, default=1, help="the row of the dashboard to begin with")
    parser.add_argument("--rows", type=int, default=99, help="how many rows")
    parser.add_argument("--ago", type=float, default=0, help="seconds since the instant to draw")
    parser.add_argument("--dpi", type=int, default=80)
    return parser.parse_args(argv)


def _shown(panels: list[Panel], first: int, rows: int) -> list[Panel]:
    """The panels of so many rows; those of folded rows are left out."""
    shown, seen = [], 0
    for panel in panels:
        seen += panel["type"] == "row"
        if first <= seen < first + rows and not panel.get("collapsed"):
            shown.append(panel)
    return shown


def _draw(axes: Axes, panel: Panel, source: Prometheus) -> None:
    if panel["type"] == "row":
        axes.axis("off")
        axes.text(0, 0.4, f"▾ {panel['title']}", transform=axes.transAxes, fontsize=13, weight="bold")
        return
    KINDS[panel["type"]](axes, panel, source)
    axes.set_title(panel["title"], loc="left", fontsize=10, color="#333333", pad=4)
    box = axes.get_position()
    left = MARGINS.get(panel["type"], 0.006)  # room for the numbers beside the axis
    axes.set_position((box.x0 + left, box.y0 + 0.007, box.width - left - 0.008, box.height - 0.019))


# --- kinds of panels ---------------------------------------------------------------------------------------


def _stat(axes: Axes, panel: Panel, source: Prometheus) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    fixed = {o["matcher"]["options"]: o["properties"][0]["value"] for o in panel["fieldConfig"]["overrides"]}
    mode, coloured = panel["options"]["textMode"], panel["options"]["colorMode"] == "background"
    shown: list[tuple[str, str, str]] = []  # large, small, colour
    for target in panel["targets"]:
        for series in source.now(target["expr"]):
            text, colour = _stated(defaults, float(series["value"][1]))
            said = _legend(target["legendFormat"], series["metric"])
            if target["refId"] in fixed:
                colour = COLOURS.get(*[fixed[target["refId"]]["fixedColor"]] * 2)
            if mode == "name":
                text, said = said, ""
            shown.append((text, said if mode == "value_and_name" else "", colour))
    if not shown:
        shown = [(*_stated(defaults, None)[:1], "", UNKNOWN)]
        coloured = coloured or mode == "name"
    axes.set_facecolor(shown[0][2] if coloured else "white")
    for position, (text, said, colour) in enumerate(shown):
        middle = 1 - (position + 0.5) / len(shown)
        ink = "white" if coloured else colour
        wrapped = textwrap.fill(text, 5 * panel["gridPos"]["w"])
        longest = max(map(len, wrapped.splitlines()), default=1)
        size = min(
            panel["gridPos"]["w"] * 8 / len(shown) ** 0.5, 75 * panel["gridPos"]["w"] / 1.7 / max(longest, 1)
        )
        place = {"transform": axes.transAxes, "ha": "center", "color": ink}
        axes.text(0.5, middle + (0.08 if said else 0), wrapped, va="center", fontsize=size, **place)
        if said:
            axes.text(
                0.5, 0.12, textwrap.fill(said, 9 * panel["gridPos"]["w"]), va="center", fontsize=8, **place
            )
    _plain(axes)


def _stated(defaults: dict[str, Any], value: float | None) -> tuple[str, str]:
    """What a stat panel shows for a value, and its colour."""
    if value is None:
        return defaults.get("noValue", "no data"), UNKNOWN
    for mapping in defaults.get("mappings", []):
        option = mapping["options"].get(f"{value:g}")
        if option:
            return option["text"], COLOURS.get(option["color"], UNKNOWN)
    colour = "blue"
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    return _number(value, defaults["unit"], defaults.get("decimals")), COLOURS.get(colour, colour)


def _curves(axes: Axes, panel: Panel, source: Prometheus) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults.get("custom", {})
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    drawn: dict[str, tuple[list[Any], list[float]]] = {}
    for target in panel["targets"]:
        for series in source.range(target["expr"]):
            drawn[_legend(target["legendFormat"], series["metric"])] = _points(series)
    overrides = {one["matcher"]["options"]: one["properties"] for one in panel["fieldConfig"]["overrides"]}
    for index, (name, (times, heights)) in enumerate(drawn.items()):
        properties = {one["id"]: one["value"] for one in overrides.get(name, [])}
        _curve(axes, name, times, heights, CYCLE[index % len(CYCLE)], properties, drawn, stacked)
    if stacked and drawn:
        _stack(axes, drawn)
    _limits(axes, defaults)
    _time_axis(axes)
    axes.yaxis.set_major_formatter(lambda value, _position: _number(value, defaults["unit"], None))
    if drawn:
        axes.legend(loc="upper left", fontsize=7, frameon=False, ncols=3)
    else:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color="#999999")


def _curve(
    axes: Axes,
    name: str,
    times: list[Any],
    heights: list[float],
    colour: str,
    properties: dict[str, Any],
    drawn: dict[str, tuple[list[Any], list[float]]],
    stacked: bool,
) -> None:
    below = drawn.get(properties.get("custom.fillBelowTo", ""))
    if below:
        size = min(len(times), len(below[0]))
        axes.fill_between(
            times[:size], below[1][:size], heights[:size], color="#3a6ea8", alpha=0.18, label=name
        )
    elif properties.get("custom.lineWidth") != 0 and not stacked:
        fixed = properties.get("color", {}).get("fixedColor")
        style = "--" if "custom.lineStyle" in properties else "-"
        axes.plot(
            times,
            heights,
            style,
            label=name,
            linewidth=1.3,
            color=COLOURS.get(fixed, fixed) if fixed else colour,
        )


def _stack(axes: Axes, drawn: dict[str, tuple[list[Any], list[float]]]) -> None:
    longest = max((times for times, _ in drawn.values()), key=len)
    heights = [[0.0] * (len(longest) - len(values)) + values for _, values in drawn.values()]
    axes.stackplot(longest, heights, labels=list(drawn), colors=CYCLE, alpha=0.75)


def _limits(axes: Axes, defaults: dict[str, Any]) -> None:
    if "min" in defaults:
        axes.set_ylim(bottom=defaults["min"])
    low, high = axes.get_ylim()
    axes.set_ylim(top=defaults.get("max", high + (high - low) * 0.35))  # room for the legend
    if defaults.get("custom", {}).get("thresholdsStyle", {}).get("mode") == "dashed":
        for step in defaults["thresholds"]["steps"]:
            if step["value"] is not None:
                axes.axhline(
                    step["value"],
                    color=COLOURS.get(step["color"], step["color"]),
                    linestyle="--",
                    linewidth=1,
                )


def _states(axes: Axes, panel: Panel, source: Prometheus) -> None:
    (target,) = panel["targets"]
    mapping = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    found = source.range(target["expr"])
    names = [_legend(target["legendFormat"], series["metric"]) for series in found]
    for line, series in enumerate(found):
        times, heights = _points(series)
        for here, following, state in zip(times, times[1:], heights, strict=False):
            axes.barh(
                line, following - here, left=here, height=0.8, color=COLOURS[mapping[f"{state:g}"]["color"]]
            )
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    _time_axis(axes)


def _heat(axes: Axes, panel: Panel, source: Prometheus) -> None:
    found = source.range(panel["targets"][0]["expr"])
    found = sorted(
        (series for series in found if series["metric"]["le"] != "+Inf"),
        key=lambda s: float(s["metric"]["le"]),
    )
    if not found:
        return
    columns = max((_points(series) for series in found), key=lambda points: len(points[0]))[0]
    counts = [[0.0] * (len(columns) - len(series["values"])) + _points(series)[1] for series in found]
    cells = [[high - low for high, low in zip(row, below, strict=True)] for below, row in pairwise(counts)]
    axes.pcolormesh(columns, range(len(counts)), [counts[0], *cells], cmap="Oranges", shading="nearest")
    ticks = range(0, len(found), 3)
    axes.set_yticks(ticks, [_number(float(found[t]["metric"]["le"]), "s", None) for t in ticks], fontsize=7)
    _time_axis(axes)


def _rows(axes: Axes, panel: Panel, source: Prometheus) -> None:
    joined = panel["transformations"][0]["id"] == "joinByField"
    heading, found = (_joined if joined else _labels)(panel, source)
    wide = 0.46 if panel["gridPos"]["w"] < COLUMNS else 0.1
    others = [wide + at * (1 - wide) / (len(heading) - 1) for at in range(len(heading) - 1)]
    starts = [0.02, *others] if joined else LABEL_COLUMNS
    height = 0.6 / panel["gridPos"]["h"] * 1.2
    _plain(axes)
    for line, cells in enumerate([[(text, "black") for text in heading], *found]):
        for at, (text, colour) in zip(starts, cells, strict=False):
            weight = "bold" if line == 0 else "normal"
            y = 0.93 - line * height
            axes.text(
                at, y, text, transform=axes.transAxes, fontsize=8, va="top", weight=weight, color=colour
            )
    if not found:
        text = panel["fieldConfig"]["defaults"]["noValue"]
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color="#999999")


def _labels(panel: Panel, source: Prometheus) -> tuple[list[str], list[list[tuple[str, str]]]]:
    """A table with one row a series: its heading, and its cells with their colours."""
    columns = panel["transformations"][0]["options"]["include"]["names"]
    names = panel["transformations"][-1]["options"]["renameByName"]
    found = source.now(panel["targets"][0]["expr"])
    cells = [{**one["metric"], "Value": _number(float(one["value"][1]), "none", None)} for one in found]
    # By numbers as numbers: the tenth rank comes last.
    rows = sorted([one.get(name, "") for name in columns] for one in cells)
    rows.sort(key=lambda row: int(row[0]) if row[0].isdigit() else 0)
    return [names[name] for name in columns], [[(text, "black") for text in row] for row in rows]


def _joined(panel: Panel, source: Prometheus) -> tuple[list[str], list[list[tuple[str, str]]]]:
    """A table with a row for each value of a label and a column for each query."""
    label = panel["transformations"][0]["options"]["byField"]
    ordered = panel["transformations"][-1]["options"]
    names = {
        name: ordered["renameByName"][name]
        for name in sorted(ordered["indexByName"], key=ordered["indexByName"].get)
    }
    overrides = {one["matcher"]["options"]: one["properties"] for one in panel["fieldConfig"]["overrides"]}
    of_label = {one["id"]: one["value"] for one in overrides.get(names[label], [])}
    said = of_label["mappings"][0]["options"] if "mappings" in of_label else {}
    rows: dict[str, list[tuple[str, str]]] = {}
    for position, target in enumerate(panel["targets"]):
        properties = {one["id"]: one["value"] for one in overrides[names[f"Value #{target['refId']}"]]}
        for series in source.now(target["expr"]):
            key = series["metric"][label]
            first = (said[key]["text"] if key in said else key, "black")
            cells = rows.setdefault(key, [first, *[("", "black")] * len(panel["targets"])])
            text, colour = _stated({"thresholds": {"steps": []}, **properties}, float(series["value"][1]))
            cells[position + 1] = (text, colour if "thresholds" in properties else "black")
    return list(names.values()), sorted(rows.values())


KINDS: dict[str, Callable[[Axes, Panel, Prometheus], None]] = {
    "stat": _stat,
    "timeseries": _curves,
    "state-timeline": _states,
    "heatmap": _heat,
    "table": _rows,
}


# --- numbers, times, names ---------------------------------------------------------------------------------


def _points(series: dict[str, Any]) -> tuple[list[Any], list[float]]:
    at = [float(mdates.date2num(time_of)) for time_of in _instants(series)]
    return at, [float(value) for _, value in series["values"]]


def _instants(series: dict[str, Any]) -> list[Any]:
    return [mdates.num2date(seconds / 86_400) for seconds, _ in series["values"]]


def _legend(form: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        form = form.replace("{{" + name + "}}", value)
    return form


def _number(value: float, unit: str, decimals: int | None) -> str:
    if unit.startswith("suffix:"):
        return f"{_number(value, 'none', decimals)} {unit.removeprefix('suffix:').strip()}"
    form = FORMS.get(unit)
    if form is not None:
        return form(value, decimals)
    return f"{value / 1000:.3g} k" if abs(value) >= 1000 else f"{value:.3g}"


def _seconds(value: float, _decimals: int | None) -> str:
    for size, name in ((3600, "h"), (60, "min")):
        if abs(value) >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.3g} s" if abs(value) >= 1 or value == 0 else f"{value * 1000:.3g} ms"


FORMS: dict[str, Callable[[float, int | None], str]] = {
    "dateTimeAsLocal": lambda value, _: time.strftime("%H:%M:%S", time.localtime(value / 1000)),
    "percentunit": lambda value, decimals: f"{value * 100:.{2 if decimals is None else decimals}f} %",
    "s": _seconds,
    "currencyUSD": lambda value, decimals: f"${value:.{decimals or 2}f}",
    "bytes": lambda value, _: f"{value / 2**20:.3g} MiB",
}


def _plain(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])


def _time_axis(axes: Axes) -> None:
    axes.xaxis.set_major_locator(mdates.AutoDateLocator(maxticks=6))
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M:%S"))
    axes.tick_params(labelsize=7)
    axes.grid(visible=True, color="#e3e3e3", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


if __name__ == "__main__":
    main(sys.argv[1:])

"""The kinds of panels that the dashboard is made of, with one look.

Reads: nothing. Writes: nothing. Never: a query of its own (see rows.py).

Every query goes to the data source variable. What a query selects by stands in it as `{m}` (a metric of the
chosen migration), `{r}` (the same of a recorded figure, which has no instance) or `{p}` (a metric of a
process, which has no migration) or `{o}` (one that programs of others export as well).
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
#: Grafana serves it itself, so that the link holds wherever it is opened (docker-compose.yml mounts it).
RUNBOOK = "/public/runbook.html"
#: What stands for a selector in a query, and the selector.
SELECTORS = {
    "{m}": '{migration="$migration",instance=~"$instance"}',
    "{r}": '{migration="$migration"}',
    "{p}": '{job=~"$job",instance=~"$instance"}',
    "{o}": '{job=~"$job",instance=~"$instance",process!=""}',
}

#: (value at which it begins, colour); None: from the lowest value on.
Steps = list[tuple[float | None, str]]
#: (query, legend)
Query = tuple[str, str]
#: Value → (text, colour).
Texts = dict[str, tuple[str, str]]
Dressed = TypeVar("Dressed", stat.Panel, timeseries.Panel, statetimeline.Panel, heatmap.Panel, table.Panel)

#: The panels of a row, in their order.
Panels = list[Builder[dashboard.Panel]]

GOOD, WARN, BAD, NEUTRAL, UNKNOWN = "green", "orange", "red", "blue", "#808080"
#: How old a sample may be that is shown as now: three scrapes. Prometheus gives the last one for five minutes
#: when it was restarted after the source had gone.
FRESH_SECONDS = 30
FRESH = f"(time() - max(timestamp(ddbmm_store_up{{m}})) < {FRESH_SECONDS})"
FRESH_PROCESSES = f"(time() - max(timestamp(ddbmm_build_info{{p}})) < {FRESH_SECONDS})"
#: What a figure without a value is asked for instead: is Redis silent, or was nothing measured yet? When the
#: monitor is silent this has no value either.
SILENCE = f"(min(ddbmm_store_up{{m}}) - 9 and on () {FRESH})"
REDIS_SILENT, NOTHING_MEASURED = "-9", "-8"


def _target(expr: str, legend: str, ref: str) -> prometheus.Dataquery:
    for name, selector in SELECTORS.items():
        expr = expr.replace(name, selector)
    return prometheus.Dataquery().datasource(DATASOURCE).expr(expr).legend_format(legend).ref_id(ref)


def _dress(
    panel: Dressed, title: str, text: str, unit: str, width: int, height: int, queries: list[Query]
) -> Dressed:
    panel.title(title).description(text).datasource(DATASOURCE).unit(unit).span(width).height(height)
    for number, (expr, legend) in enumerate(queries):
        panel.with_target(_target(expr, legend, chr(ord("A") + number)))
    return panel


def thresholds(steps: Steps) -> builders.ThresholdsConfig:
    """Colours by value."""
    made = [dashboard.Threshold(value=value, color=colour) for value, colour in steps]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(made)


def _without_value(text: str) -> dashboard.SpecialValueMap:
    """Without it Grafana gives a panel that has no value the colour of the lowest figure: green, often."""
    shown = dashboard.ValueMappingResult(text=text, color=UNKNOWN, index=0)
    match = dashboard.SpecialValueMatch.NULL_AND_NAN
    return dashboard.SpecialValueMap(
        options=dashboard.DashboardSpecialValueMapOptions(match=match, result=shown)
    )


def values(texts: Texts) -> list[dashboard.ValueMap]:
    """Texts and colours that stand for single values."""
    options = {
        value: dashboard.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(texts.items())
    }
    return [dashboard.ValueMap(options=options)]


def _plain_stat(title: str, text: str, unit: str, width: int, height: int, silent: str) -> stat.Panel:
    panel = _dress(stat.Panel(), title, text, unit, width, height, [])
    panel.no_value(silent).graph_mode(common.BigValueGraphMode.NONE)
    panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    return panel


def number(
    title: str,
    text: str,
    expr: str,
    unit: str,
    steps: Steps | None = None,
    *,
    width: int = 3,
    height: int = 6,
    decimals: int | None = None,
    mappings: Texts | None = None,
    nothing: str = "not measured",
) -> stat.Panel:
    """One figure that can be read from far away; its background says whether it is fine.

    expr: no value, or NaN, while there is nothing to show; the panel is then grey and says which silence it
    is. nothing: that of a figure which was not measured yet. steps: of states, not of limits (see `judged`).
    """
    of_migration = "{p}" not in expr
    silent = "MONITOR IS SILENT" if of_migration else "NO PROCESS ANSWERS"
    texts = {REDIS_SILENT: ("REDIS IS SILENT", UNKNOWN), NOTHING_MEASURED: (nothing, UNKNOWN)}
    shown = f"({expr}) and on () {FRESH if of_migration else FRESH_PROCESSES}"
    panel = _plain_stat(title, text, unit, width, height, silent)
    # Instant: of a range, the last value would go on standing there when the monitor has fallen silent.
    asked = f"{shown} or on () {SILENCE}" if of_migration else shown
    panel.with_target(_target(asked, title, "A").instant())
    panel.thresholds(thresholds(steps or [(None, NEUTRAL)]))
    panel.mappings([*values({**(mappings or {}), **(texts if of_migration else {})}), _without_value(silent)])
    panel.color_mode(common.BigValueColorMode.BACKGROUND if steps else common.BigValueColorMode.VALUE)
    if decimals is not None:
        panel.decimals(decimals)
    return panel


class Judged(NamedTuple):
    """One of the states of a figure: what is said of it, its query, which has a value in that state alone."""

    said: str
    expr: str
    colour: str


def judged(
    title: str,
    text: str,
    unit: str,
    states: Sequence[Judged],
    *,
    width: int = 3,
    height: int = 6,
    decimals: int | None = None,
    nothing: str = "not measured",
) -> stat.Panel:
    """One figure with a judgement beside it, in words and colour.

    A stat panel's thresholds are numbers in its JSON; what is demanded is an option of the operator. So each
    state is a query of its own: exactly one of them has a value, and Grafana colours it by the query.
    """
    silent = "MONITOR IS SILENT"
    panel = _plain_stat(title, text, unit, width, height, silent)
    for position, one in enumerate(states):
        ref = chr(ord("A") + position)
        panel.with_target(_target(f"({one.expr}) and on () {FRESH}", one.said, ref).instant())
        colour = dashboard.DynamicConfigValue(
            id_val="color", value={"mode": "fixed", "fixedColor": one.colour}
        )
        panel.override_by_query(ref, [colour])
    measured = " or ".join(f"({one.expr})" for one in states)
    ref = chr(ord("A") + len(states))
    panel.with_target(_target(f"{SILENCE} unless on () ({measured})", "not known", ref).instant())
    texts = {REDIS_SILENT: ("REDIS IS SILENT", UNKNOWN), NOTHING_MEASURED: (nothing, UNKNOWN)}
    panel.thresholds(thresholds([(None, UNKNOWN)])).mappings([*values(texts), _without_value(silent)])
    panel.color_mode(common.BigValueColorMode.BACKGROUND).text_mode(common.BigValueTextMode.VALUE_AND_NAME)
    if decimals is not None:
        panel.decimals(decimals)
    return panel


def named(
    title: str, text: str, queries: list[tuple[str, str, str]], silent: str, width: int, height: int = 6
) -> stat.Panel:
    """Words: the legends of the series that there are, without their values. queries: (query, legend, "
    "colour).
    """
    panel = _plain_stat(title, text, "none", width, height, silent)
    for position, (expr, legend, colour) in enumerate(queries):
        ref = chr(ord("A") + position)
        panel.with_target(_target(expr, legend, ref).instant())
        fixed = dashboard.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})
        panel.override_by_query(ref, [fixed])
    panel.thresholds(thresholds([(None, UNKNOWN)])).mappings([_without_value(silent)])
    return panel.color_mode(common.BigValueColorMode.VALUE).text_mode(common.BigValueTextMode.NAME)


def lines(
    title: str,
    text: str,
    queries: list[Query],
    unit: str,
    *,
    width: int = 8,
    height: int = 8,
    stacked: bool = False,
    low: float | None = 0,
    high: float | None = None,
) -> timeseries.Panel:
    """Curves over time."""
    panel = _dress(timeseries.Panel(), title, text, unit, width, height, queries)
    panel.fill_opacity(30 if stacked else 8).show_points(common.VisibilityMode.NEVER).span_nulls(False)
    panel.tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    legend = common_builders.VizLegendOptions().show_legend(True)
    panel.legend(legend.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM))
    if low is not None:
        panel.min(low)
    if high is not None:
        panel.max(high)
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    return panel


def coloured(panel: timeseries.Panel, colours: dict[str, str]) -> timeseries.Panel:
    """Colours of curves, named by their legends: else Grafana may draw the good in red and the bad in "
    "green.
    """
    for name, colour in colours.items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_name(name, [dashboard.DynamicConfigValue(id_val="color", value=fixed)])
    return panel


def band(panel: timeseries.Panel, low: str, high: str) -> timeseries.Panel:
    """Fill between two curves, named by their legends."""
    thin = dashboard.DynamicConfigValue(id_val="custom.lineWidth", value=0)
    panel.override_by_name(low, [thin, dashboard.DynamicConfigValue(id_val="custom.fillOpacity", value=0)])
    return panel.override_by_name(
        high,
        [
            thin,
            dashboard.DynamicConfigValue(id_val="custom.fillBelowTo", value=low),
            dashboard.DynamicConfigValue(id_val="custom.fillOpacity", value=20),
        ],
    )


def dashed(panel: timeseries.Panel, name: str, colour: str) -> timeseries.Panel:
    """Draw one curve, named by its legend, as a limit."""
    fixed = {"mode": "fixed", "fixedColor": colour}
    return panel.override_by_name(
        name,
        [
            dashboard.DynamicConfigValue(id_val="color", value=fixed),
            dashboard.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
            dashboard.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [10, 10]}),
        ],
    )


def states(title: str, text: str, query: Query, texts: Texts, width: int, height: int) -> statetimeline.Panel:
    """One bar a series, coloured by its state."""
    panel = _dress(statetimeline.Panel(), title, text, "none", width, height, [query])
    # With words: colour alone is no sign.
    panel.mappings([*values(texts)]).merge_values(True).show_value(common.VisibilityMode.AUTO)
    panel.row_height(0.85).fill_opacity(85)
    return panel


def heat(title: str, text: str, expr: str, width: int, height: int = 8) -> heatmap.Panel:
    """A histogram over time; expr gives its buckets by `le`, in seconds."""
    panel = _dress(heatmap.Panel(), title, text, "s", width, height, [])
    panel.with_target(_target(expr, "{{le}}", "A").format(PromQueryFormat.HEATMAP))
    panel.calculate(False).cell_gap(0)
    panel.y_axis(heatmap.YAxisConfig().unit("s"))
    panel.color(
        heatmap.HeatmapColorOptions()
        .mode(heatmap_models.HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .steps(64)
        .scale(heatmap_models.HeatmapColorScale.EXPONENTIAL)
        .exponent(0.5)
    )
    return panel


def rows_of(
    title: str, text: str, expr: str, columns: dict[str, str], width: int, height: int, no_value: str
) -> table.Panel:
    """A table with one row a series. columns: labels, or `Value` for the number, and their headings."""
    panel = _dress(table.Panel(), title, text, "none", width, height, [])
    panel.with_target(_target(expr, "", "A").format(PromQueryFormat.TABLE).instant())
    panel.no_value(no_value)
    names = {name: index for index, name in enumerate(columns)}
    return panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="filterFieldsByName", options={"include": {"names": list(columns)}}
        )
    ).with_transformation(
        dashboard.DataTransformerConfig(
            id_val="organize", options={"indexByName": names, "excludeByName": {}, "renameByName": columns}
        )
    )


def joined(
    title: str,
    text: str,
    label: str,
    columns: list["Column"],
    width: int,
    height: int,
    no_value: str,
    texts: Texts | None = None,
    worst_first: str = "",
) -> table.Panel:
    """A table with a row for each value of `label`, and a column for each query.

    texts: what stands for the values of `label`; without them, each leads to its view. worst_first: the
    column by whose numbers the rows are sorted, the lowest on top.
    """
    panel = _dress(table.Panel(), title, text, "none", width, height, [])
    named = {label: label.capitalize()}
    for position, column in enumerate(columns):
        ref = chr(ord("A") + position)
        panel.with_target(_target(column.expr, "", ref).format(PromQueryFormat.TABLE).instant())
        panel.override_by_name(column.name, column.properties())
        named[f"Value #{ref}"] = column.name
    here = {"title": "Show it below", "url": f"/d/${{__dashboard.uid}}?var-{label}=${{__value.raw}}"}
    link = dashboard.DynamicConfigValue(id_val="links", value=[here])
    said = dashboard.DynamicConfigValue(id_val="mappings", value=values(texts or {}))
    panel.override_by_name(named[label], [said if texts else link])
    panel.no_value(no_value)
    if worst_first:
        panel.sort_by([common_builders.TableSortByFieldState().display_name(worst_first).desc(False)])
    order = {name: position for position, name in enumerate(named)}
    return (
        panel.with_transformation(
            dashboard.DataTransformerConfig(id_val="joinByField", options={"byField": label, "mode": "outer"})
        )
        .with_transformation(
            dashboard.DataTransformerConfig(
                id_val="filterFieldsByName", options={"include": {"names": list(named)}}
            )
        )
        .with_transformation(
            dashboard.DataTransformerConfig(
                id_val="organize", options={"indexByName": order, "excludeByName": {}, "renameByName": named}
            )
        )
    )


class Column:
    """One column of a joined table: a query with one series for each row."""

    def __init__(
        self,
        name: str,
        expr: str,
        unit: str = "none",
        steps: Steps | None = None,
        *,
        decimals: int | None = None,
        mappings: Texts | None = None,
        nothing: str = "not known",
    ) -> None:
        """nothing: what is shown where a row has no value."""
        self.name, self.expr, self._nothing = name, expr, nothing
        self._unit, self._steps, self._decimals, self._mappings = unit, steps, decimals, mappings

    def properties(self) -> list[dashboard.DynamicConfigValue]:
        found: dict[str, object] = {"unit": self._unit, "noValue": self._nothing}
        if self._decimals is not None:
            found["decimals"] = self._decimals
        if self._mappings:
            found["mappings"] = values(self._mappings)
        if self._steps:
            found["thresholds"] = thresholds(self._steps).build()
            found["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
        return [dashboard.DynamicConfigValue(id_val=name, value=value) for name, value in found.items()]

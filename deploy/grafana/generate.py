"""Make the dashboard: `python -m deploy.grafana.generate > deploy/grafana/dashboards/cutover.json`.

Reads: nothing. Writes: stdout, always the same bytes; a test compares them with the committed file.
Never: edited by hand afterwards: Grafana shows the file as it is (allowUiUpdates: false).
"""

import json

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from deploy.grafana import check_rows, first_rows, machine_rows, rows
from deploy.grafana.panels import DATASOURCE, RUNBOOK

UID = "ddbmm-cutover"
TITLE = "DynamoDB migration: cutover"
#: Title, panels, folded away.
ROWS = (
    ("All migrations", rows.migrations, False),
    ("$migration: go or no-go", first_rows.answer, False),
    ("$migration: checks and alerts", check_rows.checks, False),
    ("$migration: correctness", rows.correctness, False),
    ("$migration: freshness", rows.freshness, False),
    ("$migration: whole table", rows.comparison, True),
    ("$migration: pipeline", machine_rows.pipeline, False),
    ("$migration: AWS and cost", machine_rows.aws, False),
    ("Resources", machine_rows.resources, True),
)


def _query_variable(name: str, label: str, query: str) -> builders.QueryVariable:
    """One that is chosen from a label's values."""
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )


def _several(variable: builders.QueryVariable) -> builders.QueryVariable:
    everything = dashboard.VariableOption(text=["All"], value=["$__all"], selected=True)
    return variable.multi(True).include_all(True).all_value(".+").current(everything)


def _variables() -> list[Builder[dashboard.VariableModel]]:
    prometheus = dashboard.VariableOption(text="Prometheus", value="prometheus", selected=True)
    return [
        builders.DatasourceVariable("datasource").label("Data Source").type("prometheus").current(prometheus),
        _query_variable("migration", "Migration", "label_values(ddbmm_store_up, migration)"),
        _several(_query_variable("job", "Job", "label_values(ddbmm_build_info, job)")),
        _several(
            _query_variable("instance", "Instance", 'label_values(ddbmm_build_info{job=~"$job"}, instance)')
        ),
    ]


def _annotations() -> list[Builder[dashboard.AnnotationQuery]]:
    def made(name: str, colour: str, expr: str, title: str) -> builders.AnnotationQuery:
        query = builders.AnnotationQuery().name(name).datasource(DATASOURCE).enable(True).hide(False)
        return query.icon_color(colour).expr(expr).title_format(title)

    firing = (
        'ALERTS{alertname=~"DynamoDBMigration.+",alertname!="DynamoDBMigrationWatchdog",'
        'alertstate="firing",severity!="info",migration=~"$migration|"}'
    )
    marked = 'max by (mark) (ddbmm_cutover_mark_timestamp_seconds{migration="$migration"}) * 1000'
    return [
        made("Alerts", "red", firing, "{{alertname}}").text_format("{{severity}}").step("60s"),
        made("Milestones", "blue", marked, "{{mark}}").use_value_for_time(True).step("60s"),
    ]


def build() -> dashboard.Dashboard:
    """The whole dashboard, with the identifiers of its panels."""
    made = (
        builders.Dashboard(TITLE)
        .uid(UID)
        .description("Is the target the same as the source, how far behind is it, and may we switch now?")
        .tags(["dynamodb", "migration"])
        .readonly()
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("10s")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .variables(_variables())
        .annotations(_annotations())
        .link(
            builders.DashboardLink("Runbook")
            .type(dashboard.DashboardLinkType.LINK)
            .url(RUNBOOK)
            .target_blank(True)
        )
    )
    for title, panels, folded in ROWS:
        row = builders.Row(title).collapsed(folded)
        if folded:
            for panel in panels():
                row.with_panel(panel)
        made.with_row(row)
        if not folded:
            for panel in panels():
                made.with_panel(panel)
    return _numbered(made.build())


def _numbered(board: dashboard.Dashboard) -> dashboard.Dashboard:
    """Panels get identifiers in their order; links.py writes them into the alerts."""
    rows_and_panels = [each for top in board.panels or [] for each in (top, *getattr(top, "panels", ()))]
    for number, each in enumerate(rows_and_panels, start=1):
        each.id_val = number
    return board


if __name__ == "__main__":
    print(json.dumps(build(), cls=JSONEncoder, indent=2, sort_keys=True))

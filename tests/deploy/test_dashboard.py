"""The committed dashboard is what the generator makes, and keeps the rules of Grafana's dashboard-linter."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy import artifacts
from tests.servers import ROOT

PANELS = [pytest.param(panel, id=panel["title"]) for panel in artifacts.panels()]


def test_the_committed_file_is_what_the_generator_makes() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "deploy.grafana.generate"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert artifacts.DASHBOARD.read_text(encoding="utf-8") == made, "run `make docs`"


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows_in_which_unit(panel: dict) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_shows_the_chosen_migration_or_the_chosen_processes(panel: dict) -> None:
    if panel["title"] in artifacts.overview():
        return
    declared = artifacts.declared()
    for target in panel["targets"]:
        for selector in artifacts.selectors(target["expr"]):
            if selector.metric in artifacts.recorded():
                assert selector.labels == {"migration"}
            elif "migration" in declared.get(selector.metric, ()):
                assert selector.labels == {"migration", "instance"}
            elif selector.metric == "up" or selector.metric in declared:
                assert selector.labels >= {"job", "instance"}


def test_the_overview_has_a_row_for_every_migration_and_leads_to_its_view() -> None:
    [panel] = [panel for panel in artifacts.panels() if panel["title"] in artifacts.overview()]
    for target in panel["targets"]:
        assert artifacts.grouped_by(target["expr"]) <= {"migration"}
        assert not any(selector.labels for selector in artifacts.selectors(target["expr"]))
    links = [
        link["url"]
        for override in panel["fieldConfig"]["overrides"]
        for one in override["properties"]
        if one["id"] == "links"
        for link in one["value"]
    ]
    assert links == ["/d/${__dashboard.uid}?var-migration=${__value.raw}"]


@pytest.mark.parametrize("panel", PANELS)
def test_rates_follow_the_interval_of_the_view(panel: dict) -> None:
    for target in panel["targets"]:
        assert target["expr"].count("[") == target["expr"].count("[$__rate_interval]")


@pytest.mark.parametrize("panel", [p for p in artifacts.panels() if p["type"] in ("stat", "table")])
def test_a_figure_is_asked_for_now_so_that_it_goes_when_its_source_does(panel: dict) -> None:
    assert all(target["instant"] for target in panel["targets"])


def stats() -> list[dict]:
    return [panel for panel in artifacts.panels() if panel["type"] == "stat"]


@pytest.mark.parametrize("panel", stats(), ids=lambda panel: panel["title"])
def test_a_figure_without_a_value_is_grey_and_says_who_is_silent(panel: dict) -> None:
    """Grafana colours a panel without a value as it does the lowest figure, which may be green."""
    mappings = panel["fieldConfig"]["defaults"]["mappings"]
    [special] = [one["options"] for one in mappings if one["type"] == "special"]
    assert special["match"] == "null+nan"
    assert special["result"]["color"] == artifacts.GREY
    assert special["result"]["text"] in ("MONITOR IS SILENT", "NO PROCESS ANSWERS")


def test_a_figure_tells_a_silent_monitor_a_silent_redis_and_nothing_measured_apart(tmp_path: Path) -> None:
    """The queries on a real PromQL engine; each silence has a text of its own, in grey."""
    asked = [panel for panel in stats() if "$migration" in panel["targets"][0]["expr"]]
    up = 'ddbmm_store_up{migration="demo",instance="monitor:9464"}'
    for silent, series, expected in (
        ("monitor", [], None),
        ("Redis", [{"series": up, "values": "0x10"}], "-9"),
        ("nothing measured", [{"series": up, "values": "1x10"}], "-8"),
    ):
        samples = [] if expected is None else [{"labels": "{}", "value": int(expected)}]
        exprs = [artifacts.filled(one["targets"][0]["expr"]) for one in asked if one["title"] != "Redis"]
        artifacts.check_queries(tmp_path, series, [(expr, samples) for expr in exprs])
        for panel in asked:
            mappings = panel["fieldConfig"]["defaults"]["mappings"]
            [texts] = [one["options"] for one in mappings if one["type"] == "value"]
            assert expected is None or texts[expected]["color"] == artifacts.GREY, (silent, panel["title"])


@pytest.mark.parametrize("ratio", [0.9999996, 0.99999999, 0.999995])
def test_a_share_that_is_not_1_never_reads_100_percent(tmp_path: Path, ratio: float) -> None:
    recorded = "migration:ddbmm_keys_right:ratio"
    exprs = [
        artifacts.filled(query.expr)
        for query in artifacts.queries()
        if query.instant and recorded in query.expr
    ]
    assert len(exprs) == 2  # the overview's and the chosen migration's
    series = [{"series": f'{recorded}{{migration="demo"}}', "values": f"{ratio}x10"}]
    shown = [{"labels": '{migration="demo"}', "value": 0.99999}]
    artifacts.check_queries(tmp_path, series, [(expr, shown) for expr in exprs])


def test_a_ledger_that_went_back_to_a_backup_makes_no_peak(tmp_path: Path) -> None:
    exprs = [q.expr for q in artifacts.queries() if q.panel == "Findings opened and recovered"]
    [recovered] = [expr for expr in exprs if "recovered" in expr]
    series = 'ddbmm_ledger_recovered_total{migration="demo",instance="monitor:9464"}'
    restored = [{"series": series, "values": "5000x4 4000x10"}]
    expr = artifacts.filled(recovered).replace("[1m]", "[5m]")
    artifacts.check_queries(tmp_path, restored, [(expr, [{"labels": "{}", "value": 0}])])


def test_panels_have_identifiers_of_their_own_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in artifacts.panels()]
    assert len(ids) == len(set(ids))
    cells: set[tuple[int, int]] = set()
    for panel in artifacts.panels():
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells, panel["title"]
        assert max(x for x, _ in own) < 24
        cells |= own


def test_the_variables_choose_data_source_migration_job_and_instance() -> None:
    variables = {one["name"]: one for one in artifacts.dashboard()["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["label"] == "Data Source"
    assert not variables["migration"].get("multi") and not variables["migration"].get("includeAll")
    for name in ("job", "instance"):
        one = variables[name]
        assert (one["multi"], one["includeAll"], one["allValue"]) == (True, True, ".+")
    for name in ("migration", "job", "instance"):
        one = variables[name]
        assert one["refresh"] == 2  # when the time range changes
        assert one["datasource"]["uid"] == "${datasource}"


def test_the_dashboard_is_found_by_its_identifier_and_not_edited_by_hand() -> None:
    board = artifacts.dashboard()
    assert (board["uid"], board["title"]) == ("ddbmm-cutover", "DynamoDB migration: cutover")
    assert board["editable"] is False
    assert (board["schemaVersion"], board["refresh"], board["graphTooltip"]) == (42, "10s", 1)


def test_annotations_show_alerts_and_milestones() -> None:
    by_name = {one["name"]: one for one in artifacts.dashboard()["annotations"]["list"]}
    assert set(by_name) == {"Alerts", "Milestones"}
    # The value of the metric, in ms, is the time at which the milestone is drawn.
    assert by_name["Milestones"]["useValueForTime"] is True
    assert by_name["Milestones"]["expr"].endswith("* 1000")

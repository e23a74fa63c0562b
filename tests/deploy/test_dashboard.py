"""The committed dashboard is what the generator makes, and keeps the rules of Grafana's dashboard-linter."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.gate import CHECKS
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
                assert selector.labels >= {"migration", "instance"}
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
        intervals = set(re.findall(r"\[.*?\]", target["expr"]))
        assert intervals <= {"[$__rate_interval]"} or (panel["title"], intervals) == (
            "Cost so far",
            {"[$__range]"},
        )


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


def shows_words(panel: dict) -> bool:
    return bool(panel["options"]["textMode"] == "name")


def silence(panel: dict) -> str:
    """The query that says which silence it is: the only one, or the last."""
    return artifacts.filled(panel["targets"][-1]["expr"])


UP = 'ddbmm_store_up{migration="demo",instance="monitor:9464"}'


def test_a_figure_tells_a_silent_monitor_a_silent_redis_and_nothing_measured_apart(tmp_path: Path) -> None:
    """The queries on a real PromQL engine; each silence has a text of its own, in grey."""
    known = ("Redis", "Age of the figures", "Clock")  # as soon as the monitor answers
    asked = [p for p in stats() if "$migration" in p["targets"][0]["expr"] and not shows_words(p)]
    for silent, series, expected in (
        ("monitor", [], None),
        ("Redis", [{"series": UP, "values": "0x10"}], "-9"),
        ("nothing measured", [{"series": UP, "values": "1x10"}], "-8"),
    ):
        samples = [] if expected is None else [{"labels": "{}", "value": int(expected)}]
        exprs = [silence(one) for one in asked if one["title"] not in known]
        artifacts.check_queries(tmp_path, series, [(expr, samples) for expr in exprs])
        for panel in asked:
            mappings = panel["fieldConfig"]["defaults"]["mappings"]
            [texts] = [one["options"] for one in mappings if one["type"] == "value"]
            assert expected is None or texts[expected]["color"] == artifacts.GREY, (silent, panel["title"])


def test_what_a_monitor_said_before_it_went_is_not_shown_as_now(tmp_path: Path) -> None:
    """Prometheus that is restarted meanwhile gives the last sample for five minutes: GO, of a dead monitor.

    The queries of every tile and table, over samples of all that they ask for; the last is two minutes old.
    """
    asked = [p for p in artifacts.panels() if p["type"] in ("stat", "table") and p["title"] != "Alerts"]
    aged = {"Age of the figures", "Clock"}  # which is what they are there to show
    exprs = [
        artifacts.filled(target["expr"])
        for panel in asked
        for target in panel["targets"]
        if panel["title"] not in aged | artifacts.overview()
    ]
    labels = 'migration="demo",instance="monitor:9464",job="ddbmm"'
    names = {selector.metric for expr in exprs for selector in artifacts.selectors(expr)}
    # Recorded figures are made anew of old samples, and so seem young.
    old = [
        {"series": f"{name}{{{labels}}}", "values": "1x3" if name not in artifacts.recorded() else "1x10"}
        for name in names
    ]
    artifacts.check_queries(tmp_path, old, [(expr, []) for expr in exprs])


def test_a_migration_whose_monitor_is_silent_stays_in_the_overview_in_grey(tmp_path: Path) -> None:
    [panel] = [panel for panel in artifacts.panels() if panel["title"] in artifacts.overview()]
    [gate] = [t["expr"] for t in panel["targets"] if "cutover_gate" in t["expr"]]
    series = [
        {"series": 'migration:ddbmm_watched:last1d{migration="demo"}', "values": "1x10"},
        {"series": 'migration:ddbmm_cutover_gate:state{migration="demo"}', "values": "1x10"},
    ]
    shown = [{"labels": '{migration="demo"}', "value": -9}]
    artifacts.check_queries(tmp_path, series, [(gate, shown)])
    fresh = [*series, {"series": UP, "values": "1x10"}]
    named = 'migration:ddbmm_cutover_gate:state{migration="demo"}'
    artifacts.check_queries(tmp_path, fresh, [(gate, [{"labels": named, "value": 1}])])


# --- judgements --------------------------------------------------------------------------------------------


def panel_of(title: str) -> dict:
    [panel] = [panel for panel in artifacts.panels() if panel["title"] == title]
    return panel


def judgement(tmp_path: Path, title: str, state: str, figures: dict[str, float]) -> str:
    """Checks that the panel is in this state and in no other, with these metrics; its colour."""
    panel = panel_of(title)
    series = [{"series": UP, "values": "1x10"}]
    for name, value in figures.items():
        of_monitor = "" if name in artifacts.recorded() else ',instance="monitor:9464"'
        base, _, more = name.partition("|")
        labels = f'{{migration="demo"{of_monitor}{"," + more if more else ""}}}'
        series.append({"series": base + labels, "values": f"{value}x10"})
    states = {t["legendFormat"]: artifacts.filled(t["expr"]) for t in panel["targets"]}
    artifacts.check_queries(
        tmp_path, series, [(f"count({expr})", []) for said, expr in states.items() if said != state]
    )
    artifacts.check_queries(tmp_path, series, [(f"count({states[state]})", [{"labels": "{}", "value": 1}])])
    [ref] = [t["refId"] for t in panel["targets"] if t["legendFormat"] == state]
    [override] = [o for o in panel["fieldConfig"]["overrides"] if o["matcher"]["options"] == ref]
    return str(override["properties"][0]["value"]["fixedColor"])


NOBODY_LOOKS = "NOBODY LOOKS: not known since"
OBJECTIVE, LOW = "ddbmm_cutover_objective_ratio", "migration:ddbmm_keys_right_low_ratio:max"
HIGH = "migration:ddbmm_keys_right_high_ratio:max"
LAG = {
    "ddbmm_cutover_lag_limit_seconds": 60.0,
    "ddbmm_cutover_look_delay_limit_seconds": 30.0,
    "ddbmm_looks_overdue_seconds": 0.2,
    "ddbmm_validator_processes": 2.0,
    "ddbmm_replication_delay_seconds": 2.9,
}


@pytest.mark.parametrize(
    ("title", "figures", "state", "colour"),
    [
        ("At least (95 %)", {OBJECTIVE: 0.97, LOW: 0.975, HIGH: 0.99}, "as demanded", "green"),
        ("At least (95 %)", {OBJECTIVE: 0.999995, LOW: 0.999996, HIGH: 1}, "as demanded", "green"),
        ("At least (95 %)", {OBJECTIVE: 0.999, LOW: 0.9989, HIGH: 1}, "not proven yet", "orange"),
        ("At least (95 %)", {OBJECTIVE: 0.999, LOW: 0.99, HIGH: 0.998}, "fewer than demanded", "red"),
        ("Replication lag now", LAG, "within what is allowed", "green"),
        (
            "Replication lag now",
            {**LAG, "ddbmm_replication_delay_seconds": 61.0},
            "more than is allowed",
            "red",
        ),
        (
            "Replication lag now",
            {**LAG, "ddbmm_looks_overdue_seconds": 31},
            "NOBODY LOOKS: not known since",
            "red",
        ),
        ("Replication lag now", {**LAG, "ddbmm_validator_processes": 0}, NOBODY_LOOKS, "red"),
        ("Open findings", {"migration:ddbmm_mismatches_open:sum": 1}, "keys are wrong", "red"),
        ("Validators", {"ddbmm_validator_processes": 0}, "NOTHING IS JUDGED", "red"),
        (
            "Keys compared",
            {"ddbmm_keys_judged": 3000, "ddbmm_cutover_keys_needed": 3688},
            "too few to prove it",
            "orange",
        ),
    ],
)
def test_a_figure_is_judged_by_what_the_gate_demands(
    tmp_path: Path, title: str, figures: dict[str, float], state: str, colour: str
) -> None:
    """By what is exported: at an objective of 97 % a GO stood beside a red "at least"."""
    assert judgement(tmp_path, title, state, figures) == colour


@pytest.mark.parametrize("panel", PANELS)
def test_no_threshold_is_a_number_of_the_dashboard(panel: dict) -> None:
    """States (UP, GO, balanced, none open) have steps; limits are exported by the monitor."""
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
    assert all(step["value"] in (None, -1, 0, 1, 2) for step in steps)


def test_the_checks_stand_with_their_limits_and_every_check_has_one(tmp_path: Path) -> None:
    limits = {name for name in artifacts.declared() if re.search(r"limit|objective|needed|demanded", name)}
    own = {"ddbmm_queue_limit_entries", "ddbmm_memory_limit_bytes", "ddbmm_rate_limit_wait_seconds_total"}
    exprs = [target["expr"] for target in panel_of("Checks")["targets"]]
    shown = {selector.metric for expr in exprs for selector in artifacts.selectors(expr)}
    assert limits - own <= shown
    named = set(re.findall(r'"check", "([a-z-]+)"', " ".join(exprs)))
    assert named == set(CHECKS)


def test_the_curves_of_what_is_good_are_not_red_and_of_what_is_bad_not_green() -> None:
    colours = {
        o["matcher"]["options"]: o["properties"][0]["value"]["fixedColor"]
        for o in panel_of("Findings opened and recovered")["fieldConfig"]["overrides"]
    }
    assert colours["recovered"] == "green"
    assert not {"green"} & {colours[kind] for kind in ("missing", "stale", "different", "extra")}


def test_the_time_line_of_the_checks_says_its_states_in_words() -> None:
    panel = panel_of("Gate checks")
    assert panel["options"]["showValue"] != "never"
    texts = {
        text["text"] for m in panel["fieldConfig"]["defaults"]["mappings"] for text in m["options"].values()
    }
    assert texts == {"passed", "failed", "cannot be told yet"}


def test_what_shows_one_migration_says_which() -> None:
    rows = [panel["title"] for panel in artifacts.dashboard()["panels"] if panel["type"] == "row"]
    assert all("$migration" in title for title in rows if title not in (artifacts.OVERVIEW, "Resources"))


@pytest.mark.parametrize("ratio", [0.9999996, 0.99999999, 0.999995])
def test_a_share_that_is_not_1_never_reads_100_percent(tmp_path: Path, ratio: float) -> None:
    recorded = "migration:ddbmm_keys_right:ratio"
    [overview] = [q.expr for q in artifacts.queries() if q.panel == "Migrations" and recorded in q.expr]
    chosen = panel_of("Right keys")["targets"][0]["expr"]
    series = [
        {"series": f'{recorded}{{migration="demo"}}', "values": f"{ratio}x10"},
        {"series": UP, "values": "1x10"},
        {"series": OBJECTIVE + '{migration="demo",instance="monitor:9464"}', "values": "0.97x10"},
    ]
    shown = [{"labels": '{migration="demo"}', "value": 0.99999}]
    exprs = [artifacts.filled(expr) for expr in (overview, chosen)]
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

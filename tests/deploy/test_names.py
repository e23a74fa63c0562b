"""Dashboard, rules and program speak of the same metrics: both ways."""

import pytest

from tests.deploy import artifacts

#: Metrics that are on no panel, and why.
NOT_SHOWN = {
    "ddbmm_cost_requests_total": "the panel Requests shows them as they are sent",
    "ddbmm_cost_units_total": "the panel Read units shows them as they are consumed",
    "ddbmm_sample_ratio": "what was configured: the share that is followed now is shown",
    "ddbmm_sample_lowered": "of the alert",
    "ddbmm_ledger_records_total": "the panel Changes read shows the same by type, from the reader",
    "ddbmm_ledger_records_read_total": "as ledger_records_total",
    "ddbmm_ledger_looks_without_progress_total": "the panel Looks shows validations_undecided_total",
    "ddbmm_ledger_matches_total": "the panel Looks shows validation_matches_total",
    "ddbmm_ledger_mismatches_total": "the panel Findings opened and recovered shows the validators' count",
    "ddbmm_stream_gaps_total": "the panel Losses of records shows those that are open; status lists all",
    "ddbmm_comparison_started_timestamp_seconds": "the panel Comparison finished tells what matters of it",
    "ddbmm_converge_within_seconds": "status and gate say it, and only --converge-within auto has it",
    "ddbmm_ledger_reads_strong_total": "a share of ledger_reads_total that only a developer asks for",
}
EVERYTHING = [
    *(pytest.param(q.expr, id=f"panel {q.panel}: {q.legend}") for q in artifacts.queries()),
    *(pytest.param(expr, id=f"annotation {n}") for n, expr in enumerate(artifacts.annotations())),
    *(
        pytest.param(rule["expr"], id=f"rule {n} {rule.get('alert') or rule['record']}")
        for n, rule in enumerate(artifacts.rules())
    ),
]


def known() -> dict[str, set[str]]:
    return artifacts.declared() | artifacts.FOREIGN


@pytest.mark.parametrize("expr", EVERYTHING)
def test_every_metric_and_label_of_a_query_exists(expr: str) -> None:
    names, records = known(), artifacts.recorded()
    labels: set[str] = set()
    for selector in artifacts.selectors(expr):
        if selector.metric in records:
            assert selector.labels <= {"migration"}
            labels |= {"migration", "side"}
            continue
        assert selector.metric in names, f"{selector.metric} is exported by nobody"
        assert selector.labels <= names[selector.metric]
        labels |= names[selector.metric]
    assert artifacts.grouped_by(expr) <= labels


@pytest.mark.parametrize("expr", EVERYTHING)
def test_a_second_monitor_doubles_no_figure(expr: str) -> None:
    counted = {"ddbmm_store_up"}  # monitors themselves are counted, by role
    assert not artifacts.added_up(expr) & artifacts.of_the_monitor() - counted


@pytest.mark.parametrize("query", artifacts.queries(), ids=lambda q: f"{q.panel}: {q.legend}")
def test_every_label_of_a_legend_survives_the_query(query: artifacts.Query) -> None:
    if "by" in query.expr:
        assert artifacts.legend_labels(query.legend) <= artifacts.grouped_by(query.expr)
    else:
        assert not artifacts.legend_labels(query.legend)


def test_every_metric_is_on_the_dashboard_or_is_left_out_for_a_reason() -> None:
    exprs = [*(query.expr for query in artifacts.queries()), *artifacts.annotations()]
    shown = {selector.metric for expr in exprs for selector in artifacts.selectors(expr)}
    for rule in artifacts.rules():  # a recorded figure shows what it is made of
        if rule.get("record") in shown:
            shown |= {selector.metric for selector in artifacts.selectors(rule["expr"])}
    shown = {artifacts.family(name) for name in shown}
    exported = {artifacts.family(name) for name in artifacts.declared()}
    assert exported - shown == set(NOT_SHOWN)


def test_every_recorded_figure_is_used() -> None:
    exprs = [query.expr for query in artifacts.queries()] + [rule["expr"] for rule in artifacts.rules()]
    used = {selector.metric for expr in exprs for selector in artifacts.selectors(expr)}
    assert artifacts.recorded() <= used

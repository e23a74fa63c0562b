"""Two migrations side by side: one that is bad alerts as it does alone, one that is fine alerts for nothing.

Every alert's own cases, put together: one that fires, and beside it one that does not, of another migration
and of other processes. What is asked `on ()`, or joined by too little, would make one speak for the other.
"""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import artifacts
from tests.deploy.test_rules import OF_PROCESSES, promtool

Case = dict[str, Any]
#: As they are written: "0x60" is no number, but a zero that comes sixty times more.
FILES = [yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader) for file in artifacts.RULE_TESTS]
NAMES = sorted({alert["alert"] for alert in artifacts.alerts()} - OF_PROCESSES)


def cases(name: str, *, firing: bool) -> list[tuple[Case, Case]]:
    """Cases of an alert, each with what is asked of it."""
    return [
        (case, one)
        for file in FILES
        for case in file["tests"]
        for one in case.get("alert_rule_test", [])
        if one["alertname"] == name and bool(one.get("exp_alerts")) is firing
    ]


def neighbour(case: Case) -> list[dict[str, str]]:
    """Its series, as another migration's and other processes'."""
    renamed = []
    for one in case["input_series"]:
        series = re.sub(r'\b(migration|instance)="', r'\1="calm-', one["series"])
        renamed.append({**one, "series": series})
    return renamed


def together(name: str) -> list[Case]:
    """Cases that fire, each with a calm one beside it: calm at the same instant, where there are such."""
    firing, calm = cases(name, firing=True), cases(name, firing=False)
    pairs = [(one, other) for one in firing for other in calm]
    at_once = [(one, other) for one, other in pairs if one[1]["eval_time"] == other[1]["eval_time"]]
    made = []
    for (case, asked), (other_case, _) in at_once or pairs:
        both = copy.deepcopy(case)
        both["input_series"] += neighbour(other_case)
        both["alert_rule_test"] = [asked]
        both.pop("promql_expr_test", None)
        both["name"] = f"{case['name']} BESIDE {other_case['name']}"
        made.append(both)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_only_the_bad_one_alerts(name: str, tmp_path: Path) -> None:
    found = together(name)
    assert found
    head = {
        **FILES[0],
        "rule_files": [str(file) for file in artifacts.RULES],
        "tests": found,
    }
    file = tmp_path / "two.yml"
    file.write_text(yaml.safe_dump(head, sort_keys=False), encoding="utf-8")
    ended = promtool("test", "rules", file)
    assert ended.returncode == 0, ended.stdout + ended.stderr

"""Plans: the table of the first version of this tool, and that no plan promises too much."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli import main
from pipeline.config import load
from pipeline.core.planning import Question, keys_to_see, plans
from pipeline.errors import UsageError


def test_thirty_million_keys_at_one_percent_are_as_they_were_planned() -> None:
    """300,000 keys, 300 with a defect in 0.1 %; ± 0.18 % at worst, ± 0.036 % where 99 % are right."""
    [plan] = [one for one in plans(Question(30_000_000, 0.001, 400)) if one.percent == 1]
    assert plan.keys == 300_000 and plan.shows == pytest.approx(300)
    assert round(plan.margin_worst * 100, 2) == 0.18 and round(plan.margin_usual * 100, 3) == 0.036
    assert plan.misses < 1e-100 and plan.proves < 0.00002


@given(st.integers(1, 10**9), st.floats(1e-6, 0.5), st.integers(1, 400_000))
def test_a_larger_sample_sees_more_and_costs_more(keys: int, defect: float, item_bytes: int) -> None:
    found = plans(Question(keys, defect, item_bytes, max_rcu=100))
    assert found[-1].percent == 100 and found[-1].keys == keys and found[-1].misses == 0
    for smaller, larger in itertools.pairwise(found):
        assert smaller.keys <= larger.keys and smaller.dollars <= larger.dollars
        assert smaller.misses >= larger.misses and smaller.proves >= larger.proves
        assert smaller.margin_worst >= larger.margin_worst >= larger.margin_usual


@given(st.floats(1e-6, 0.99))
def test_so_many_keys_show_a_defect_with_the_confidence_that_is_said(defect: float) -> None:
    keys = keys_to_see(defect)
    assert (1 - defect) ** keys <= 0.05 * (1 + 1e-9)
    assert keys == 1 or (1 - defect) ** (keys - 1) > 0.05 * (1 - 1e-9)


def test_the_command_prints_a_table_of_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--keys", "30000000", "--detect", "0.1%", "--max-rcu", "1000"]) == 0
    said = capsys.readouterr().out
    [row] = [line for line in said.splitlines() if line.split()[:2] == ["1", "%"]]
    assert "300,000" in row and "± 0.18 %" in row and "300 ×" in row
    assert max(map(len, said.splitlines())) <= 80
    assert main(["plan"]) == 2
    assert main(["plan", "--keys", "1000000", "--detect", "0.001%", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"][-1]["seconds"] is None
    assert main(["plan", "--keys", "1000000", "--detect", "0.001%"]) == 0
    assert "0.001 ×" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["0", "100%", "x", "-1%", "", "nan"])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a share"):
        load(["plan", f"--detect={text}"], {})

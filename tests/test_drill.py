"""The drill in small, against the real program; and the interval's honesty. `make drill` runs all of it."""

from pathlib import Path

import pytest

from tests.drill.imported import Case, case_of
from tests.drill.interval import covered
from tests.drill.run import drill
from tests.drill.scenarios import FULL, SMALL, Scenario


@pytest.mark.parametrize("scenario", SMALL, ids=lambda scenario: scenario.name)
def test_every_planted_fault_is_found_and_nothing_else_is_said(
    tmp_path: Path, valkey_url: str, scenario: Scenario
) -> None:
    report = drill(scenario, valkey_url, tmp_path)
    assert report.score.planted, "or the drill proves nothing"
    assert report.score.missed == {}
    assert report.score.false_alarms == {}
    assert report.score.groundless == set()
    assert report.perfect, report.ledger


def test_the_true_share_of_right_keys_lies_within_the_stated_interval_in_95_of_100_repetitions() -> None:
    assert covered(range(100)) >= 95


def test_the_full_drill_is_a_million_changes_and_a_million_cold_items() -> None:
    assert sum(scenario.changes for scenario in FULL) >= 1_000_000
    assert sum(scenario.cold_items for scenario in FULL) == 1_000_000
    [compared] = [scenario for scenario in FULL if scenario.cold_items]
    assert compared.hot_keys + compared.cold_keys == 0.01 * compared.cold_items
    assert {case_of(number, 1_000_000) for number in range(1_000_000)} == {*Case, None}

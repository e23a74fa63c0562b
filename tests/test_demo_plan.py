"""The replicator's plan: what a file may say, and that the same seed plants the same faults."""

import random
from collections import Counter
from pathlib import Path

import pytest

from pipeline.core.model import ChangeType, VerdictKind
from pipeline.demo import tables, traffic
from pipeline.demo.imported import SPOILT, contents
from pipeline.demo.plan import DEFAULT_PLAN, Fault, Imported, Lag, Picker, Plan, Rule, load
from pipeline.demo.truth import divergent
from pipeline.errors import UsageError


def plan_file(directory: Path, text: str) -> Path:
    path = directory / "plan.yaml"
    path.write_text(text)
    return path


def test_the_shipped_plan_has_every_kind_of_fault():
    assert {rule.fault for rule in load(DEFAULT_PLAN).faults} == set(Fault)


def test_the_shipped_plan_has_every_kind_of_import_gone_wrong():
    imported = load(DEFAULT_PLAN).imported
    assert imported.lost and imported.left_over and imported.spoiled >= len(SPOILT)


def test_the_import_gets_wrong_what_the_plan_says_and_nothing_else():
    source, target = (
        {tables.key_text(item): item for item in items} for items in contents(Imported(3, 6, 2), seed=4)
    )
    kinds = Counter(divergent(source, target, {}).values())
    assert kinds == {VerdictKind.MISSING: 3, VerdictKind.DIFFERENT: 6, VerdictKind.EXTRA: 2}
    written = {tables.key_text(write.key) for write in traffic.script(4, 5000)}
    assert not written & divergent(source, target, {}).keys()


def test_a_plan_can_be_json(tmp_path: Path):
    path = plan_file(tmp_path, '{"faults": [{"fault": "drop", "of": ["INSERT"], "at_most": 2}]}')
    assert load(path) == Plan(faults=[Rule(fault=Fault.DROP, of=[ChangeType.INSERT], at_most=2)])


def test_an_empty_plan_is_a_faultless_replicator(tmp_path: Path):
    assert load(plan_file(tmp_path, "# nothing\n")) == Plan()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("faults: [", "is not YAML"),
        ("fault: drop", "unknown field `fault`"),
        ("faults: [{fault: explode}]", "Invalid enum value 'explode' - at `$.faults[0].fault`"),
        ("faults: [{fault: drop, of: [DELETE]}]", "Invalid enum value 'DELETE' - at `$.faults[0].of[0]`"),
        ("faults: [{fault: drop, percent: many}]", "Expected `float`, got `str` - at `$.faults[0].percent`"),
        ("faults: [{fault: drop, at_mots: 3}]", "unknown field `at_mots` - at `$.faults[0]`"),
        (
            "faults: [{fault: drop, of: [REMOVE]}]",
            "faults[0] (drop): `of` cannot be REMOVE, only INSERT, MODIFY",
        ),
        ("faults: [{fault: leave-extra, of: [INSERT]}]", "`of` cannot be INSERT, only REMOVE"),
        ("faults: [{fault: drop, percent: 0}]", "`percent` must be more than 0 and at most 100"),
        ("faults: [{fault: drop, at_most: 0}]", "`at_most` must be at least 1"),
        ("faults: [{fault: drop, by_ms: 5}]", "`by_ms` has no meaning here"),
        ("faults: [{fault: delay}]", "`by_ms` must be positive"),
        ("import: {lost: 100, spoiled: 51}", "import: none may be negative, and all together at most 150"),
        ("import: {left_over: 1}", "unknown field `left_over` - at `$.import`"),
        ("lag: {median_ms: 100, p99_ms: 50}", "lag: must be 0 < median_ms <= p99_ms"),
    ],
)
def test_a_wrong_plan_is_refused_with_file_place_and_mend(tmp_path: Path, text: str, said: str):
    path = plan_file(tmp_path, text)
    with pytest.raises(UsageError) as refused:
        load(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_missing_plan_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"cannot read the plan .*No such file"):
        load(tmp_path / "none.yaml")


def test_every_problem_of_a_plan_is_named_at_once(tmp_path: Path):
    path = plan_file(tmp_path, "faults: [{fault: drop, percent: 0}, {fault: delay}]")
    with pytest.raises(UsageError, match=r"faults\[0\] .*; faults\[1\] "):
        load(path)


def picks(plan: Plan, seed: int) -> list[Fault | None]:
    picker = Picker(plan, seed)
    rules = [picker.pick(ChangeType.MODIFY, f"key#{n % 50}", f"key#{n % 50}", n // 50) for n in range(1000)]
    return [rule.fault if rule else None for rule in rules]


def test_the_same_seed_plants_the_same_faults_and_another_one_others():
    plan = Plan(faults=[Rule(fault=Fault.DROP, percent=10), Rule(fault=Fault.CORRUPT, percent=10)])
    assert picks(plan, 1) == picks(plan, 1)
    assert picks(plan, 1) != picks(plan, 2)


def test_percent_and_at_most_are_kept():
    found = picks(Plan(faults=[Rule(fault=Fault.DROP, percent=20)]), 7)
    assert 150 < found.count(Fault.DROP) < 250
    assert picks(Plan(faults=[Rule(fault=Fault.DROP, at_most=3)]), 7).count(Fault.DROP) == 3


def test_the_first_rule_that_fits_wins():
    plan = Plan(faults=[Rule(fault=Fault.DROP, keys="key#7"), Rule(fault=Fault.CORRUPT)])
    assert set(picks(plan, 1)[7::50]) == {Fault.DROP}
    assert set(picks(plan, 1)[8::50]) == {Fault.CORRUPT}


def test_lag_follows_its_median_and_p99():
    rng = random.Random(1)
    drawn = sorted(Lag(median_ms=300, p99_ms=1500).draw(rng) for _ in range(20_000))
    assert drawn[10_000] == pytest.approx(300, rel=0.05)
    assert drawn[19_800] == pytest.approx(1500, rel=0.1)
    assert drawn[-1] <= 3000


def test_no_lag_is_possible():
    assert Lag(median_ms=0, p99_ms=0).draw(random.Random(1)) == 0

"""docs/scaling.md says what the simulation says, and the simulation notices when a rule is missing."""

from tools.cells import DOCUMENT, Measured, Rule, filled_in, outcome, tables, touched


def test_the_page_holds_what_is_simulated() -> None:
    document = DOCUMENT.read_text()
    assert filled_in(document, tables(Measured())) == document, "run: python -m tools.cells --write"


def test_every_rule_but_the_fence_is_needed() -> None:
    wrong = {rule: sum(outcome(seed, rule) != (0, 0) for seed in range(200)) for rule in Rule}
    assert wrong[Rule.ALL] == 0
    assert {rule for rule, runs in wrong.items() if runs} == {
        Rule.NO_POSITION,
        Rule.EARLY_CHECKPOINT,
        Rule.NO_COMPARISON,
    }


def test_a_page_of_many_changes_touches_every_cell_and_one_of_a_single_change_one() -> None:
    assert touched(8, 1) == 1
    assert 7.9 < touched(8, 1_000) <= 8

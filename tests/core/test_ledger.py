"""The books: when they balance, and what is said when they do not."""

import pytest

from pipeline.core.ledger import Ledger


def test_books_that_balance() -> None:
    ledger = Ledger(
        records_read=12, not_sampled=2, versions_published=10, reached=7, alarmed=1, outstanding=2
    )
    assert ledger.balanced and ledger.imbalance == ""
    assert Ledger().balanced


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"records_read": 11}, "11 records read ≠ 0 + 10"),
        ({"reached": 9}, "10 versions published ≠ 9 + 0 + 0 + 0 + 0 + 0"),
        # What a user without PFADD left: histories written twice, counted once.
        ({"reached": 25, "outstanding": -15}, "outstanding is -15"),
        ({"reached": 11, "alarmed": -1}, "alarmed is -1"),
        ({"not_sampled": -1, "records_read": 9}, "not_sampled is -1"),
        ({"open": {"missing": -1}}, "open missing is -1"),
        ({"matches": -1}, "matches is -1"),
    ],
)
def test_books_that_do_not_balance_say_what_is_wrong(wrong: dict[str, object], said: str) -> None:
    ledger = Ledger(**{"records_read": 10, "versions_published": 10, "reached": 10, **wrong})  # type: ignore[arg-type]
    assert not ledger.balanced
    assert ledger.imbalance.startswith(said)

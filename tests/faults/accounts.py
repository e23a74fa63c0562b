"""What must be true after every fault, and the table that tells it.

Reads: the store. Writes: rows for the table. Never: the program's own commands; it counts for itself.
"""

from typing import NamedTuple, cast

from pipeline.core.judging.history import History
from pipeline.store import FiguresView, codec
from tests.places import Places


class Row(NamedTuple):
    """One case. Lost, double: versions against writes; false alarms, missed: findings against the truth."""

    case: str
    kills: int
    versions: int
    lost: int
    double: int
    false_alarms: int
    missed: int


ROWS: list[Row] = []


def table() -> list[str]:
    titles = ("case", "kills", "versions", "lost", "double", "false alarms", "missed")
    sums = ("total", *(sum(column) for column in list(zip(*ROWS, strict=True))[1:]))
    lines = [titles, *ROWS, sums]
    widths = [max(len(str(line[at])) for line in lines) for at in range(len(titles))]
    return [
        "  ".join(
            str(cell).ljust(width) if at == 0 else str(cell).rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def assert_books_balance(store: FiguresView) -> None:
    """The accounting identity; and what the histories hold is what the ledger says is outstanding."""
    for _ in range(20):
        ledger, histories = store.ledger(), histories_of(store)
        if store.ledger() == ledger:  # nothing happened between the two
            break
    assert ledger.balanced, ledger
    held = sum(one.outstanding for one in histories.values())
    assert (held, sum(one.alarmed for one in histories.values())) == (ledger.outstanding, ledger.alarmed)


def assert_each_key_in_one_place(store: FiguresView) -> None:
    """A key with a history stands in one entry of the work stream or of `due`; no other key does."""
    assert Places(store).faults() == []


def histories_of(store: FiguresView) -> dict[bytes, History]:
    raw = cast(dict[bytes, bytes], store._redis.hgetall(store._key("history")))
    return {key: codec.decode(history) for key, history in raw.items()}

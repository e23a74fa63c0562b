"""What was asked of AWS, as the store has counted it: in all, and by the minute.

Reads: answers of Redis. Writes: nothing. Never: redis.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.core.cost import WINDOW_MINUTES, Spending, bill_of
from pipeline.store.answers import whole

_TOTAL = "cost"


def cost_questions(key: Callable[[str], str], now_ms: int) -> dict[str, tuple[str | int, ...]]:
    """What is asked, each by a name of its own."""
    minutes = [f"{_TOTAL}:{now_ms // 60_000 - ago}" for ago in range(WINDOW_MINUTES + 1)]
    return {name: ("HGETALL", key(name)) for name in (_TOTAL, *minutes)}


def spending_of(told: Mapping[str, Any]) -> Spending:
    """told: the answers, among others. Raises ValueError for what nobody counted."""
    bills = {
        name: bill_of({one.decode(): whole(count) for one, count in told[name].items()})
        for name in told
        if name.partition(":")[0] == _TOTAL
    }
    total = bills.pop(_TOTAL)
    return Spending(total, {int(name.partition(":")[2]): bill for name, bill in bills.items()})

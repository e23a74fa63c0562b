"""Keeps what a comparison's Scans cost within --max-cost-per-hour: they go slower, and leave nothing out.

Reads: what was spent. Writes: nothing but the pace. Never: AWS, redis.

The watch of the stream comes first: Scans have what it leaves, a tenth of the budget at least. As with
--max-rcu, the comparers of one host share a limit, and each host has its own.
"""

import time
from collections.abc import Callable, Mapping

import structlog

from pipeline.comparer.pace import SidePace
from pipeline.core.budget import comparison_share, least_limit, money
from pipeline.core.cost import Terms
from pipeline.core.model import Side
from pipeline.store import CompareStore

log = structlog.get_logger(__name__)

#: Between two looks at what is spent.
EVERY_SECONDS = 10.0


class Budget:
    """Of one comparison, in one comparer."""

    def __init__(
        self,
        store: CompareStore,
        terms: Terms,
        paces: Mapping[Side, SidePace],
        max_rcu: float,
        processes: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """paces: of the sides that are scanned. max_rcu: this process's share, 0 = no limit. processes: that
        share the budget.
        """
        self._store, self._terms, self._paces = store, terms, paces
        self._max_rcu, self._processes = max_rcu, processes
        self._monotonic = monotonic
        self._due = float("-inf")
        self._told = False

    def keep(self) -> None:
        """To be called once a second. Raises StoreError."""
        if not self._terms.budget or not self._paces or self._monotonic() < self._due:
            return
        self._due = self._monotonic() + EVERY_SECONDS
        now_ms = self._store.now_ms()
        share = comparison_share(self._store.spending(), self._terms, now_ms, self._store.meta.started_ms)
        share /= self._processes
        limit = least_limit(self._max_rcu, share, self._terms.prices, self._paces.keys())
        for pace in self._paces.values():
            pace.limit(limit)
        if not self._told:
            self._told = True
            log.info("scans keep to the budget", an_hour=money(share), units_a_second=round(limit, 1))

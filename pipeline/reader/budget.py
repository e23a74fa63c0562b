"""Keeps what the watch of the stream costs within --max-cost-per-hour: the sample is lowered, visibly.

Reads: what was spent, the sample in use. Writes: the sample in use, through the store. Never: AWS, redis.

Any reader may lower it; of several that want to, one does (lua/lower.lua). No reader raises it but at its
start, where the operator allows more than when it was lowered.
"""

import time
from collections.abc import Callable

import structlog

from pipeline.core.budget import InUse, Lowered, in_words, lower_sample, no_help, raise_sample
from pipeline.core.cost import Terms
from pipeline.store import ReaderStore

log = structlog.get_logger(__name__)

#: Between two looks at what is spent.
EVERY_SECONDS = 10.0


class Budget:
    """Of one migration, in one reader."""

    def __init__(
        self,
        store: ReaderStore,
        terms: Terms,
        begun_percent: float,
        settle_ms: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """settle_ms: how long histories that are open when the sample is lowered may go on."""
        self._store, self._terms = store, terms
        self._begun_percent, self._settle_ms = begun_percent, settle_ms
        self._monotonic = monotonic
        self._due = float("-inf")
        self._started = False  # the sample was raised, or need not be
        self._told_no_help = False

    def keep(self) -> None:
        """To be called once a second, after `ReaderStore.spend`. Raises StoreError."""
        if self._monotonic() < self._due:
            return
        self._due = self._monotonic() + EVERY_SECONDS
        sample = InUse(self._begun_percent, self._store.meta.started_ms, self._store.lowered)
        if not self._started:
            self._raise(sample)
        elif self._terms.budget:
            self._lower(sample)

    def _raise(self, sample: InUse) -> None:
        raised = raise_sample(self._terms, self._store.now_ms(), sample)
        if raised is None:
            if said := in_words(sample):
                log.warning("the sample stays lowered", reason=said)
            self._started = True
        elif self._store.lower(raised):
            log.warning("sample raised again", percent=raised.percent, before=sample.percent)
            self._started = True

    def _lower(self, sample: InUse) -> None:
        spending, now_ms = self._store.spending(), self._store.now_ms()
        lowered = lower_sample(spending, self._terms, now_ms, sample, self._settle_ms)
        if lowered is not None and self._store.lower(lowered):
            log.warning("sample lowered", reason=in_words(self._as(lowered)), before=sample.percent)
        why = no_help(spending, self._terms, now_ms, sample)
        if why and not self._told_no_help:
            log.warning("above --max-cost-per-hour", reason=why)
        self._told_no_help = bool(why)

    def _as(self, lowered: Lowered) -> InUse:
        return InUse(self._begun_percent, self._store.meta.started_ms, lowered)

"""The rule where clocks err: a process knows AWS's time to about a second, and learns better now and then.

No step of Redis' clock or a host's reaches a process (`tests/test_clocks.py`); what is left are errors of
each process's own, which jump whenever it learns. No alarm may be false for it, and nothing may be missed.
"""

import random

import msgspec
import pytest

from pipeline.core.judging.history import History, Judgement
from pipeline.core.model import Change, Look, Moment
from pipeline.producers.base import CLOCKS_APART_MS
from pipeline.store import codec
from tests.core import simulation
from tests.core.reference import append, brought_forward
from tests.core.simulation import Outcome
from tests.core.test_simulation import SCENARIOS
from tests.core.ttl_world import START_MS
from tests.core.world import World

#: Of one process against AWS: two of them are then as far apart as they may be.
ERROR_MS = CLOCKS_APART_MS // 2
#: How long a process errs by the same amount.
LEARNS_EVERY_MS = 15_000


class Erring(simulation._Key):
    """A key whose reader and whose validator each go by a clock of their own."""

    def __init__(self, world: World, name: str, outcome: Outcome) -> None:
        self._true_ms: dict[int, int] = {}  # instants of the validator's clock → when they really were
        super().__init__(world, name, outcome)

    def _errs(self, process: str, true_ms: int) -> int:
        period = (true_ms - START_MS) // LEARNS_EVERY_MS
        return random.Random(f"{self.name} {process} {period}").randint(-ERROR_MS, ERROR_MS)

    def _moment(self, now_ms: int) -> Moment:
        true = super()._moment(now_ms)
        polled_ms = true.watermark_ms + simulation.STREAM_MARGIN_MS
        return msgspec.structs.replace(
            true,
            now_ms=now_ms + self._errs("validator", now_ms),
            watermark_ms=true.watermark_ms + self._errs("reader", polled_ms),
        )

    def _look(self, now_ms: int, claimed: History, strong: bool) -> Look:
        at_ms = now_ms + self._errs("validator", now_ms)
        self._true_ms[at_ms] = now_ms
        return msgspec.structs.replace(super()._look(now_ms, claimed, strong), at_ms=at_ms)

    def _publish(self, now_ms: int, change: Change) -> None:
        self.outcome.versions += 1
        before, reader_ms = self.history, self._errs("reader", now_ms)
        self.history = codec.decode(codec.encode(append(before, change)))
        if before is None:
            self.due_ms = now_ms + 50
        else:
            due_ms = self.due_ms + reader_ms
            self.due_ms = brought_forward(before, due_ms, now_ms + reader_ms) - reader_ms
        self._count({"outstanding": 1})

    def _commit(self, before: History, judgement: Judgement, look: Look | None) -> None:
        super()._commit(before, judgement, look)
        self.due_ms -= self._errs("validator", self.due_ms)

    def _check_alarm(self, look: Look) -> None:
        super()._check_alarm(msgspec.structs.replace(look, at_ms=self._true_ms[look.at_ms]))


@pytest.mark.parametrize("name", SCENARIOS)
def test_clocks_that_err_by_a_second_make_nothing_false_and_miss_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "_Key", Erring)
    outcome = simulation.simulate(SCENARIOS[name], seed=7)
    assert outcome.versions
    assert (outcome.false_alarms, outcome.missed, outcome.unbalanced) == ([], [], [])

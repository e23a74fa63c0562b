"""The rule where clocks err: a process is behind AWS's time by a second or two.

No step of Redis' clock or a host's reaches a process (`tests/test_clocks.py`), and none is ahead of AWS. What
is left are errors of each process's own, which jump whenever it learns. None makes an alarm false.
"""

import functools
import random

import msgspec
import pytest

from pipeline.core.judging.history import History, Judgement
from pipeline.core.model import Change, Look, Moment, Policy
from pipeline.producers.base import CLOCKS_APART_MS
from pipeline.store import codec
from tests.core import simulation
from tests.core.reference import append, brought_forward
from tests.core.simulation import Deadline, Outcome
from tests.core.test_simulation import SCENARIOS
from tests.core.ttl_world import START_MS
from tests.core.world import World

#: How long a process errs by the same amount.
LEARNS_EVERY_MS = 15_000


@functools.cache
def errs(name: str, process: str, period: int) -> int:
    """By how much a process's clock is off from AWS's for a while."""
    return random.Random(f"{name} {process} {period}").randint(-CLOCKS_APART_MS, 0)


class Erring(simulation._Key):
    """A key whose reader and whose validator each go by a clock of their own."""

    def __init__(self, world: World, name: str, outcome: Outcome, deadline: Deadline) -> None:
        self._true_ms: dict[int, int] = {}  # instants of the validator's clock → when they really were
        self._now_ms = self._shown_ms = START_MS
        super().__init__(world, name, outcome, deadline)

    def _errs(self, process: str, true_ms: int) -> int:
        return errs(self.name, process, (true_ms - START_MS) // LEARNS_EVERY_MS)

    def _validator_ms(self, true_ms: int) -> int:
        """It does not go back: having learnt that it was less late than now, it stands still for a while."""
        self._shown_ms = max(self._shown_ms, true_ms + self._errs("validator", true_ms))
        return self._shown_ms

    def _reached_ms(self, validator_ms: int) -> int:
        """When the validator's clock shows an instant that lies ahead."""
        at_ms = self._now_ms
        while True:
            learns_ms = at_ms + LEARNS_EVERY_MS - (at_ms - START_MS) % LEARNS_EVERY_MS
            reached_ms = max(at_ms, validator_ms - self._errs("validator", at_ms))
            if reached_ms < learns_ms:
                return reached_ms
            at_ms = learns_ms

    def _moment(self, now_ms: int) -> Moment:
        self._now_ms = now_ms
        true = super()._moment(now_ms)
        polled_ms = true.watermark_ms + simulation.STREAM_MARGIN_MS
        return msgspec.structs.replace(
            true,
            now_ms=self._validator_ms(now_ms),
            watermark_ms=true.watermark_ms + self._errs("reader", polled_ms),
        )

    def _look(self, now_ms: int, claimed: History, strong: bool) -> Look:
        at_ms = self._validator_ms(now_ms)
        self._true_ms[at_ms] = now_ms
        look = super()._look(now_ms, claimed, strong)
        return msgspec.structs.replace(look, at_ms=at_ms, answered_ms=at_ms + CLOCKS_APART_MS)

    def _publish(self, now_ms: int, change: Change | None) -> None:
        if change is None:
            self._compare(now_ms)
            return
        self.outcome.versions += 1
        if self.history is not None and self.history.is_waiting_suspect:
            self._count({"suspects_waiting": -1})
        before, reader_ms = self.history, self._errs("reader", now_ms)
        self.history = codec.decode(codec.encode(append(before, change)))
        if before is None:
            self.due_ms = now_ms + 50
        else:
            due_ms = self.due_ms + reader_ms
            self.due_ms = brought_forward(before, due_ms, now_ms + reader_ms) - reader_ms
        self._count({"outstanding": 1})

    def _compare(self, now_ms: int) -> None:
        """A new suspect is dated by its comparer's clock."""
        before = self.history
        super()._compare(now_ms)
        if self.history is not None and self.history is not before and self.history.suspect:
            [(digest, at_ms)] = self.history.versions
            dated = ((digest, at_ms + self._errs("comparer", now_ms)),)
            self.history = msgspec.structs.replace(self.history, versions=dated)

    def _commit(
        self, before: History, judgement: Judgement, look: Look | None, policy: Policy, now_ms: int
    ) -> None:
        super()._commit(before, judgement, look, policy, now_ms)
        self.due_ms = self._reached_ms(self.due_ms)

    def _check_alarm(self, look: Look, policy: Policy) -> None:
        super()._check_alarm(msgspec.structs.replace(look, at_ms=self._true_ms[look.at_ms]), policy)


@pytest.mark.parametrize("name", SCENARIOS)
def test_clocks_that_err_by_a_second_make_nothing_false_and_miss_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "_Key", Erring)
    outcome = simulation.simulate(SCENARIOS[name], seed=7)
    assert outcome.reads
    assert (outcome.false_alarms, outcome.missed, outcome.unbalanced) == ([], [], [])

"""When the replicator applies what: the plan turned into applications, change by change.

Reads: nothing. Writes: nothing. Never: I/O, clocks. Instants are the caller's milliseconds.

Without a fault, a key's changes are applied in their order.
"""

import heapq
import itertools
import random
from collections import Counter
from typing import NamedTuple

from pipeline.core.model import ChangeType
from pipeline.demo.plan import Fault, Picker, Plan, Rule
from pipeline.demo.tables import Item


class Seen(NamedTuple):
    """One change of the source as its stream shows it. key: its text; image: None after a deletion."""

    event: ChangeType
    key: str
    wire_key: Item
    image: Item | None
    created_ms: float


class Application(NamedTuple):
    """What to do to the target. faulty: a plan's fault was done to it, so its lateness says nothing."""

    key: str
    wire_key: Item
    image: Item | None
    created_ms: float
    faulty: bool


class Schedule:
    """Takes changes in stream order, gives out applications when they are due."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self._lag = plan.lag
        self._picker = Picker(plan, seed)
        self._rng = random.Random(f"lag {seed}")
        self._ordinals: Counter[str] = Counter()
        self._floor: dict[str, float] = {}
        self._held: dict[str, list[tuple[Application, int]]] = {}
        self._heap: list[tuple[float, int, Application]] = []
        self._order = itertools.count()
        #: Faults done so far, and the keys they were done to.
        self.faults: Counter[Fault] = Counter()
        self.faulted: set[str] = set()

    def __len__(self) -> int:
        """Applications not yet given out."""
        return len(self._heap) + sum(map(len, self._held.values()))

    def take(self, change: Seen, now_ms: float) -> None:
        rule = self._picker.pick(
            change.event, change.wire_key["pk"]["S"], change.key, self._ordinals[change.key]
        )
        self._ordinals[change.key] += 1
        due_ms = max(now_ms + self._lag.draw(self._rng), self._floor.get(change.key, 0.0))
        overtaken = self._held.pop(change.key, [])
        if rule is None:
            self._apply(_application(change), due_ms)
        else:
            self.faults[rule.fault] += 1
            self.faulted.add(change.key)
            due_ms = self._misapply(change, rule, due_ms)
        for application, by_ms in overtaken:
            self._push(application, due_ms + by_ms)

    def _misapply(self, change: Seen, rule: Rule, due_ms: float) -> float:
        """Do the fault; when the change is applied, or would have been."""
        application = _application(change, faulty=True)
        match rule.fault:
            case Fault.DROP | Fault.LEAVE_EXTRA:
                pass
            case Fault.DELAY:
                due_ms += rule.by_ms
                self._apply(application, due_ms)
            case Fault.CORRUPT:
                self._apply(application._replace(image=corrupted(change.image)), due_ms)
            case Fault.DUPLICATE:
                self._apply(application, due_ms)
                self._push(application, due_ms + rule.by_ms)
            case Fault.REORDER:
                self._held.setdefault(change.key, []).append((application, rule.by_ms))
        return due_ms

    def _apply(self, application: Application, due_ms: float) -> None:
        self._push(application, due_ms)
        self._floor[application.key] = due_ms

    def _push(self, application: Application, due_ms: float) -> None:
        heapq.heappush(self._heap, (due_ms, next(self._order), application))

    def due(self, now_ms: float) -> list[Application]:
        """Remove and return what is due, in order."""
        out = []
        while self._heap and self._heap[0][0] <= now_ms:
            out.append(heapq.heappop(self._heap)[2])
        return out

    def release(self, now_ms: float) -> None:
        """No more changes will come: what still waits for a later change of its key is applied after all."""
        held, self._held = self._held, {}
        for waiting in held.values():
            for application, _ in waiting:
                self._push(application, max(now_ms, self._floor.get(application.key, 0.0)))


def _application(change: Seen, faulty: bool = False) -> Application:
    return Application(change.key, change.wire_key, change.image, change.created_ms, faulty)


def corrupted(image: Item | None) -> Item:
    """The item with a value that no version of it has; keys stay."""
    return {**(image or {}), "name": {"S": "\N{REPLACEMENT CHARACTER}"}}

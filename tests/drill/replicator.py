"""The drill's replicator: changes handed over by the writer, applied late and wrongly as planned.

Reads: the source's changes as they are written, both tables' items for the truth. Writes: the target table.
Never: the monitor's code for reading, digesting or judging.

It shares a process with the tables, so that a write costs microseconds. Which change is done what to is
`pipeline.demo.schedule`'s work; here is when, and what is known about it afterwards.
"""

import random
from collections import defaultdict
from typing import NamedTuple

import msgspec

from pipeline.core.judging.history import KEEP_REACHED
from pipeline.core.model import ChangeType, Side, VerdictKind
from pipeline.demo import truth
from pipeline.demo.schedule import Application, Schedule, Seen, corrupted
from pipeline.demo.tables import Item
from tests.drill.scenarios import Scenario
from tests.drill.traffic import Key
from tests.fake.tables import Table

_WRONG_NAME = corrupted(None)["name"]


class Truth(msgspec.Struct):
    """What was really done, by key text; instants in ms of Unix time.

    divergent: kind of each key that differs at the end. unknowable: stale ones that the monitor may call
    different: the target holds a version too old to be remembered or, where the target's stream is read, what
    the source holds was never in it. damaged_at: when the fault that shows in the end was done (the
    change's creation; for an overtaken or foreign write, its application). grounds_from: from when on a
    finding of this key may be right, because something was done to it or a change of it was overdue.
    ttl_removes: keys that differ at the end in what TTL itself will remove.
    """

    changes: int
    records: int
    keys: list[str]
    faults: dict[str, int]
    divergent: dict[str, str]
    unknowable: list[str]
    damaged_at: dict[str, float]
    grounds_from: dict[str, float]
    lag_ms: dict[str, float]
    ttl_removes: list[str] = []


class Damage(NamedTuple):
    """at_ms: when it was done. change_ms: creation of the change it was done to: a newer one heals it."""

    at_ms: float
    change_ms: float


class Replicator:
    def __init__(self, scenario: Scenario, source: Table, target: Table) -> None:
        self._source, self._target = source, target
        self._converge_ms = scenario.converge_seconds * 1000
        self._foreign_share = scenario.fault_percent / 100
        self._rng = random.Random(f"foreign {scenario.seed}")
        self._schedule = Schedule(scenario.plan(), scenario.seed)
        self._reads_target = scenario.verify_on is Side.SOURCE
        self._versions: dict[str, list[bytes]] = {}
        self._replicas: defaultdict[str, set[bytes]] = defaultdict(set)
        self._newest_applied: dict[str, float] = {}
        self._damage: dict[str, list[Damage]] = {}
        self._grounds_from: dict[str, float] = {}
        self._lags_ms: list[float] = []
        self._foreign = 0
        self.changed: set[str] = set()

    def __len__(self) -> int:
        """Changes not yet applied."""
        return len(self._schedule)

    def start_with(self, key: Key, body: bytes) -> None:
        """An item that both tables held before."""
        self._versions[key.text] = [body]

    def take(self, key: Key, image: Item | None, now_ms: float) -> None:
        """The source was changed just now."""
        before = key.text in self._versions
        event = ChangeType.REMOVE if image is None else ChangeType.MODIFY if before else ChangeType.INSERT
        if image is not None:
            body = self._source.items[self._source.key_of(key.wire)]
            self._versions.setdefault(key.text, []).append(body)
        self.changed.add(key.text)
        done = self._schedule.faults.total()
        self._schedule.take(Seen(event, key.text, key.wire, image, now_ms), now_ms)
        if self._schedule.faults.total() > done:
            self._harm(key.text, now_ms, now_ms)

    def apply_due(self, now_ms: float) -> None:
        for application in self._schedule.due(now_ms):
            self._apply(application, now_ms)

    def release(self, now_ms: float) -> None:
        """No more changes will come."""
        self._schedule.release(now_ms)

    def _apply(self, one: Application, now_ms: float) -> None:
        image = one.image
        late = now_ms - one.created_ms > self._converge_ms
        if image is None and not (one.faulty or late) and self._rng.random() < self._foreign_share:
            image = {**one.wire_key, "name": _WRONG_NAME, "stranger": {"N": str(self._foreign)}}
            self._foreign += 1
            self._harm(one.key, now_ms, one.created_ms)
        if image is None:
            self._target.delete(one.wire_key, _whole_seconds(now_ms))
        else:
            self._target.put(image, _whole_seconds(now_ms))
            self._replicas[one.key].add(self._target.items[self._target.key_of(one.wire_key)])
        overtaken = one.created_ms < self._newest_applied.get(one.key, 0)
        self._newest_applied[one.key] = max(one.created_ms, self._newest_applied.get(one.key, 0))
        if overtaken:
            self._harm(one.key, now_ms, one.created_ms)
        elif image is one.image and (image is None or image["name"] != _WRONG_NAME):
            self._heal(one.key, one.created_ms)
        if not one.faulty:
            self._lags_ms.append(now_ms - one.created_ms)
            if late:
                self._ground(one.key, one.created_ms + self._converge_ms)

    def _harm(self, key: str, at_ms: float, change_ms: float) -> None:
        self._damage.setdefault(key, []).append(Damage(at_ms, change_ms))
        self._ground(key, change_ms)

    def _heal(self, key: str, created_ms: float) -> None:
        left = [one for one in self._damage.get(key, ()) if one.change_ms > created_ms]
        if left:
            self._damage[key] = left
        else:
            self._damage.pop(key, None)

    def _ground(self, key: str, at_ms: float) -> None:
        self._grounds_from[key] = min(at_ms, self._grounds_from.get(key, at_ms))

    # --- at the end ----------------------------------------------------------------------------------------

    def truth(self, keys: dict[str, Key], records: int) -> Truth:
        """Both tables, key by key. Raises RuntimeError when a key differs to which nothing was done."""
        divergent, unknowable = {}, []
        for text, key in keys.items():
            at = self._source.key_of(key.wire)
            source, target = self._source.items.get(at), self._target.items.get(at)
            if source != target:
                versions = self._versions.get(text, [])
                kind = truth.classify(_item(source), _item(target), [_item(body) for body in versions])
                assert kind is not None
                divergent[text] = str(kind)
                shown = (
                    source in self._replicas[text]
                    if self._reads_target
                    else target in versions[-KEEP_REACHED:]
                )
                if kind is VerdictKind.STALE and not shown:
                    unknowable.append(text)
        if unplanned := divergent.keys() - self._damage.keys():
            raise RuntimeError(f"keys differ without a planned fault: {sorted(unplanned)[:5]}")
        lags = sorted(self._lags_ms) or [0.0]
        return Truth(
            changes=len(self._lags_ms),
            records=records,
            keys=sorted(self.changed),
            faults={str(fault): count for fault, count in self._schedule.faults.items()}
            | {"foreign": self._foreign},
            divergent=divergent,
            unknowable=unknowable,
            damaged_at={key: self._damage[key][0].at_ms for key in divergent},
            grounds_from=self._grounds_from,
            lag_ms={"p50": lags[len(lags) // 2], "p99": lags[len(lags) * 99 // 100], "max": lags[-1]},
        )


def _item(body: bytes | None) -> Item | None:
    return None if body is None else msgspec.json.decode(body)


def _whole_seconds(now_ms: float) -> float:
    """Creation times as AWS's streams show them."""
    return now_ms // 1000

"""The drill's world, a process: both tables behind HTTP, their writer and the replicator between them.

Reads: a scenario (JSON, its argument), "begin" on standard input. Writes: its own memory; lines on standard
output: the port, "outage" when it is time for one, "at rest" and then the truth as one line of JSON. It goes
on serving until its input is closed. Never: HTTP for its own writes, which would cost more than all the rest.
"""

import sys
import time

import msgspec

from pipeline.core.model import Side
from pipeline.demo.tables import Item
from tests.drill import expiring, imported, traffic
from tests.drill.expiring import Expiring
from tests.drill.imported import Imported
from tests.drill.replicator import Replicator, Truth
from tests.drill.scenarios import Scenario
from tests.fake.server import Fake
from tests.fake.tables import Table

SHARDS = 4
#: Writes in a row under the lock that requests wait for.
CHUNK = 50
IDLE_SECONDS = 0.002
#: How much later than a difference is known TTL removes it.
SLOW_TTL_SECONDS = 5


class World:
    def __init__(self, scenario: Scenario, fake: Fake) -> None:
        self._scenario, self._fake = scenario, fake
        origin = scenario.verify_on.other
        for side in Side:
            view = "NEW_AND_OLD_IMAGES" if side is origin else None
            ttl = "expires" if side is Side.SOURCE else None
            fake.control.create_table(side, sort_key="sk", sort_type="N", view=view, shards=SHARDS, ttl=ttl)
        self._source, target = fake.world.table(Side.SOURCE), fake.world.table(Side.TARGET)
        self._origin: Table = fake.world.table(origin)
        self._replicator = Replicator(scenario, self._source, target)
        self._expiring = Expiring(fake, traffic.ttl_keys(scenario))
        self._imported = Imported(self._source, target, scenario.cold_items, int(time.time()))
        self._by_group = traffic.keys(scenario)
        cold = self._by_group["cold"][:: traffic.BASELINE_STEP]
        for key, item in zip(cold, traffic.baseline(self._by_group["cold"]), strict=True):
            for table in (self._source, target):
                table.put(item, 0, streamed=False)
            self._replicator.start_with(key, self._source.items[self._source.key_of(key.wire)])

    def run(self) -> None:
        """Write everything, then let the replicator finish."""
        scenario, began, written = self._scenario, time.monotonic(), 0
        script = traffic.script(scenario, self._by_group)
        with self._fake.lock:
            self._fake.world.table(Side.TARGET).ttl_attribute = "expires"  # switched on when all runs
            self._expiring.plant(_now_ms())
            self._began_ms = _now_ms()
        while written < scenario.changes:
            elapsed = time.monotonic() - began
            count = min(CHUNK, scenario.changes - written, int(elapsed * scenario.per_second) + 1 - written)
            with self._fake.lock:
                for key, image in [next(script) for _ in range(count)]:
                    self._write(key, image)
                if not self._stalled(elapsed):
                    self._replicator.apply_due(_now_ms())
            self._milestones(written, written + count)
            written += count
            time.sleep(IDLE_SECONDS if count < CHUNK else 0)
        self._replicator.release(_now_ms())
        while len(self._replicator):
            if not self._stalled(time.monotonic() - began):
                with self._fake.lock:
                    self._replicator.apply_due(_now_ms())
            time.sleep(IDLE_SECONDS)
        if scenario.ttl_keys:
            noticed = scenario.converge_seconds + scenario.stable_seconds + SLOW_TTL_SECONDS
            time.sleep(max(0.0, began + noticed - time.monotonic()))
        with self._fake.lock:
            self._expiring.empty(_now_ms())

    def _write(self, key: traffic.Key, image: Item | None) -> None:
        now_ms = _now_ms()
        if image is None:
            self._source.delete(key.wire, now_ms // 1000)
        else:
            self._source.put(image, now_ms // 1000)
        self._replicator.take(key, image, now_ms)

    def _stalled(self, elapsed: float) -> bool:
        stall = self._scenario.stall
        return stall is not None and stall[0] <= elapsed < stall[0] + stall[1]

    def _milestones(self, before: int, after: int) -> None:
        scenario = self._scenario
        if scenario.outage and before < scenario.changes // 3 <= after:
            print("outage", flush=True)
        if scenario.split and before < scenario.changes // 2 <= after:
            for shard in self._fake.control.shards(self._origin.name):
                self._fake.control.split(self._origin.name, shard["id"])

    def truth(self) -> bytes:
        keys = {key.text: key for group in self._by_group.values() for key in group}
        stream = self._origin.stream
        assert stream is not None
        records = sum(shard.end for shard in stream.shards.values())
        found = self._replicator.truth(keys, records)
        planted_ms = {one.key.text: one.at_ms for one in self._expiring.planted}
        for case, texts in self._expiring.differing().items():
            for text in texts:
                self._tell(found, f"ttl: {case}", text, expiring.FOUND.get(case), planted_ms[text])
        for wrong, text in self._imported.wrong():
            self._tell(found, f"import: {wrong}", text, imported.FOUND.get(wrong), self._began_ms)
        return msgspec.json.encode(found)

    @staticmethod
    def _tell(found: Truth, fault: str, text: str, kind: str | None, at_ms: float) -> None:
        """Add a key that differs. kind: None for what TTL excuses."""
        found.faults[fault] = found.faults.get(fault, 0) + 1
        if kind is None:
            found.ttl_removes.append(text)
            return
        found.divergent[text] = kind
        found.damaged_at[text] = found.grounds_from[text] = at_ms


def _now_ms() -> float:
    return time.time() * 1000


def main() -> None:
    scenario = msgspec.json.decode(sys.argv[1], type=Scenario)
    sys.setswitchinterval(0.001)  # the writer computes all the time, and requests must not wait for it
    with Fake() as fake:
        world = World(scenario, fake)
        print(fake.server.port, flush=True)
        sys.stdin.readline()
        world.run()
        print("at rest", flush=True)
        print(world.truth().decode(), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

"""The drill's scenarios: what the world does to a migration, and how the monitor is asked to watch it.

Reads: nothing. Writes: nothing. Never: chance; a scenario's seed fixes traffic, lateness and faults. What is
not fixed is when the processes get to run.
"""

import msgspec

from pipeline.core.model import Side
from pipeline.demo.plan import Fault, Lag, Plan, Rule

#: How much longer than --converge-within a delayed change takes: long enough for a finding to be opened.
DELAY_BEYOND_MS = 4_000
#: With --verify-on source the stream is the target's: a change that the replicator loses shows nowhere.
_SHOWN_BY_TARGET = (Fault.CORRUPT, Fault.DELAY, Fault.REORDER)
_ALL = (Fault.DROP, *_SHOWN_BY_TARGET, Fault.LEAVE_EXTRA)


class Scenario(msgspec.Struct, frozen=True):
    """fault_percent: chance of each kind of fault at each change that it can befall.

    Half of the changes go to `hot_keys` (zipf), half to `cold_keys` (evenly). per_second: changes, if the
    machine can. held_seconds: how much later than its overtaker a reordered change is applied; with lag and a
    stall on top still within --converge-within and --stable-for. stall: the replicator stands still
    from this second on, for that many. outage: what happens to the reader after a third of the changes,
    "kill" (-9) or "stop" (for `outage_seconds`). split: after half of the changes every shard is split.
    ttl_keys: so many more have a TTL, in every way in which that excuses something or does not (`expiring`).
    cold_items: so many more that nobody writes, as an import left them (`imported`); while the traffic goes
    on, the whole tables are compared, in `segments` (0 = by their size). auto: the deadline follows the lag,
    up to converge_seconds.
    """

    name: str
    changes: int
    per_second: int = 4_000
    verify_on: Side = Side.TARGET
    sample_rate: float = 100
    fault_percent: float = 0
    lag: Lag = Lag(500, 2_000)
    converge_seconds: int = 10
    stable_seconds: int = 5
    held_seconds: float = 3
    stall: tuple[float, float] | None = None
    outage: str = ""
    outage_seconds: float = 0
    split: bool = False
    hot_keys: int = 500
    cold_keys: int = 20_000
    ttl_keys: int = 0
    cold_items: int = 0
    segments: int = 0
    auto: bool = False
    seed: int = 1

    def plan(self) -> Plan:
        """The replicator's faults; a deletion that arrives as a write is the world's own."""
        if not self.fault_percent:
            return Plan(self.lag)
        by_ms = {
            Fault.DELAY: self.converge_seconds * 1000 + DELAY_BEYOND_MS,
            Fault.REORDER: int(self.held_seconds * 1000),
        }
        # A delay holds all later changes of its key back: a hot key would never arrive. What goes wrong with
        # a deletion that is later than --converge-within need not be found (docs/how-it-judges.md).
        keys = {Fault.DELAY: "cold*[05]", Fault.REORDER: "*[!05]", Fault.LEAVE_EXTRA: "*[!05]"}
        kinds = _ALL if self.verify_on is Side.TARGET else _SHOWN_BY_TARGET
        faults = [
            Rule(kind, keys=keys.get(kind, "*"), percent=self.fault_percent, by_ms=by_ms.get(kind, 0))
            for kind in kinds
        ]
        return Plan(self.lag, faults)


#: One million changes, and one million cold items.
FULL = (
    Scenario(
        *("1,000,000 cold items compared, faults 1 %, lag 5 s", 40_000),
        per_second=400,
        fault_percent=1,
        lag=Lag(2_000, 5_000),
        hot_keys=500,
        cold_keys=9_500,
        cold_items=1_000_000,
    ),
    Scenario("in sync, no fault", 150_000, lag=Lag(100, 300)),
    Scenario("faults 0.01 %", 250_000, fault_percent=0.01, cold_keys=50_000),
    Scenario("faults 0.1 %, reader killed", 120_000, fault_percent=0.1, outage="kill", ttl_keys=1_000),
    Scenario("faults 1 %, every shard split", 100_000, fault_percent=1, split=True),
    Scenario("faults 5 %", 40_000, per_second=2_000, fault_percent=5),
    Scenario(
        *("faults 1 %, reader stopped 40 s, lag 5 s", 80_000),
        per_second=1_500,
        fault_percent=1,
        lag=Lag(5_000, 10_000),
        converge_seconds=25,
        outage="stop",
        outage_seconds=40,
    ),
    Scenario(
        *("faults 1 %, stall 60 s", 60_000),
        per_second=600,
        fault_percent=1,
        lag=Lag(1_000, 3_000),
        converge_seconds=75,
        stall=(15, 60),
    ),
    Scenario(
        *("faults 0.5 %, lag 2 min", 60_000),
        per_second=1_000,
        fault_percent=0.5,
        lag=Lag(100_000, 120_000),
        converge_seconds=180,
        stable_seconds=20,
        held_seconds=12,
    ),
    Scenario(
        *("faults 0.5 %, lag 2 min, adaptive deadline", 60_000),
        per_second=1_000,
        fault_percent=0.5,
        lag=Lag(100_000, 120_000),
        converge_seconds=180,
        stable_seconds=20,
        held_seconds=12,
        auto=True,
    ),
    Scenario("verify on source, faults 1 %", 80_000, verify_on=Side.SOURCE, fault_percent=1),
    Scenario(
        *("faults 2 %, 5 % of the keys", 30_000),
        per_second=2_000,
        sample_rate=5,
        fault_percent=2,
        cold_keys=100_000,
    ),
    Scenario(
        *("verify on source, faults 2 %, 5 % of the keys, split", 30_000),
        per_second=2_000,
        verify_on=Side.SOURCE,
        sample_rate=5,
        fault_percent=2,
        cold_keys=100_000,
        split=True,
    ),
)

#: Two minutes' worth, for CI.
SMALL = (
    Scenario(
        *("small: 20,000 cold items compared, faults 2 %", 4_000),
        per_second=400,
        fault_percent=2,
        lag=Lag(100, 500),
        converge_seconds=3,
        stable_seconds=2,
        held_seconds=1,
        hot_keys=50,
        cold_keys=150,
        cold_items=20_000,
        segments=8,
    ),
    Scenario(
        *("small: faults 2 %, reader killed, split", 4_000),
        per_second=800,
        fault_percent=2,
        lag=Lag(100, 500),
        converge_seconds=3,
        stable_seconds=2,
        held_seconds=1,
        outage="kill",
        split=True,
        hot_keys=50,
        cold_keys=2_000,
        ttl_keys=100,
    ),
    Scenario(
        *("small: verify on source, faults 2 %, a quarter of the keys", 4_000),
        per_second=800,
        verify_on=Side.SOURCE,
        sample_rate=25,
        fault_percent=2,
        lag=Lag(100, 500),
        converge_seconds=3,
        stable_seconds=2,
        held_seconds=1,
        hot_keys=50,
        cold_keys=2_000,
    ),
)

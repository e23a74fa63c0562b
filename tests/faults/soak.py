"""`python -m tests.faults.soak --minutes 10`: a steady rate with faults; is memory flat?

Reads: /proc, Redis INFO. Writes: a table to standard output. Never: kills, after which a process begins with
little memory (test_kills does that).

Exit code 0 when the books balance, nothing was lost or wrongly found, and memory is flat: no process, and no
byte of Redis per outstanding key, grew by more than GROWTH from the second fifth of the run to the last.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import tests.conftest  # noqa: F401  its environment reaches no real account
from tests.faults import accounts
from tests.faults.world import SLOTS, World

GROWTH = 0.10
#: Keys that are written in turn; each is judged and closed long before its turn comes again.
KEYS = 5_000
WRITES_PER_SECOND = 40
FAULT_EVERY_SECONDS = 5
SAMPLE_EVERY_SECONDS = 2
FAULTS = [
    *(("throttle", "BatchGetItem"), ("truncate", "GetRecords"), ("hang_up", "BatchGetItem")),
    *(("bad_gateway", "GetRecords"), ("bad_crc", "BatchGetItem"), ("expired_iterator", "GetRecords")),
    *(("stall", "BatchGetItem"), ("internal_error", "DescribeStream"), ("unprocessed", "BatchGetItem")),
]


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def fault(world: World, number: int) -> None:
    kind, operation = FAULTS[number % len(FAULTS)]
    world.fake.steer("fail", kind=kind, operation=operation)
    if number % len(FAULTS) == 0:
        world.redis_proxy.cut()


def sample(world: World) -> dict[str, float]:
    """Redis: what holds the outstanding keys, per key; and all of it, where clients' buffers are most."""
    seen = {f"{slot}, MB": resident_mb(world.pids(slot)[-1]) for slot in SLOTS}
    keys = world.store.queue().outstanding
    names = [world.store._key(name) for name in ("history", "entries", "due", "due-left", "work")]
    held = sum(int(world.redis.memory_usage(name, samples=0) or 0) for name in names)
    memory = world.redis.info("memory")
    return {
        **seen,
        "Redis, MB": int(memory["used_memory"]) / 1e6,
        "Redis, bytes per outstanding key": held / max(keys, 1),
    }


def run(world: World, seconds: float) -> list[dict[str, float]]:
    """A sample every SAMPLE_EVERY_SECONDS; faults and writes at their rates."""
    samples: list[dict[str, float]] = []
    with world.watching() as supervisor:
        began = time.monotonic()
        faults = 0
        for number in itertools.count():
            now = time.monotonic() - began
            if now > seconds:
                break
            world.write(f"key-{number % KEYS}", str(number))
            if now > faults * FAULT_EVERY_SECONDS:
                fault(world, faults)
                faults += 1
            if now > len(samples) * SAMPLE_EVERY_SECONDS:
                samples.append({"supervisor, MB": resident_mb(supervisor.pid), **sample(world)})
            time.sleep(max(0.0, number / WRITES_PER_SECOND - now))
        world.settle(f"soak, {seconds / 60:g} minutes, {faults} faults")
        assert all(len(world.pids(slot)) == 1 for slot in SLOTS), "a process ended by itself"
    return samples


def report(samples: list[dict[str, float]]) -> bool:
    """Print the table; whether all of it is flat."""
    fifth = max(1, len(samples) // 5)
    print(f"\n{'':<34}{'second fifth':>14}{'last fifth':>12}{'growth':>9}")
    flat = True
    for name in samples[0]:
        values = [one[name] for one in samples]
        early, late = statistics.median(values[fifth : 2 * fifth]), statistics.median(values[-fifth:])
        growth = late / early - 1
        flat = flat and growth <= GROWTH
        print(f"{name:<34}{early:>14.1f}{late:>12.1f}{growth:>+9.1%}")
    print("flat" if flat else "NOT flat")
    return flat


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("--minutes", type=float, default=10)
    seconds = parser.parse_args().minutes * 60
    with tempfile.TemporaryDirectory(prefix="soak-") as directory, World(Path(directory)) as world:
        samples = run(world, seconds)
    print("\n".join(accounts.table()))
    return 0 if report(samples) else 1


if __name__ == "__main__":
    sys.exit(main())

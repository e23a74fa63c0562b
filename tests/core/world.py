"""The simulated world around the rule: its rates, and what the replicator makes of a key's changes.

Reads: a `World`, a seeded generator. Writes: nothing. Never: the code under test.
"""

import hashlib
import random
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.core.model import ABSENT, Policy, StreamView
from tests.core.ttl_world import START_MS, Ttl

POLICY = Policy(converge_within_ms=20_000, stable_for_ms=30_000)
#: An eventually consistent look shows the target as it was up to this long ago.
LOOKS_BACK_MS = 300


@dataclass(frozen=True)
class World:
    """One scenario. Rates are per change; durations in ms.

    reordered: applied late, by up to --stable-for. overtaken: held back until the key's next change is
    applied (of a cold key: long after), then for up to --stable-for. values: if not 0, there are only so
    many, so that A → B → A is common. compared_ms: between which instants a comparison reads a key, once;
    watched: a stream is read beside it. lost: share of the keys that the target never had to begin with,
    spoiled: of those that it had wrong. ttl: None = nothing expires. at_most_ms: --converge-at-most of a
    deadline that follows the lag, 0 = it is the policy's. growing: until when the lag grows, and by how much
    a second; from then on it shrinks as fast.
    """

    keys: int = 100
    writes_per_second: float = 0.3
    writing_ms: int = 60_000
    lag_ms: tuple[int, int] = (100, 2_000)
    dropped: float = 0.0
    corrupted: float = 0.0
    reordered: float = 0.0
    overtaken: float = 0.0
    stall: tuple[int, int] | None = None
    outage: tuple[int, int] | None = None
    values: int = 0
    view: StreamView = StreamView.NEW_AND_OLD_IMAGES
    policy: Policy = POLICY
    gap_ms: int = 0
    compared_ms: tuple[int, int] | None = None
    watched: bool = True
    lost: float = 0.0
    spoiled: float = 0.0
    ttl: Ttl | None = None
    at_most_ms: int = 0
    growing: tuple[int, float] | None = None

    @property
    def longest_ms(self) -> int:
        """The longest deadline: beyond it every difference is one."""
        return self.at_most_ms or self.policy.converge_within_ms


class Write(NamedTuple):
    """One version as the target gets it. at_ms: when; made_ms: when the source did."""

    at_ms: int
    state: bytes
    made_ms: int


def replicated(world: World, rng: random.Random, changes: list[tuple[int, bytes]]) -> list[Write]:
    """What is applied to the target, in order, of one key's changes (when, state)."""
    writes: list[Write] = []
    held: list[Write] = []
    floor = START_MS + world.writing_ms
    latest = world.policy.stable_for_ms - LOOKS_BACK_MS
    after = 0
    for made_ms, state in changes:
        write = Write(max(_arrival(world, rng, made_ms), after + 1), state, made_ms)
        writes += [one._replace(at_ms=write.at_ms + rng.randint(0, latest)) for one in held]
        held = []
        chance = rng.random()
        if (chance := chance - world.dropped) < 0:
            continue
        # A deletion that TTL made is applied or not; the target may have been empty by then.
        corrupted = world.corrupted if world.ttl is None or state != ABSENT else 0
        if (chance := chance - corrupted) < 0:
            write = write._replace(state=hashlib.sha256(b"corrupt" + state).digest()[:16])
        elif (chance := chance - world.reordered) < 0:
            writes.append(write._replace(at_ms=write.at_ms + rng.randint(0, latest)))
            continue
        elif chance < world.overtaken:
            held.append(write)
            continue
        after = write.at_ms
        writes.append(write)
    writes += [one._replace(at_ms=max(floor, after)) for one in held]
    return _as_promised(world, sorted(writes))


def _arrival(world: World, rng: random.Random, made_ms: int) -> int:
    at_ms = made_ms + rng.randint(*world.lag_ms)
    if world.growing is not None:
        peak_ms, slope = world.growing
        since_ms = made_ms - START_MS
        at_ms += int(slope * max(0, min(since_ms, 2 * peak_ms - since_ms)))
    if world.stall and START_MS + world.stall[0] <= at_ms < START_MS + world.stall[1]:
        return START_MS + world.stall[1] + rng.randint(1, 500)
    return at_ms


def _as_promised(world: World, writes: list[Write]) -> list[Write]:
    """Leave out what comes later than the operator said that anything does: nobody could wait for it.

    That is --stable-for after --converge-within, or after a newer version. A newer version that looks like an
    older one is not noticed, so that does not count where items return to what they were.
    """
    policy = world.policy
    applied: list[Write] = []
    for write in writes:
        in_time_until = write.made_ms // 1000 * 1000 + world.longest_ms
        newer = next((one.at_ms for one in applied if one.made_ms > write.made_ms), 0)
        if not world.values:
            in_time_until = max(in_time_until, newer)
        if write.at_ms <= in_time_until + policy.stable_for_ms - LOOKS_BACK_MS:
            applied.append(write)
    return applied

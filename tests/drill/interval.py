"""The interval's honesty: how often the true share of right keys lies within what the monitor states.

Reads: nothing. Writes: nothing. Never: an interval, a sample or a verdict of its own making: the sampler, the
judging rule (in the simulation's world) and the figures are the production ones.
"""

from collections.abc import Sequence

from pipeline.core.figures import Figures, Success
from pipeline.core.ledger import Ledger, Queue, ReaderState
from pipeline.core.model import VerdictKind
from pipeline.core.sampling import Sampler
from pipeline.core.statistics import LAG_BUCKETS_SECONDS
from tests.core.simulation import Outcome, simulate
from tests.core.world import World

SAMPLE_RATE = 5
#: Chance of each change to be dropped: about 1 key in 4,000 is wrong at the end, 1 in 1,000, … 1 in 8.
DROPPED = (0.0005, 0.002, 0.01, 0.05, 0.25)
_KEYS = 2_000
_WRITES_PER_SECOND = 0.05


def covered(seeds: Sequence[int]) -> int:
    """In how many repetitions the stated interval holds the true share. Each seed is a world of its own."""
    return sum(_holds(seed) for seed in seeds)


def _holds(seed: int) -> bool:
    world = World(
        keys=_KEYS,
        writes_per_second=_WRITES_PER_SECOND,
        dropped=DROPPED[seed % len(DROPPED)],
        lag_ms=(50, 500),
    )
    outcome = simulate(world, seed, Sampler(SAMPLE_RATE).keeps)
    stated = _stated(outcome)
    assert stated.low is not None and stated.high is not None
    return stated.low <= 1 - outcome.wrong / outcome.written <= stated.high


def _stated(outcome: Outcome) -> Success:
    """What the monitor says of it."""
    found = {str(VerdictKind.STALE): outcome.open}
    return Figures(
        now_ms=0,
        started_ms=0,
        ledger=Ledger(keys_judged=outcome.judged, open=found),
        queue=Queue(0, 0, 0, 0, 0),
        reader=ReaderState(0, {}, 0, 0),
        lag_counts=[0] * (len(LAG_BUCKETS_SECONDS) + 1),
        oldest_waiting_ms=None,
    ).success

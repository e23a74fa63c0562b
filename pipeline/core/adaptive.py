"""The deadline that follows the lag (`--converge-within auto`), and when a changed key is first looked at.

Reads: how long replication took lately, how old what is waited for is. Writes: an `Adaptive`. Never: I/O.

The deadline is three times the lag that 99 % of the last quarter of an hour stayed below. What was looked for
in vain counts with its age, so a replicator that falls behind, or stands still, draws the deadline along with
it. It lies between 30 s and --converge-at-most, so a dead replicator is told of in the end.

A deadline does not shrink under a version: a smaller one is not judged by before the larger one has run out.
Where nobody knows how late the replication is (nothing was measured; readers or validators are behind), the
deadline is the longest one.

Nothing is seen before the lag is over, so a key is first looked at after the median. One key in 32, a probe,
is looked at at once: by these alone the median is known, or it could never fall.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import ceil

import msgspec

from pipeline.core.judging.history import LATE_BUCKET_MS, LOOK_SPACING_MS
from pipeline.core.statistics import LAG_BUCKETS_SECONDS, quantile_from_buckets

#: The bounds of a deadline, the lower one where nobody demands less, and how many times the lag it is.
LEAST_MS, TIMES_LAG = 30_000, 3
#: The deadline is taken from so many minutes, the median from the last of them: it is to fall soon.
DEADLINE_MINUTES, MEDIAN_MINUTES = 15, 5
#: Readers or validators that are behind by more do not know the lag; so long it stays unknown afterwards.
BLIND_MS, BLIND_AFTER_MS = 30_000, 60_000
#: One key in so many is a probe; fewer of them than this do not tell the median.
PROBE_ONE_IN, PROBES_NEEDED = 32, 5
#: Where nothing came through lately, so many keys that wait are late rather than wrong.
WAITING_NEEDED = 100
#: Deadlines are rounded up to this, so there are few to hold.
ROUNDED_TO_MS = 5_000
#: A value this old is made anew.
ADAPT_EVERY_MS = 1_000


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What the store has counted.

    lags: of DEADLINE_MINUTES, a count per LAG_BUCKETS_SECONDS and one beyond. recent, probes: of
    MEDIAN_MINUTES, all and those of probes, whose sum is probes_ms. waiting: keys that looks did not find, by
    creation (in LATE_BUCKET_MS). outstanding: versions that have no answer. behind_ms: how far readers or
    validators are behind, whoever is further.
    """

    now_ms: int
    lags: Sequence[int]
    recent: Sequence[int]
    probes: Sequence[int]
    probes_ms: int
    waiting: Mapping[int, int]
    outstanding: int
    behind_ms: int


class Adaptive(msgspec.Struct, frozen=True):
    """What is judged by. first_look_ms: age at which a changed key is first looked at, 0 = at once.

    adapted_ms: when this was made. held: (deadline, until when no smaller one is judged by), the largest
    first.
    """

    converge_within_ms: int
    first_look_ms: int
    adapted_ms: int
    held: tuple[tuple[int, int], ...] = ()

    @property
    def in_words(self) -> str:
        return f"adaptive deadline in use: {self.converge_within_ms / 1000:.0f} s"


def adapt(observed: Observed, at_most_ms: int, before: Adaptive | None) -> Adaptive:
    """What is judged by from now on."""
    now_ms = observed.now_ms
    held = before.held if before is not None else ()
    measured_ms = _measured(observed, at_most_ms)
    if measured_ms is not None:
        held = _hold(held, measured_ms, now_ms + measured_ms, now_ms)
    if observed.behind_ms > BLIND_MS:
        held = _hold(held, at_most_ms, now_ms + BLIND_AFTER_MS, now_ms)
    deadline_ms = at_most_ms if measured_ms is None else min(max(measured_ms, held[0][0]), at_most_ms)
    return Adaptive(deadline_ms, _first_look(observed, deadline_ms), now_ms, held)


def _hold(
    held: tuple[tuple[int, int], ...], deadline_ms: int, until_ms: int, now_ms: int
) -> tuple[tuple[int, int], ...]:
    """What is held, and this deadline until then. What is held no longer, or outdone, is left out."""
    others = [
        (one_ms, end_ms)
        for one_ms, end_ms in held
        if end_ms > now_ms and not (one_ms <= deadline_ms and end_ms <= until_ms)
    ]
    if not any(one_ms >= deadline_ms and end_ms >= until_ms for one_ms, end_ms in others):
        others.append((deadline_ms, until_ms))
    return tuple(sorted(others, reverse=True))


def _measured(observed: Observed, at_most_ms: int) -> int | None:
    """The deadline by what was observed; None: nothing was."""
    counts = _with_waiting(observed.lags, observed)
    if not any(counts):
        return None
    p99 = quantile_from_buckets(LAG_BUCKETS_SECONDS, counts, 0.99)
    rounded_ms = ceil(TIMES_LAG * p99 * 1000 / ROUNDED_TO_MS) * ROUNDED_TO_MS
    return min(max(rounded_ms, LEAST_MS), at_most_ms)


def _first_look(observed: Observed, deadline_ms: int) -> int:
    """Never so late that there would not be time for more looks."""
    if (probes := sum(observed.probes)) >= PROBES_NEEDED:
        counts = _with_waiting([PROBE_ONE_IN * count for count in observed.probes], observed)
        # Lags that are much alike lie in one bucket, which may be wide: there the mean tells more.
        bucket = bisect_left(list(accumulate(counts)), sum(counts) / 2)
        above_ms, below_ms = (int(bound * 1000) for bound in (0, *LAG_BUCKETS_SECONDS)[bucket : bucket + 2])
        median_ms = min(max(observed.probes_ms // probes, above_ms), below_ms)
    elif not any(observed.recent) and sum(observed.waiting.values()) >= WAITING_NEEDED:
        # Written evenly, they are half as old as the oldest of them, and the lag is longer than that.
        counts = _with_waiting([0] * len(observed.lags), observed)
        median_ms = int(TIMES_LAG * quantile_from_buckets(LAG_BUCKETS_SECONDS, counts, 0.5) * 1000)
    else:
        return 0
    return min(median_ms, 2 * deadline_ms // 3)


def _with_waiting(counts: Sequence[int], observed: Observed) -> list[int]:
    """The counts, and what is waited for by its age.

    A hot key that comes through is counted at each look, one that waits is one key. So each that waits stands
    for as many looks as it has versions, on average, but for no more than there is time for.
    """
    found = list(counts)
    each = observed.outstanding // max(sum(observed.waiting.values()), 1)
    for bucket, keys in observed.waiting.items():
        age_ms = max(observed.now_ms - bucket * LATE_BUCKET_MS, 0)
        looks = max(1, min(each, age_ms // LOOK_SPACING_MS))
        found[bisect_left(LAG_BUCKETS_SECONDS, age_ms / 1000)] += max(keys, 0) * looks
    return found


def is_probe(key: bytes) -> bool:
    """Whether the key is looked at at once. `lua/publish.lua` says the same."""
    return hashlib.sha1(key, usedforsecurity=False).digest()[0] < 256 // PROBE_ONE_IN

"""The deadline that follows the lag: by itself, and under the judging rule in a world whose lag changes."""

import random
from dataclasses import replace

import pytest

from pipeline.core.adaptive import LEAST_MS, Adaptive, Observed, adapt
from pipeline.core.judging.history import LATE_BUCKET_MS
from pipeline.core.ledger import lag_bucket
from pipeline.core.model import Policy, StreamView
from pipeline.core.statistics import LAG_BUCKETS_SECONDS
from tests.core.simulation import Outcome, simulate
from tests.core.world import World

NOW_MS = 1_800_000_000_000
AT_MOST_MS = 600_000
POLICY = Policy(converge_within_ms=AT_MOST_MS, stable_for_ms=30_000)


def _counts(lags_ms: dict[int, int]) -> list[int]:
    counts = [0] * (len(LAG_BUCKETS_SECONDS) + 1)
    for lag_ms, number in lags_ms.items():
        counts[lag_bucket(lag_ms)] += number
    return counts


def _observed(
    lags_ms: dict[int, int] | None = None,
    waiting_ms: dict[int, int] | None = None,
    probes_ms: dict[int, int] | None = None,
    outstanding: int = 0,
    behind_ms: int = 3_000,
    now_ms: int = NOW_MS,
) -> Observed:
    """waiting_ms: age → keys."""
    return Observed(
        now_ms=now_ms,
        lags=_counts(lags_ms or {}),
        recent=_counts(lags_ms or {}),
        probes=_counts(probes_ms or {}),
        probes_ms=sum(lag_ms * number for lag_ms, number in (probes_ms or {}).items()),
        waiting={(now_ms - age) // LATE_BUCKET_MS: keys for age, keys in (waiting_ms or {}).items()},
        outstanding=outstanding,
        behind_ms=behind_ms,
    )


def _deadline(observed: Observed, before: Adaptive | None = None) -> int:
    return adapt(observed, AT_MOST_MS, before).converge_within_ms


def test_the_deadline_is_three_times_the_lag_of_99_percent_within_its_bounds() -> None:
    assert _deadline(_observed({1_500: 1_000})) == LEAST_MS
    assert 3 * 10_000 < _deadline(_observed({12_000: 1_000})) <= 3 * 15_000
    assert _deadline(_observed({250_000: 1_000})) == AT_MOST_MS
    assert adapt(_observed({1_500: 1}), 20_000, None).converge_within_ms == 20_000


def test_what_is_waited_for_counts_with_its_age() -> None:
    assert _deadline(_observed({1_500: 1_000}, {55_000: 5})) == LEAST_MS  # one in 200
    assert _deadline(_observed({1_500: 1_000}, {55_000: 50})) > 100_000


def test_hot_keys_that_wait_count_as_often_as_they_would_be_looked_at() -> None:
    """Each comes through once a second and waits as one key: a stall of them all is not one in a thousand."""
    looks, waiting = {1_500: 36_000}, {25_000: 40}
    assert _deadline(_observed(looks, waiting)) == LEAST_MS
    assert _deadline(_observed(looks, waiting, outstanding=2_000)) >= 3 * 20_000


def test_where_nothing_is_known_the_deadline_is_the_longest() -> None:
    assert _deadline(_observed()) == AT_MOST_MS
    assert _deadline(_observed({1_500: 1_000}, behind_ms=31_000)) == AT_MOST_MS


def test_a_deadline_does_not_shrink_before_it_has_run_out() -> None:
    long = adapt(_observed({100_000: 1_000}), AT_MOST_MS, None)
    short = {1_500: 100_000}
    then_ms = NOW_MS + long.converge_within_ms - 1
    still = adapt(_observed(short, now_ms=then_ms), AT_MOST_MS, long)
    assert still.converge_within_ms == long.converge_within_ms
    assert _deadline(_observed(short, now_ms=then_ms + 1), still) == LEAST_MS
    assert _deadline(_observed({150_000: 1_000}, now_ms=then_ms), long) > long.converge_within_ms


def test_deadlines_follow_any_course_of_the_lag_within_their_bounds_and_do_not_shrink_early() -> None:
    chance = random.Random(13)
    for _ in range(200):
        before: Adaptive | None = None
        made: list[tuple[int, int]] = []
        now_ms = NOW_MS
        for _ in range(50):
            now_ms += chance.choice((1_000, 5_000, 60_000))
            observed = _observed(
                {int(10 ** chance.uniform(2, 6)): chance.choice((0, 1, 1_000)) for _ in range(3)},
                {int(10 ** chance.uniform(3, 6)): chance.choice((0, 1, 100)) for _ in range(2)},
                behind_ms=chance.choice((0, 3_000, 40_000)),
                now_ms=now_ms,
            )
            before = adapt(observed, AT_MOST_MS, before)
            assert LEAST_MS <= before.converge_within_ms <= AT_MOST_MS
            assert 0 <= before.first_look_ms <= 2 * before.converge_within_ms // 3
            for at_ms, measured_ms in made:
                if now_ms < at_ms + measured_ms:
                    assert before.converge_within_ms >= measured_ms
            if observed.behind_ms < 30_000 and any([*observed.lags, *observed.waiting.values()]):
                made.append((now_ms, _deadline(observed)))


def test_a_first_look_comes_after_the_median_of_the_probes() -> None:
    late = {110_000: 1_000}
    assert adapt(_observed(late), AT_MOST_MS, None).first_look_ms == 0  # nobody looked early enough to tell
    assert adapt(_observed(late, probes_ms={110_000: 60}), AT_MOST_MS, None).first_look_ms == 110_000
    # The lag has fallen, which the others do not know yet.
    assert adapt(_observed(late, probes_ms={1_500: 60}), AT_MOST_MS, None).first_look_ms <= 2_000


def test_where_nothing_has_come_through_the_first_look_waits_for_what_is_waited_for() -> None:
    waiting = dict.fromkeys(range(0, 40_000, 10_000), 100)
    assert 20_000 <= adapt(_observed(None, waiting), AT_MOST_MS, None).first_look_ms <= 90_000
    assert adapt(_observed(None, {40_000: 3}), AT_MOST_MS, None).first_look_ms == 0  # wrong, likely


# --- in a world ---------------------------------------------------------------------------------------------

AUTO = World(keys=150, writes_per_second=0.1, writing_ms=600_000, policy=POLICY, at_most_ms=AT_MOST_MS)
#: name → world in which every change arrives, within --converge-at-most.
HEALTHY = {
    "a steady lag": AUTO,
    "two minutes late": replace(AUTO, lag_ms=(100_000, 120_000)),
    "the lag grows to two minutes and shrinks again": replace(AUTO, growing=(240_000, 0.5)),
    "the lag grows as fast as time": replace(AUTO, growing=(240_000, 1.0)),
    "the replicator stalls for two minutes": replace(AUTO, stall=(300_000, 420_000)),
    "the replicator stalls for two minutes, hot": replace(
        AUTO, keys=40, writes_per_second=2, stall=(300_000, 420_000)
    ),
    "it stalls at once": replace(AUTO, stall=(0, 150_000)),
    "A → B → A, it stalls": replace(AUTO, values=1, stall=(300_000, 420_000)),
    "A → B → A, the lag grows": replace(AUTO, values=2, growing=(240_000, 0.5)),
    "the reader is out, and the replicator stalls": replace(
        AUTO, outage=(250_000, 400_000), stall=(300_000, 420_000)
    ),
}
#: name → world with faults in it.
FAULTY = {
    name: replace(world, dropped=0.01, corrupted=0.01, keys=min(world.keys, 100))
    for name, world in HEALTHY.items()
}


@pytest.mark.parametrize("world", HEALTHY.values(), ids=HEALTHY)
def test_a_lag_that_changes_raises_no_alarm(world: World) -> None:
    outcome = simulate(world, seed=1)
    assert (outcome.alarms, outcome.indeterminate, outcome.missed, outcome.unbalanced) == (0, 0, [], [])
    assert outcome.versions > 1_000


@pytest.mark.parametrize("world", FAULTY.values(), ids=FAULTY)
def test_faults_are_found_whatever_the_lag_does(world: World) -> None:
    _check(simulate(world, seed=2))


@pytest.mark.parametrize("seed", range(30))
def test_random_worlds(seed: int) -> None:
    chance = random.Random(seed)
    writing_ms = chance.choice((60_000, 300_000, 900_000))
    stall_at, outage_at = chance.randrange(writing_ms), chance.randrange(writing_ms)
    slowest_ms = chance.choice((500, 5_000, 60_000, 120_000))
    _check(
        simulate(
            World(
                keys=chance.choice((3, 30, 100)),
                writes_per_second=chance.choice((0.01, 0.1, 0.3)),
                writing_ms=writing_ms,
                lag_ms=(chance.randint(0, slowest_ms), slowest_ms),
                dropped=chance.choice((0, 0.02, 0.3)),
                corrupted=chance.choice((0, 0.02)),
                stall=(stall_at, stall_at + 60_000) if chance.random() < 0.4 else None,
                outage=(outage_at, outage_at + 60_000) if chance.random() < 0.3 else None,
                growing=(writing_ms // 2, chance.choice((0.1, 0.3))) if chance.random() < 0.4 else None,
                values=chance.choice((0, 0, 1, 3)),
                view=chance.choice(tuple(StreamView)),
                policy=POLICY,
                at_most_ms=AT_MOST_MS,
            ),
            seed=seed,
        )
    )


def test_a_dead_replicator_is_told_of_at_the_longest_deadline() -> None:
    outcome = simulate(replace(AUTO, keys=100, stall=(300_000, 30_000_000)), seed=3)
    assert outcome.open > 50
    assert max(outcome.detected_ms) < AT_MOST_MS + 60_000


def test_a_lag_of_a_second_has_the_shortest_deadline_and_finds_faults_by_it() -> None:
    outcome = simulate(replace(FAULTY["a steady lag"], keys=200), seed=4)
    _check(outcome)
    assert sorted(outcome.detected_ms)[len(outcome.detected_ms) // 2] < 2 * LEAST_MS


def test_two_minutes_late_it_takes_few_reads() -> None:
    world = replace(HEALTHY["two minutes late"], keys=1_500, writes_per_second=0.002)
    fixed = replace(world, at_most_ms=0, policy=Policy(converge_within_ms=360_000, stable_for_ms=30_000))
    auto, before = simulate(world, seed=5), simulate(fixed, seed=5)
    assert auto.reads < 3 * auto.versions < before.reads / 3


def _check(outcome: Outcome) -> None:
    assert not outcome.false_alarms
    assert not outcome.missed
    assert not outcome.unbalanced

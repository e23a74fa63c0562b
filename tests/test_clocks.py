"""The clocks: AWS's from Date headers, the state's in every process, and what a step of any of them moves."""

import email.utils
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from structlog.typing import EventDict

from pipeline.aws import DateClock
from pipeline.core.model import ABSENT, Change, Checkpoint, Counts
from pipeline.store.clock import AwsClocks, Reading, StateClock
from pipeline.store.connection import KeptTime
from tests import servers
from tests.whole_store import WholeStore, watch

NOON_SECONDS = 1_764_158_400


def date(seconds: float) -> str:
    return email.utils.formatdate(NOON_SECONDS + int(seconds), usegmt=True)


class World:
    """AWS's time, and the clocks that are off from it: monotonic clocks and Redis' TIME."""

    def __init__(self) -> None:
        self.aws = 0.0  # seconds since noon
        self.redis_ahead = 0.0
        self.kept: int | None = None
        self.steps = 0
        self.random = random.Random(1)

    def read(self) -> Reading:
        """An answer of Redis, which takes a while."""
        self.aws += self.random.uniform(0, 0.1)
        time_ms = self.ms() + int(self.redis_ahead * 1000)
        self.aws += self.random.uniform(0, 0.1)
        return Reading(time_ms, self.kept)

    def set(self, before_ms: int | None, distance_ms: int, *, step: bool) -> bool:
        if self.kept != before_ms:
            return False
        self.kept = distance_ms
        self.steps += step
        return True

    def ms(self) -> int:
        return int((NOON_SECONDS + self.aws) * 1000)


class Process:
    """One process: its monotonic clock, and the state's clock as it knows it."""

    def __init__(self, world: World, boot_seconds: float, *, asks_aws: bool) -> None:
        self.world = world
        self.boot_seconds = boot_seconds
        self.dates = DateClock(self.monotonic)
        aws = AwsClocks(self.dates, self.ask) if asks_aws else None
        self.clock = StateClock(world, aws, self.monotonic)

    def monotonic(self) -> float:
        return self.world.aws - self.boot_seconds

    def stand_still(self, seconds: float) -> None:
        """A paused machine: its monotonic clock does not go on, the world does."""
        self.world.aws += seconds
        self.boot_seconds += seconds

    def ask(self) -> None:
        asked = self.monotonic()
        self.world.aws += self.world.random.uniform(0.001, 0.2)
        answer = date(self.world.aws)
        self.world.aws += self.world.random.uniform(0.001, 0.2)
        self.dates.saw(answer, asked, self.monotonic())

    def error_ms(self) -> int:
        """How far it is behind; one that asks AWS is never ahead, nor later than it says it may be."""
        behind_ms = self.world.ms() - self.clock.now_ms()
        if self.dates.now_ms() is not None:
            assert behind_ms >= -1 and self.clock.latest_ms() >= self.world.ms() - 1
        return abs(behind_ms)


@pytest.fixture
def world() -> World:
    return World()


# --- AWS's clock -------------------------------------------------------------------------------------------


def test_answers_bound_awss_clock_ever_more_closely(world: World) -> None:
    process = Process(world, -1_000, asks_aws=True)
    assert process.dates.now_ms() is None
    errors = []
    for _ in range(30):
        process.ask()
        world.aws += world.random.uniform(0, 3)
        errors.append(process.error_ms())
    assert errors[0] <= 1_400 and max(errors[10:]) <= 500
    assert process.dates.steps == 0


def test_an_answer_that_was_long_on_its_way_tells_no_time() -> None:
    clock = DateClock(lambda: 100.0)
    clock.saw(date(0), 50.0, 100.0)
    assert clock.now_ms() is None
    clock.saw("not a date", 99.9, 100.0)
    assert clock.now_ms() is None and clock.steps == 0


def test_answers_of_machines_that_differ_by_a_second_are_no_step() -> None:
    clock = DateClock(lambda: 103.0)
    for asked, told in ((100.0, 0), (101.0, 2), (102.0, 2), (103.0, 4)):
        clock.saw(date(told), asked, asked + 0.01)
    now_ms = clock.now_ms()
    assert now_ms is not None and abs(now_ms / 1000 - NOON_SECONDS - 4) <= 1
    assert clock.steps == 0


@pytest.mark.parametrize("seconds", [5, 600, 3_600])
def test_a_machine_that_was_paused_finds_out_with_the_next_answer(world: World, seconds: float) -> None:
    process = Process(world, 0, asks_aws=True)
    process.ask()
    process.stand_still(seconds)
    assert process.world.ms() - process.clock.now_ms() > seconds * 900  # nobody can know yet
    process.ask()
    assert process.error_ms() <= 1_400
    assert process.clock.steps == process.dates.steps == 1


@pytest.mark.parametrize("seconds", [-600, 600])
def test_whoever_has_seen_a_step_goes_by_the_time_after_it(seconds: int) -> None:
    """Else a look begun just then is timed by what was known before, and nobody finds it void.

    The log is where another thread's turn is certain to come: it may wait for whoever reads the output.
    """
    clock = DateClock(lambda: 100.0)
    clock.saw(date(0), 99.9, 100.0)
    told: list[tuple[int, float]] = []

    def another_threads_turn(_logger: object, _name: str, event: EventDict) -> EventDict:
        now_ms = clock.now_ms()
        assert now_ms is not None
        told.append((clock.steps, now_ms / 1000 - NOON_SECONDS))
        raise structlog.DropEvent

    structlog.configure(processors=[another_threads_turn])
    clock.saw(date(seconds), 99.9, 100.0)
    [(steps, now)] = told
    assert steps == 1 and abs(now - seconds) <= 1


# --- the state's clock -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_no_step_of_redis_clock_moves_anybodys_time(seed: int) -> None:
    """2 s to 1 h, forward and back, again and again; seen by one that asks AWS and one that cannot."""
    world = World()
    world.random.seed(seed)
    world.redis_ahead = world.random.uniform(-5_000, 5_000)
    reader, monitor = Process(world, -7, asks_aws=True), Process(world, 300, asks_aws=False)
    reader.ask()
    reader.clock.keep()
    stepped, latest = 0, 0
    for second in range(400):
        if second % 40 == 20:
            world.redis_ahead += world.random.choice((-1, 1)) * world.random.choice((2.5, 30, 600, 3_600))
            stepped += 1
            assert monitor.error_ms() <= 1_500  # before the reader has noticed
        if second % 7 == 0:
            reader.ask()
        reader.clock.keep()
        assert reader.error_ms() <= 800 and monitor.error_ms() <= 1_500
        assert monitor.clock.now_ms() >= latest
        latest = monitor.clock.now_ms()
        world.aws += 1
    assert world.steps == stepped
    assert reader.clock.steps == monitor.clock.steps == 0


def test_of_several_readers_one_counts_a_step(world: World) -> None:
    readers = [Process(world, boot, asks_aws=True) for boot in (0, 40, -900)]
    for reader in readers:
        reader.ask()
        reader.clock.keep()
    world.redis_ahead = -600
    for _ in range(5):
        for reader in readers:
            reader.clock.keep()
        world.aws += 1
    assert world.steps == 1


def test_a_clock_that_was_stepped_while_nobody_ran_is_set_right_by_the_first_who_asks_aws(
    world: World,
) -> None:
    first = Process(world, 0, asks_aws=True)
    first.ask()
    first.clock.keep()
    world.aws += 1_000
    world.redis_ahead = -3_600
    second = Process(world, 1_000, asks_aws=True)
    second.ask()
    assert second.error_ms() <= 1_400
    second.clock.keep()
    assert Process(world, 1_000, asks_aws=False).error_ms() <= 1_500


def test_who_cannot_ask_aws_and_stood_still_goes_by_redis_after_a_while(world: World) -> None:
    reader, monitor = Process(world, 0, asks_aws=True), Process(world, 0, asks_aws=False)
    reader.ask()
    reader.clock.keep()
    monitor.clock.now_ms()
    monitor.stand_still(600)
    errors = []
    for _ in range(15):
        reader.clock.keep()
        errors.append(monitor.error_ms())
        world.aws += 1
    assert errors[-1] <= 1_500 and monitor.clock.steps == 1


def test_when_the_other_side_shows_a_pause_the_origin_is_asked_before_anything_is_timed(world: World) -> None:
    process, target = Process(world, 0, asks_aws=True), DateClock()
    target_ahead = world.aws
    asked: list[int] = []
    process.ask()

    def ask() -> None:
        asked.append(1)
        process.ask()

    clock = StateClock(world, AwsClocks(process.dates, ask, others=(target,)), process.monotonic)
    clock.check()
    assert not asked and target_ahead == 0.0
    for _ in range(2):
        target.saw(date(world.aws), process.monotonic(), process.monotonic())
        process.stand_still(300)
    before = clock.steps
    clock.check()
    assert asked and clock.steps == before + 1
    assert abs(clock.now_ms() - world.ms()) <= 1_400


def test_when_awss_time_becomes_known_what_was_timed_by_redis_is_void(world: World) -> None:
    """Redis' clock was stepped while nobody ran, and AWS's first answers were long on their way."""
    process = Process(world, 0, asks_aws=True)
    world.redis_ahead += 120
    assert process.clock.now_ms() > world.ms() + 100_000  # all that there is to go by
    before = process.clock.steps
    process.ask()
    assert abs(process.clock.now_ms() - world.ms()) <= 1_500
    assert process.clock.steps == before + 1


def test_awss_time_is_asked_for_again_until_it_is_known(world: World) -> None:
    process, asked = Process(world, 0, asks_aws=True), []
    clock = StateClock(world, AwsClocks(process.dates, lambda: asked.append(1)), process.monotonic)
    for _ in range(3):
        world.aws += 1.5
        clock.check()
    process.ask()
    world.aws += 1.5
    clock.check()
    assert len(asked) == 3


# --- with a real server whose clock steps ------------------------------------------------------------------


class Ahead:
    """AWS's clock, as far ahead of Redis' as the test wants."""

    steps = 0

    def __init__(self, kept: KeptTime) -> None:
        self._kept = kept
        self.stepped_seconds = 0.0

    def now_ms(self) -> int:
        return self._kept.read().time_ms - int(self.stepped_seconds * 1000)

    def latest_ms(self) -> int:
        return self.now_ms()


@pytest.fixture(scope="module")
def stepping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, servers.SteppingClock]]:
    directory = tmp_path_factory.mktemp("stepping")
    clock = servers.SteppingClock(directory)
    with servers.redis_like(servers.valkey_binary(), directory, clock=clock) as url:
        yield url, clock


def stepped(clock: servers.SteppingClock, kept: KeptTime, seconds: float) -> None:
    """Step the server's clock, and wait until the server has noticed."""
    clock.step(seconds)
    servers.eventually(
        lambda: abs(kept.read().time_ms - (time.time() + seconds) * 1000) < 1_000, 10, "the step"
    )


@pytest.mark.parametrize("seconds", [-3_600, 3_600])
def test_a_migration_begun_where_redis_clock_is_wrong_begins_by_awss(
    stepping: tuple[str, servers.SteppingClock], seconds: float
) -> None:
    url, clock = stepping
    kept = KeptTime(watch(url, "m")._connection)
    stepped(clock, kept, seconds)
    aws = Ahead(kept)
    aws.stepped_seconds = seconds
    store = WholeStore.begin(url, f"begun{seconds}", {}, AwsClocks(aws, lambda: None))
    assert abs(store.meta.started_ms - aws.now_ms()) < 5_000


@pytest.mark.parametrize("seconds", [-3_600, -600, -3, 3, 120, 3_600])
def test_a_step_of_the_servers_clock_moves_no_lease_no_due_time_and_no_figure(
    stepping: tuple[str, servers.SteppingClock], tmp_path: Path, seconds: float
) -> None:
    url, clock = stepping
    migration = f"step{seconds}"
    kept = KeptTime(watch(url, migration)._connection)
    stepped(clock, kept, 0)
    aws = Ahead(kept)
    store = WholeStore.begin(url, migration, {}, AwsClocks(aws, lambda: None))
    monitor = watch(url, migration)
    store.clock.keep()
    store.register("test:1", Checkpoint(b"0"))
    lease = store.lease("test:1", "reader", 10_000)
    assert lease is not None
    key = Change(b'"k"', ABSENT, b"d" * 16, store.now_ms())
    store.publish(lease, Checkpoint(b"0"), Checkpoint(b"1"), [key], Counts(1))
    store.renew("reader", [lease], {"test:1": (Checkpoint(b"1"), store.now_ms())}, 10_000)
    [entry] = store.claim("dies", 10, 0).entries
    before = monitor.figures()

    stepped(clock, kept, seconds)
    aws.stepped_seconds = seconds
    figures = monitor.figures()
    assert abs(figures.now_ms - before.now_ms) < 5_000
    assert abs((figures.reader_lag_seconds or 0) - (before.reader_lag_seconds or 0)) < 5
    assert store.lease("test:1", "thief", 10_000) is None
    assert store.renew("reader", [lease], {"test:1": (Checkpoint(b"1"), 0)}, 10_000) == {"test:1": True}

    store.clock.keep()
    store.clock.keep()
    figures = monitor.figures()
    assert figures.clock.steps == 1
    assert abs((figures.clock.distance_ms or 0) + seconds * 1000) < 1_500
    # The entry of a validator that died is taken over as soon as ever, however young TIME makes it look.
    servers.eventually(lambda: [one.id for one in store.claim("lives", 10, 500).entries] == [entry.id], 20)

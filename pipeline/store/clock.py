"""The state's clock: AWS's, by which the changes are dated; no host's clock moves it.

Reads: AWS's clock through what a role gives, Redis' TIME, the monotonic clock. Writes: how far the state's
clock is from Redis' TIME. Never: this host's wall clock.

Whoever asks AWS knows the time by itself, and every call of a script carries it along: Redis' own clock
decides nothing. It only serves those who cannot ask AWS (the monitor, the commands that look): for them the
distance between the two is kept in Redis, and they carry the time on with their monotonic clock. For example:

    1. 12:00:00  a reader finds TIME 11:59:58 in Redis, and keeps the distance: + 2 s
    2. 12:00:10  the monitor reads TIME 12:00:08, + 2 s
    3. 12:00:11  Redis fails over to a host whose clock is an hour slow: TIME 11:00:09
    4. 12:00:11  the monitor reads 11:00:09 + 2 s: not what its monotonic clock says, so it goes by that
    5. 12:00:12  the reader finds TIME 11:00:10, an hour away from what is kept: + 3,602 s, and a step counted
    6. 12:00:13  the monitor reads 11:00:11 + 3,602 s: they agree again
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from pipeline.errors import StoreUnavailable

log = structlog.get_logger(__name__)

#: A distance that is off by more than this shows a step; by less, two clocks that drift apart.
STEP_MS = 1_500
#: … and is set right from this on: as exact as the clocks of those who ask AWS are.
DRIFT_MS = 750
#: An answer of Redis that took longer says too little about its clock.
READ_WITHIN_MS = 1_000
#: A process that reads the other side only asks the origin this often, lest its clock drift.
ASK_EVERY_SECONDS = 60.0
#: … and this often while its time is not known.
UNKNOWN_EVERY_SECONDS = 1.0
#: Who cannot ask AWS asks Redis this often, …
FOLLOW_EVERY_SECONDS = 1.0
#: … and believes what does not fit its monotonic clock once that has lasted this long (it stood still).
DOUBT_SECONDS = 10.0


class AwsClock(Protocol):
    """One side's clock, as its answers tell it: now at the earliest, and at the latest.

    steps: how often the answers contradicted each other.
    """

    @property
    def steps(self) -> int: ...
    def now_ms(self) -> int | None: ...
    def latest_ms(self) -> int | None: ...


@dataclass(frozen=True)
class AwsClocks:
    """What a role knows of AWS's time.

    origin: the side whose changes are read, which dates them; ask: makes a request there. others: of the
    other side, which only show that this process stood still.
    """

    origin: AwsClock
    ask: Callable[[], object]
    others: Sequence[AwsClock] = field(default=())


@dataclass(frozen=True)
class Reading:
    """Redis' TIME, and the distance of the state's clock from it (None: not kept yet)."""

    time_ms: int
    distance_ms: int | None


class RedisTime(Protocol):
    """The clock as Redis keeps it."""

    def read(self) -> Reading:
        """Raises StoreUnavailable."""
        ...

    def set(self, before_ms: int | None, distance_ms: int, *, step: bool) -> bool:
        """Keep a new distance instead of `before_ms`; False when somebody else has changed it."""
        ...


class StateClock:
    """The state's clock in one process. Thread-safe; it goes back only with AWS's own."""

    def __init__(
        self,
        redis: RedisTime,
        aws: AwsClocks | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """aws: None for a process that cannot ask AWS."""
        self._aws = aws
        self._redis = redis
        self._monotonic = monotonic
        self._follower = Follower(redis, monotonic)
        self._asking = threading.Lock()
        self._asked_at = monotonic()
        self._asked_steps = 0
        self._latest_ms = 0
        self._by_redis = False  # AWS's time was not known when it was asked for last
        self._corrections = 0

    def now_ms(self) -> int:
        """Raises StoreUnavailable in a process that has neither AWS's answer nor Redis' yet."""
        known_ms = self._aws.origin.now_ms() if self._aws else None
        now_ms = self._follower.now_ms() if known_ms is None else known_ms
        if self._by_redis and known_ms is not None and abs(known_ms - self._latest_ms) > STEP_MS:
            self._corrections += 1  # what was timed by Redis' clock until now was timed wrongly
        self._by_redis = known_ms is None
        latest_ms = self._latest_ms
        if latest_ms - STEP_MS < now_ms < latest_ms:
            return latest_ms
        self._latest_ms = now_ms
        return now_ms

    def latest_ms(self) -> int:
        """What it may be by now at the latest: for what an answer may have shown."""
        known_ms = self._aws.origin.latest_ms() if self._aws else None
        return max(self.now_ms(), known_ms or 0)

    @property
    def steps(self) -> int:
        """How often this process's clock was found to be wrong. What was timed across a step is void."""
        of_aws = sum(clock.steps for clock in (self._aws.origin, *self._aws.others)) if self._aws else 0
        return of_aws + self._follower.steps + self._corrections

    def check(self) -> None:
        """Ask AWS now and then, and at once when the other side has shown that this process stood still.

        While AWS's time is not known (its answers are long on their way), it is asked for once a second.
        To be called before anything is timed. Raises AwsError.
        """
        if self._aws is None:
            return
        with self._asking:
            steps = sum(clock.steps for clock in self._aws.others)
            unknown = self._aws.origin.now_ms() is None
            due = self._monotonic() - self._asked_at >= (
                UNKNOWN_EVERY_SECONDS if unknown else ASK_EVERY_SECONDS
            )
            if due or steps != self._asked_steps:
                self._aws.ask()
                self._asked_at, self._asked_steps = self._monotonic(), steps

    def keep(self) -> None:
        """Keep the distance in Redis, if this process can: to be called once a second.

        Raises StoreUnavailable.
        """
        origin = self._aws.origin if self._aws else None
        if origin is None or (asked_ms := origin.now_ms()) is None:
            return
        reading = self._redis.read()
        answered_ms = origin.now_ms()
        if answered_ms is None or answered_ms - asked_ms > READ_WITHIN_MS:
            return
        # Redis looked at its clock somewhere between the two.
        low_ms, high_ms = asked_ms - reading.time_ms, answered_ms - reading.time_ms
        kept_ms = reading.distance_ms
        off_ms = 0 if kept_ms is None else max(low_ms - kept_ms, kept_ms - high_ms)
        if kept_ms is None or off_ms > DRIFT_MS:
            self._set(kept_ms, (low_ms + high_ms) // 2, step=off_ms > STEP_MS)

    def _set(self, kept_ms: int | None, distance_ms: int, *, step: bool) -> None:
        if self._redis.set(kept_ms, distance_ms, step=step) and step and kept_ms is not None:
            log.warning(
                "the clock of the Redis host stepped: nothing depends on it",
                seconds=round((kept_ms - distance_ms) / 1000, 1),
                remedy="keep it by NTP",
            )


class Follower:
    """The state's clock as Redis keeps it, carried on with the monotonic clock. Thread-safe."""

    def __init__(self, redis: RedisTime, monotonic: Callable[[], float]) -> None:
        self._redis = redis
        self._monotonic = monotonic
        self._ahead_ms: int | None = None  # of the monotonic clock
        self._read_at = float("-inf")
        self._doubted_since: float | None = None
        self._stepping = threading.Lock()
        self._steps = 0

    @property
    def steps(self) -> int:
        """How often it was found that this process stood still. Who has seen it goes by the time after it."""
        with self._stepping:
            return self._steps

    def now_ms(self) -> int:
        """Asks Redis when that was long ago. Raises StoreUnavailable before the first answer."""
        asked = self._monotonic()
        ahead_ms = self._ahead_ms
        if ahead_ms is None:
            ahead_ms = self._follow(self._redis.read(), asked)
        elif asked - self._read_at >= FOLLOW_EVERY_SECONDS:
            with contextlib.suppress(StoreUnavailable):
                ahead_ms = self._follow(self._redis.read(), asked)
        return int(self._monotonic() * 1000) + ahead_ms

    def _follow(self, reading: Reading, asked: float) -> int:
        """What Redis says, taken in; how far the state's clock is ahead of the monotonic one, in ms."""
        self._read_at = answered = self._monotonic()
        state_ms = reading.time_ms + (reading.distance_ms or 0)
        # Redis looked at its clock somewhere between the two.
        low_ms, high_ms = state_ms - int(answered * 1000), state_ms - int(asked * 1000)
        if self._ahead_ms is None:
            self._ahead_ms = (low_ms + high_ms) // 2
        elif low_ms - STEP_MS <= self._ahead_ms <= high_ms + STEP_MS:
            self._doubted_since = None
            if high_ms - low_ms <= READ_WITHIN_MS:
                self._ahead_ms = (low_ms + high_ms) // 2
        elif self._doubted_since is None:
            self._doubted_since = asked
        elif answered - self._doubted_since >= DOUBT_SECONDS:
            with self._stepping:
                self._steps += 1
                self._ahead_ms, self._doubted_since = (low_ms + high_ms) // 2, None
            log.warning("this host stood still: going by the clock that Redis keeps")
        return self._ahead_ms

"""The connection to Redis or Valkey: URL, timeouts, key names, scripts; redis errors become ours.

Reads and writes: what the store asks for. Never: waiting. redis-py repeats a call ten times by default, and a
lost reply then counts twice; here it does not. The scripts may be repeated safely instead, and their callers
decide when.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline.errors import ConfigurationError, StateLost, StoreError, StoreUnavailable
from pipeline.store.clock import AwsClocks, Reading, StateClock
from pipeline.store.scripts import KEEP_CLOCK, Script, source

#: The consumer group of the work stream.
GROUP = "validators"
CONNECT_TIMEOUT_SECONDS, CALL_TIMEOUT_SECONDS = 2.0, 5.0
#: A connection that was idle this long is tried before it is used.
HEALTH_CHECK_SECONDS = 15


#: How Redis begins to say that it takes no writes for a while. A script is refused before its first one.
_WRITES_REFUSED = ("MISCONF", "NOREPLICAS", "READONLY")


class RedisConnection:
    """One server and one migration's names on it. Raises ConfigurationError for a URL that is none."""

    def __init__(self, url: str, migration: str, aws: AwsClocks | None = None) -> None:
        """url: redis://, rediss:// (TLS) or unix://, also with a password. Connects with the first call.

        aws: the time, as AWS tells it; None in a process that cannot ask there.
        """
        self.migration = migration
        self.clock = StateClock(KeptTime(self), aws)
        self._prefix = f"ddbmm:{{{migration}}}:"
        self._calls: dict[str, Callable[..., Any]] = {}
        try:
            self.redis = redis.Redis.from_url(
                url,
                retry=Retry(NoBackoff(), 0),
                socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
                socket_timeout=CALL_TIMEOUT_SECONDS,
                health_check_interval=HEALTH_CHECK_SECONDS,
            )
        except ValueError as error:
            raise ConfigurationError(f"--redis-url is not a Redis URL: {error}") from error

    def close(self) -> None:
        self.redis.close()

    def key(self, name: str) -> str:
        return self._prefix + name

    def keys(self, *names: str) -> list[str]:
        return [self._prefix + name for name in names]

    def run(self, script: Script, args: Sequence[Any]) -> Any:
        """What the script answers. Its last argument is the time, unless it is only tried (no arguments)."""
        call = self._calls.get(script.name)
        if call is None:
            call = self._calls[script.name] = self.redis.register_script(source(script.name))
        with translated():
            return call(keys=self.keys(*script.keys), args=[*args, self.clock.now_ms()] if args else [])

    def time_ms(self) -> int:
        """What the server's own clock says."""
        with translated():
            seconds, micros = self.redis.time()
        return seconds * 1000 + micros // 1000


class KeptTime:
    """The clock as Redis keeps it; see `clock.RedisTime`."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    def read(self) -> Reading:
        with translated():
            pipe = self._connection.redis.pipeline(transaction=True)
            pipe.time()
            pipe.hget(self._connection.key("clock"), "distance_ms")
            (seconds, micros), distance_ms = pipe.execute()
        return Reading(seconds * 1000 + micros // 1000, None if distance_ms is None else int(distance_ms))

    def set(self, before_ms: int | None, distance_ms: int, *, step: bool) -> bool:
        before = "" if before_ms is None else before_ms
        args = (before, distance_ms, int(step), GROUP)
        return bool(self._connection.run(KEEP_CLOCK, args))


class NotAllowed(ConfigurationError):
    """The user's ACL lacks a command or a key."""


@contextmanager
def translated() -> Iterator[None]:
    """Redis errors become ours; none of them is ever a verdict."""
    try:
        yield
    except redis.exceptions.NoPermissionError as error:
        raise NotAllowed(
            f"the Redis user may not do what is needed: {error}", "`doctor` says what to allow"
        ) from error
    except (redis.AuthenticationError, redis.exceptions.AuthorizationError) as error:
        raise ConfigurationError(f"Redis refused the credentials in --redis-url: {error}") from error
    except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError) as error:
        raise StoreUnavailable(f"Redis cannot be reached: {error}") from error
    except redis.OutOfMemoryError as error:
        raise StoreUnavailable(
            "Redis is at maxmemory, and publishing waits until there is room", "raise maxmemory"
        ) from error
    except redis.RedisError as error:
        raise _translation(str(error)) from error


def _translation(answer: str) -> StoreError:
    word = answer.partition(" ")[0]
    if word in ("STATELOST", "NOGROUP"):
        return StateLost(f"the migration's state is gone from Redis: {answer}")
    if word in _WRITES_REFUSED:
        return StoreUnavailable(f"Redis takes no writes now: {answer}")
    if word == "WRONGTYPE":
        return StoreError(
            f"a key of the migration holds something else: {answer}",
            "delete that key, or give the migration a Redis of its own",
        )
    return StoreError(f"Redis refused a call: {answer}")

"""The connection to Redis or Valkey: URL, timeouts, key names, scripts; redis errors become ours.

Reads and writes: what the store asks for. Never: waiting. redis-py repeats a call ten times by default, and a
lost reply then counts twice; here it does not. The scripts may be repeated safely instead, and their callers
decide when.

After every call that failed the idle connections are closed: behind a name, by a Sentinel's word or in a
cluster there may be another server by now, while the one that they lead to is alive, takes no writes, and
keeps them open for ever.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline.core.judging.history import MAX_MS
from pipeline.core.quoting import quoted
from pipeline.core.redis_url import Form, fault_of, where
from pipeline.errors import ConfigurationError, StateLost, StoreFull, StoreNotReady
from pipeline.store.answers import CHOKED, NotAllowed, translation
from pipeline.store.clock import AwsClocks, Reading, StateClock
from pipeline.store.locating import Cluster, Pools, WayToNode
from pipeline.store.outage import Outage
from pipeline.store.scripts import CLAIM, KEEP_CLOCK, Script, source

#: The consumer group of the work stream.
GROUP = "validators"
CONNECT_TIMEOUT_SECONDS, CALL_TIMEOUT_SECONDS = 2.0, 5.0
#: A connection that was idle this long is tried before it is used.
HEALTH_CHECK_SECONDS = 15


class RedisConnection:
    """One server and one migration's names on it. Raises ConfigurationError for a URL that is none."""

    def __init__(
        self,
        url: str,
        migration: str,
        aws: AwsClocks | None = None,
        outage: Outage | None = None,
        pools: Pools | None = None,
    ) -> None:
        """url: one of the forms of `core/redis_url.py`. Connects with the first call.

        aws: the time, as AWS tells it; None in a process that cannot ask there. outage: is told what goes
        well and what does not; None for a command that looks once. pools: of a process that serves several
        migrations, which share their connections where they can.
        """
        if fault := fault_of(url):
            raise ConfigurationError(f"--redis-url cannot be used: {fault}")
        self.migration = migration
        self._outage = outage
        self.clock = StateClock(KeptTime(self), aws)
        self._prefix = f"ddbmm:{{{migration}}}:"
        self._calls: dict[str, Callable[..., Any]] = {}
        options = {
            "protocol": 3,
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "socket_timeout": CALL_TIMEOUT_SECONDS,
            "health_check_interval": HEALTH_CHECK_SECONDS,
        }
        located = where(url)
        self.form = located.form
        #: locator: who knows where the server is; None: the URL names it.
        self.locator, of_the_server = (pools or Pools()).of(located, options, self.key(""))
        own = pools is None
        self.redis = (redis.Redis.from_pool if own else redis.Redis)(connection_pool=of_the_server)

    @property
    def place(self) -> str:
        """Which server it is, where the URL does not say so; else ""."""
        if isinstance(self.locator, Cluster):
            return f"the node of the cluster that has slot {self.locator.slot}"
        return "the primary that the Sentinels name" if self.locator else ""

    def silent_hosts(self) -> list[str]:
        """The hosts of the URL that do not say where the server is, and why."""
        told = self.locator.told() if self.locator else []
        return [
            f"{host}:{port}: {translation(where_or_why).problem}"
            for (host, port), where_or_why in told
            if isinstance(where_or_why, redis.RedisError)
        ]

    def check_hosts_agree(self) -> None:
        """Raises StoreNotReady where the hosts of the URL name several servers, for a while, or because they
        have nothing in common: then each connection would be made to another one.
        """
        if not self.locator:
            return
        told = [(host, at) for host, at in self.locator.told() if not isinstance(at, redis.RedisError)]
        named = {self.locator.name_of(at): (host, at) for host, at in reversed(told)}
        if len(named) > 1:
            words = ", ".join(f"{host[0]}:{host[1]} names {at[0]}:{at[1]}" for host, at in named.values())
            raise StoreNotReady(
                f"the hosts of --redis-url do not agree where the server is: {quoted(words)}",
                "name hosts of one cluster, or Sentinels of one service; while it fails over, wait",
            )

    def close(self) -> None:
        """Connections that are shared stay."""
        self.redis.close()

    def servers(self) -> "list[redis.Redis]":
        """All that hold keys: a cluster's primaries, or the one server."""
        pool = self.redis.connection_pool
        if not isinstance(pool, WayToNode):
            return [self.redis]
        return [redis.Redis(connection_pool=node) for node in pool.nodes()]

    def key(self, name: str) -> str:
        return self._prefix + name

    def keys(self, *names: str) -> list[str]:
        return [self._prefix + name for name in names]

    def run(self, script: Script, args: Sequence[Any]) -> Any:
        """What the script answers. Its last argument is the time, unless it is only tried (no arguments)."""
        call = self._prepared(script)
        args = [*args, self.clock.now_ms()] if args else []
        with self.asking(script.name):
            return call(keys=self.keys(*script.keys), args=args)

    def _prepared(self, script: Script) -> Callable[..., Any]:
        call = self._calls.get(script.name)
        if call is None:
            call = self._calls[script.name] = self.redis.register_script(source(script.name))
        return call

    def check_takes_writes(self) -> None:
        """Raises StoreUnavailable where the server takes no writes, such as a primary that was replaced.

        It is a trial of a script that changes nothing; a user who may call none learns nothing from it.
        """
        with suppress(NotAllowed), self.asking("check", tolerated=NotAllowed):
            self._prepared(CLAIM)(keys=self.keys(*CLAIM.keys), args=[])

    @contextmanager
    def asking(self, call: str, tolerated: type[Exception] | tuple[()] = ()) -> Iterator[None]:
        """Redis' errors become ours; none of them is ever a verdict. call: the kind of call, for the outage.

        tolerated: an error of ours that says nothing about an outage.
        """
        try:
            yield
        except (redis.RedisError, *CHOKED) as error:
            ours = translation(error, in_cluster=self.form is Form.CLUSTER)
            self.redis.connection_pool.disconnect(inuse_connections=False)
            if self._outage and not isinstance(ours, (StateLost, StoreFull, tolerated)):
                self._outage.failed(call, ours, self.migration)
            raise ours from error
        if self._outage:
            self._outage.served(call, self.migration)

    def time_ms(self) -> int:
        """What the server's own clock says."""
        with self.asking("time"):
            seconds, micros = self.redis.time()
            return seconds * 1000 + micros // 1000


def _distance(raw: bytes | None, time_ms: int) -> int | None:
    """None also for one that is damaged: whoever knows the time keeps another one."""
    with suppress(ValueError):
        distance_ms = int(raw or "")
        if 0 < time_ms + distance_ms <= MAX_MS:
            return distance_ms
    return None


class KeptTime:
    """The clock as Redis keeps it; see `clock.RedisTime`."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    def read(self) -> Reading:
        with self._connection.asking("clock"):
            pipe = self._connection.redis.pipeline(transaction=True)
            pipe.time()
            pipe.hget(self._connection.key("clock"), "distance_ms")
            (seconds, micros), distance_ms = pipe.execute()
        time_ms = seconds * 1000 + micros // 1000
        return Reading(time_ms, _distance(distance_ms, time_ms))

    def _raw(self) -> bytes:
        """What stands there, damaged perhaps."""
        with self._connection.asking("clock"):
            return (
                cast(bytes | None, self._connection.redis.hget(self._connection.key("clock"), "distance_ms"))
                or b""
            )

    def set(self, before_ms: int | None, distance_ms: int, *, step: bool) -> bool:
        before = self._raw() if before_ms is None else before_ms
        args = (before, distance_ms, int(step), GROUP)
        return bool(self._connection.run(KEEP_CLOCK, args))

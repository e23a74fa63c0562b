"""Where the migration's server is, asked of Sentinels or of a cluster's nodes for every new connection.

Reads: what they say. Writes: nothing. Never: waiting. No call is repeated here.

A migration is one hash slot, so one node has all of it, and a connection to that node is all that is needed.
redis-py's own cluster client repeats calls whose answer was lost, and asks any node for TIME: both are wrong.
After a failover or a move the old connections fail, are closed (see `connection`), and the next ones are made
to where the migration is then.
"""

import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

import redis
from redis.connection import Connection, ConnectionPool, SSLConnection, parse_url
from redis.crc import key_slot

from pipeline.core.redis_url import Address, Form, Where
from pipeline.store.answers import NotReached, WrongForm

Answer = TypeVar("Answer")

#: A host of the URL, and where it says that the server is, or why it does not.
Told = tuple[Address, Address | redis.RedisError]

#: What comes of an answer that is none.
_CHOKED = (ValueError, AttributeError, TypeError, LookupError)


_MAY_ASK = (
    "write ?sentinel_username=USER&sentinel_password=PASSWORD behind the database, of a user that may "
    "+sentinel|get-master-addr-by-name (the Sentinels have users of their own)"
)


class Locator(Protocol):
    """Who knows where the server is."""

    def find(self) -> Address:
        """Where it is now. Raises a RedisError when nobody says so."""

    def told(self) -> "list[Told]":
        """What each host of the URL says."""

    def name_of(self, server: Address) -> str:
        """What tells a server that was named from others: it may have several addresses."""


class _Hosts:
    """The hosts that are asked, each over a connection of its own that lasts for one question."""

    def __init__(self, where: Where, options: Mapping[str, Any]) -> None:
        self._options = {**_options_of(where.asked), **options, "protocol": 2}
        self._turns = itertools.count()

    def ask(self, host: Address, *question: str) -> Any:
        address = dict(zip(("host", "port"), host, strict=True))
        with contextlib.closing(ConnectionPool(**{**self._options, **address})) as pool:
            return redis.Redis(connection_pool=pool).execute_command(*question)  # type: ignore[no-untyped-call]

    def first(self, hosts: Sequence[Address], answer: Callable[[Address], Answer]) -> Answer:
        """What the first says that answers; another begins each time, as what one of them says may be old."""
        turn = next(self._turns) % len(hosts)
        failures: list[redis.RedisError] = []
        for host in (*hosts[turn:], *hosts[:turn]):
            try:
                return _told(host, answer)
            except redis.RedisError as error:
                failures.append(error)
        # One that can be reached and refuses says more than one that cannot be reached.
        raise min(failures, key=lambda one: type(one) in (redis.ConnectionError, redis.TimeoutError))

    def told(self, hosts: Iterable[Address], answer: Callable[[Address], Address]) -> "list[Told]":
        found: list[Told] = []
        for host in hosts:
            try:
                found.append((host, _told(host, answer)))
            except redis.RedisError as error:
                found.append((host, error))
        return found


def _told(host: Address, answer: Callable[[Address], Answer]) -> Answer:
    try:
        return answer(host)
    except _CHOKED as error:
        raise redis.InvalidResponse("no answer of Redis") from error


class Sentinels:
    """Sentinels, who name a service's primary. https://redis.io/docs/latest/develop/reference/sentinel-clients/"""

    def __init__(self, where: Where, options: Mapping[str, Any]) -> None:
        self._where = where
        self._hosts = _Hosts(where, options)

    def find(self) -> Address:
        return self._hosts.first(self._where.hosts, self._primary)

    def told(self) -> "list[Told]":
        return self._hosts.told(self._where.hosts, self._primary)

    def name_of(self, server: Address) -> str:
        return f"{server[0]}:{server[1]}"

    def _primary(self, sentinel: Address) -> Address:
        try:
            said = self._hosts.ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._where.service)
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
            raise WrongForm("the Sentinels in --redis-url refuse to be asked", _MAY_ASK) from error
        except redis.ResponseError as error:
            if "unknown command" not in str(error):
                raise
            raise WrongForm(
                "a host in --redis-url is no Sentinel", "name the Sentinels, not the servers"
            ) from error
        if not said:
            raise WrongForm(
                "a Sentinel in --redis-url watches no service of that name",
                "write the service as `sentinel monitor` in sentinel.conf calls it",
            )
        host, port = said
        return host.decode(), int(port)


class Cluster:
    """A cluster's nodes, each of which knows who has which slot."""

    def __init__(self, where: Where, options: Mapping[str, Any], key: str) -> None:
        """key: any key of the migration."""
        self._where = where
        self._hosts = _Hosts(where, options)
        self.slot = key_slot(key.encode())
        self._ids: dict[Address, str] = {}  # of nodes
        self._others: tuple[Address, ...] = ()  # met since: those of the URL may all be replaced one day

    def find(self) -> Address:
        known = (*self._where.hosts, *self._others)
        return self._hosts.first(known, self._owner)

    def primaries(self) -> list[Address]:
        """Every node that holds slots."""
        ranges = self._hosts.first((*self._where.hosts, *self._others), self._ranges)
        return list(dict.fromkeys(primary for _, _, (primary, *_) in ranges))

    def told(self) -> "list[Told]":
        return self._hosts.told(self._where.hosts, self._owner)

    def name_of(self, server: Address) -> str:
        return self._ids.get(server, "")

    def _owner(self, node: Address) -> Address:
        for first, last, (primary, *_) in self._ranges(node):
            if first <= self.slot <= last:
                return primary
        raise redis.exceptions.ClusterDownError("no node has this migration's slot")

    def _ranges(self, node: Address) -> list[tuple[int, int, list[Address]]]:
        """First slot, last slot, and who has them, the primary first."""
        try:
            said = self._hosts.ask(node, "CLUSTER", "SLOTS")
        except redis.ResponseError as error:
            if any(words in str(error) for words in ("cluster support disabled", "unknown command")):
                raise WrongForm(
                    "a host in --redis-url is no node of a cluster", "write redis://HOST:6379/0"
                ) from error
            raise
        ranges: list[tuple[int, int, list[Address]]] = [
            (first, last, [_met(one, node) for one in nodes]) for first, last, *nodes in said
        ]
        self._ids |= {_met(one, node): one[2].decode() for _, _, *nodes in said for one in nodes}
        met = dict.fromkeys(one for _, _, nodes in ranges for one in nodes)
        self._others = tuple(one for one in met if one not in self._where.hosts)
        return ranges


def _met(told: Sequence[Any], node: Address) -> Address:
    """A node as another tells of it; a cluster may be told to name none, or not to know its own name yet."""
    host = (told[0] or b"").decode()
    return (host if host not in ("", "?") else node[0]), int(told[1])


class _Primary(Connection):
    """A connection to nobody but a primary, where others say that it is."""

    def _connect(self) -> Any:
        try:
            return super()._connect()  # type: ignore[no-untyped-call]
        except OSError as error:
            why = error.strerror or "no answer in time"
            raise NotReached(f"it is said to be at {self.host}:{self.port}: {why}") from error

    def on_connect_check_health(self, check_health: bool = True) -> None:
        super().on_connect_check_health(check_health)
        said = cast(dict[bytes, bytes] | None, self.handshake_metadata) or {}
        if said.get(b"role") not in (b"master", None):
            raise redis.ReadOnlyError("it is called the primary, and says itself that it is none")


class _PrimaryTls(_Primary, SSLConnection):
    """The same over TLS."""


class _Located(_Primary):
    """A connection that is made to where the server is then."""

    def __init__(self, *, locator: Locator, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._locator = locator

    def _connect(self) -> Any:
        self.host, self.port = self._locator.find()
        return super()._connect()


class _LocatedTls(_Located, SSLConnection):
    """The same over TLS."""


class WayToNode(ConnectionPool):
    """One migration's way to the node that has its slot; the connections are the node's, whoever's they were.

    They are given back to where they came from: meanwhile the slot may be at another node. After a call that
    failed the way is looked for anew.
    """

    def __init__(
        self, cluster: Cluster, node_at: Callable[[Address], ConnectionPool], options: Mapping[str, Any]
    ) -> None:
        super().__init__(**options)
        self._cluster, self._node_at = cluster, node_at
        self._node: ConnectionPool | None = None
        self._lent: dict[int, ConnectionPool] = {}

    def get_connection(self, *_: Any, **__: Any) -> Any:
        if (node := self._node) is None:
            node = self._node = self._node_at(self._cluster.find())
        connection = node.get_connection()
        self._lent[id(connection)] = node
        return connection

    def nodes(self) -> list[ConnectionPool]:
        """Of every primary of the cluster."""
        return [self._node_at(node) for node in self._cluster.primaries()]

    def release(self, connection: Any) -> None:
        if (node := self._lent.pop(id(connection), None)) is not None:
            node.release(connection)

    def disconnect(self, inuse_connections: bool = True) -> None:
        node, self._node = self._node, None
        if node is not None:
            node.disconnect(inuse_connections)


def _options_of(plain: str) -> dict[str, Any]:
    """A plain URL as redis-py reads it."""
    return dict(parse_url(plain))  # type: ignore[no-untyped-call]


class Pools:
    """Connections of one process, by the server that they lead to. Thread-safe.

    A server, or the primary that Sentinels name, has all migrations: they share its connections. In a cluster
    those share a node's that have their slots there.
    """

    def __init__(self) -> None:
        self._shared: dict[Where, tuple[Locator | None, ConnectionPool]] = {}
        self._nodes: dict[tuple[Where, Address], ConnectionPool] = {}
        self._lock = threading.Lock()

    def of(
        self, where: Where, options: Mapping[str, Any], key: str
    ) -> "tuple[Locator | None, ConnectionPool]":
        """Who knows where the server is (None: the URL names it), and connections to it.

        options: of every connection. key: any key of the migration.
        """
        if where.form is Form.CLUSTER:
            cluster = Cluster(where, options, key)
            of_a_node = {**_options_of(where.server), **options}
            of_a_node["connection_class"] = _PrimaryTls if "connection_class" in of_a_node else _Primary
            node_at = functools.partial(self._node_at, where, of_a_node)
            return cluster, WayToNode(cluster, node_at, of_a_node)
        with self._lock:
            if where not in self._shared:
                locator = Sentinels(where, options) if where.form is Form.SENTINEL else None
                self._shared[where] = locator, _pool(where, options, locator)
            return self._shared[where]

    def _node_at(self, where: Where, options: Mapping[str, Any], node: Address) -> ConnectionPool:
        with self._lock:
            if (where, node) not in self._nodes:
                at = dict(zip(("host", "port"), node, strict=True))
                self._nodes[where, node] = ConnectionPool(**{**options, **at})
            return self._nodes[where, node]


def _pool(where: Where, options: Mapping[str, Any], locator: Locator | None) -> ConnectionPool:
    if locator is None:
        return ConnectionPool.from_url(where.server, **options)
    given = _options_of(where.server)
    kind = _LocatedTls if given.pop("connection_class", None) else _Located
    return ConnectionPool(**{**given, **options, "connection_class": kind, "locator": locator})

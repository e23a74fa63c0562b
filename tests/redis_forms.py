"""Redis beyond one server: a Sentinel set and a cluster of six nodes, which fail over and move slots.

Reads and writes: the servers that it started, on free ports of 127.0.0.1. Never: a migration's keys.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from tests import servers
from tests.servers import eventually

PRIMARIES, SLOTS = 3, 16384
SERVICE = "state"
#: How long a server is silent before it is taken for dead.
SILENT_MS = 500


class Node:
    """One server of a set, which can be killed and started again."""

    def __init__(self, binary: str, directory: Path, *options: str) -> None:
        self.port = servers.free_port()
        self._start = lambda: servers.redis_like(binary, directory, *options, port=self.port)
        self._open: contextlib.ExitStack | None = None
        self.start()

    def start(self) -> None:
        self._open = contextlib.ExitStack()
        self._open.enter_context(self._start())

    def ask(self, *words: str | int) -> Any:
        with redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5) as client:
            return client.execute_command(*words)

    def kill(self) -> None:
        """kill -9."""
        os.kill(int(self.ask("INFO", "server")["process_id"]), signal.SIGKILL)
        self.close()

    def close(self) -> None:
        if self._open:
            self._open.close()
        self._open = None

    @property
    def alive(self) -> bool:
        return self._open is not None

    def is_primary(self) -> bool:
        return self.alive and str(self.ask("INFO", "replication")["role"]) == "master"

    def in_step(self) -> bool:
        """It is a replica that has its primary's data."""
        return self.ask("INFO", "replication").get("master_link_status") == "up"


class SentinelSet:
    """A primary, two replicas, three Sentinels."""

    def __init__(self, binary: str, directory: Path, *options: str, sentinel: str = "") -> None:
        """options: of the servers. sentinel: more lines of sentinel.conf."""
        self._open = contextlib.ExitStack()
        first = self._node(binary, directory / "0", *options)
        follows = ("--replicaof", f"127.0.0.1 {first.port}")
        self.nodes = [first, *(self._node(binary, directory / str(n), *options, *follows) for n in (1, 2))]
        for replica in self.nodes[1:]:
            eventually(replica.in_step, 30, "a replica")
        self.sentinels = [self._sentinel(binary, directory, n, first.port, sentinel) for n in range(3)]
        eventually(self._agreed, 30, "the Sentinels know of each other and of the replicas")
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        self.url = f"redis+sentinel://{hosts}/{SERVICE}/0"

    def _node(self, binary: str, directory: Path, *options: str) -> Node:
        node = Node(binary, directory, *options)
        self._open.callback(node.close)
        return node

    def _sentinel(self, binary: str, directory: Path, number: int, primary: int, more: str) -> int:
        port = servers.free_port()
        written = directory / f"sentinel-{number}.conf"
        lines = (
            *(f"port {port}", "bind 127.0.0.1", f"dir {directory}"),
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2",
            f"sentinel down-after-milliseconds {SERVICE} {SILENT_MS}",
            f"sentinel failover-timeout {SERVICE} 3000",
            more,
        )
        written.write_text("\n".join(lines) + "\n")
        log = directory / f"sentinel-{number}.log"
        child = self._open.enter_context(servers.process([binary, str(written), "--sentinel"], log=log))
        servers._answers_ping(child, port, log)
        return port

    def asked(self, sentinel: int, *words: str) -> Any:
        with redis.Redis(host="127.0.0.1", port=sentinel, socket_timeout=5) as client:
            return client.execute_command("SENTINEL", *words, SERVICE)

    def _agreed(self) -> bool:
        return all(
            len(self.asked(one, "REPLICAS")) == 2 and len(self.asked(one, "SENTINELS")) == 2
            for one in self.sentinels
        )

    def primary(self) -> Node:
        """The one that the Sentinels name, and that takes writes."""

        def found() -> Node | None:
            named = {int(self.asked(one, "GET-MASTER-ADDR-BY-NAME")[1]) for one in self.sentinels}
            return next((one for one in self.nodes if {one.port} == named and one.is_primary()), None)

        return eventually(found, 60, "one primary")

    def fail_over(self) -> None:
        """kill -9 the primary of a whole set, wait for the next, and start the old one again."""
        eventually(lambda: all(one.in_step() for one in self.nodes if not one.is_primary()), 60, "replicas")
        old = self.primary()
        old.kill()
        eventually(lambda: self.primary() is not old, 60, "another primary")
        old.start()

    def close(self) -> None:
        self._open.close()


class ClusterSet:
    """Three primaries and a replica of each."""

    def __init__(self, binary: str, directory: Path, *options: str) -> None:
        self._open = contextlib.ExitStack()
        self._bus: dict[int, int] = {}
        self.nodes = [self._node(binary, directory / str(n), *options) for n in range(2 * PRIMARIES)]
        self.ids = {one.port: _text(one.ask("CLUSTER", "MYID")) for one in self.nodes}
        step = SLOTS // PRIMARIES + 1
        for number, one in enumerate(self.nodes):
            one.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < PRIMARIES:
                first = number * step
                one.ask("CLUSTER", "ADDSLOTSRANGE", first, min(first + step, SLOTS) - 1)
        for one in self.nodes[1:]:
            one.ask("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, self._bus[self.nodes[0].port])
        eventually(
            lambda: all(self._knows_all(one) for one in self.nodes), 60, "the nodes know of each other"
        )
        for primary, replica in zip(self.nodes[:PRIMARIES], self.nodes[PRIMARIES:], strict=True):
            replica.ask("CLUSTER", "REPLICATE", self.ids[primary.port])
        self.whole()
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.nodes[:2])
        self.url = f"redis+cluster://{hosts}"

    def _node(self, binary: str, directory: Path, *options: str) -> Node:
        bus = servers.free_port()
        clustered = (
            *("--cluster-enabled", "yes", "--cluster-port", str(bus)),
            *("--cluster-node-timeout", str(SILENT_MS), "--cluster-replica-validity-factor", "0"),
        )
        node = Node(binary, directory, *clustered, *options)
        self._bus[node.port] = bus
        self._open.callback(node.close)
        return node

    def _knows_all(self, node: Node) -> bool:
        lines = _table(node)
        return len(lines) == len(self.nodes) and not any("handshake" in line for line in lines)

    def whole(self) -> None:
        """Wait until every node says that all slots are served, and every replica is in step."""

        def is_whole() -> bool:
            said = [_text(one.ask("CLUSTER", "INFO")) for one in self.nodes if one.alive]
            replicas = [one for one in self.nodes if one.alive and not one.is_primary()]
            served = all("cluster_state:ok" in one for one in said)
            return served and len(replicas) == PRIMARIES and all(one.in_step() for one in replicas)

        eventually(is_whole, 60, "a whole cluster")

    def owner(self, slot: int) -> Node:
        """The one node that says of itself that it has the slot."""

        def found() -> Node | None:
            owners = [one for one in self.nodes if one.is_primary() and slot in _own_slots(one)]
            return owners[0] if len(owners) == 1 else None

        return eventually(found, 60, f"an owner of {slot}")

    def fail_over(self, migration: str) -> None:
        """kill -9 the migration's node in a whole cluster, wait for the next, start the old one again."""
        self.whole()
        slot = slot_of(migration)
        old = self.owner(slot)
        old.kill()
        eventually(lambda: self.owner(slot) is not old, 60, "another owner")
        old.start()

    def move(self, migration: str, half_way: Callable[[], None] = lambda: None) -> None:
        """Move the migration's slot to another primary, key by key. half_way: called after the first key."""
        slot = slot_of(migration)
        old = self.owner(slot)
        new = next(one for one in self.nodes if one.is_primary() and one is not old)
        new.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self.ids[old.port])
        old.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self.ids[new.port])
        moved = 0
        while keys := old.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
            old.ask("MIGRATE", "127.0.0.1", new.port, "", 0, 5000, "KEYS", *keys)
            moved += 1
            if moved == 1:
                half_way()
        for node in (new, old, *(one for one in self.nodes if one.is_primary())):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", self.ids[new.port])

    def close(self) -> None:
        self._open.close()


def slot_of(migration: str) -> int:
    return int(key_slot(f"ddbmm:{{{migration}}}:".encode()))


def _table(node: Node) -> list[str]:
    """The nodes of the cluster as one of them sees them, a line each."""
    return _text(node.ask("CLUSTER", "NODES")).splitlines()


def _own_slots(node: Node) -> set[int]:
    [mine] = [line.split() for line in _table(node) if "myself" in line]
    ranges = [one.partition("-") for one in mine[8:] if not one.startswith("[")]
    return {slot for first, _, last in ranges for slot in range(int(first), int(last or first) + 1)}


def _text(said: Any) -> str:
    return said.decode() if isinstance(said, bytes) else str(said)


@contextlib.contextmanager
def sentinel_set(binary: str, directory: Path, *options: str, sentinel: str = "") -> Iterator[SentinelSet]:
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(SentinelSet(binary, directory, *options, sentinel=sentinel)) as one:
        yield one


@contextlib.contextmanager
def cluster_set(binary: str, directory: Path, *options: str) -> Iterator[ClusterSet]:
    with contextlib.closing(ClusterSet(binary, directory, *options)) as one:
        yield one

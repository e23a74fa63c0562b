"""What Redis' refusals come to: waited for, put right by somebody, or damaged state; and how it is said."""

import contextlib
import re
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import pytest
import redis
import structlog

from pipeline import exit_codes
from pipeline.cli import main
from pipeline.errors import (
    ConfigurationError,
    StateDamaged,
    StateLost,
    StoreError,
    StoreFull,
    StoreNotReady,
    StoreUnavailable,
    StoreUnusable,
)
from pipeline.store import Outage, RedisConnection, check_server
from pipeline.store.beginning import server_info
from pipeline.store.outage import FORGET_SECONDS, SAID_EVERY_SECONDS
from tests import servers
from tests.fake import Fake
from tests.faults.proxy import names
from tests.servers import eventually

HANDSHAKE = {"CLIENT": b"+OK\r\n", "PING": b"+PONG\r\n", "HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n"}


@contextlib.contextmanager
def saying(answer: bytes, handshake: Mapping[str, bytes] = MappingProxyType({})) -> Iterator[str]:
    """A server that gives this answer to whatever is asked, but for the `handshake`; its URL."""

    class Speaker(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while chunk := self.request.recv(1 << 16):
                    for name in names(chunk):
                        self.request.sendall(handshake.get(name, answer))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Speaker) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        server.shutdown()


@contextlib.contextmanager
def telling(info: bytes) -> Iterator[RedisConnection]:
    """A connection to a server that says this of itself."""
    with saying(b"$%d\r\n%s\r\n" % (len(info), info), HANDSHAKE) as url:
        yield RedisConnection(url, "m")


ANSWERS: list[tuple[str, type[StoreError]]] = [
    ("-LOADING Redis is loading the dataset in memory", StoreNotReady),
    ("-BUSY Redis is busy running a script.", StoreNotReady),
    ("-MISCONF Errors writing to the AOF file: No space left on device", StoreNotReady),
    ("-NOREPLICAS Not enough good replicas to write.", StoreNotReady),
    ("-READONLY You can't write against a read only replica.", StoreNotReady),
    ("-MASTERDOWN Link with MASTER is down", StoreNotReady),
    ("-CLUSTERDOWN The cluster is down", StoreNotReady),
    ("-CLUSTERDOWN Hash slot not served", StoreNotReady),
    ("-TRYAGAIN Multiple keys request during rehashing of slot", StoreNotReady),
    ("-ASK 14041 127.0.0.1:24610", StoreNotReady),
    ("-OOM command not allowed when used memory > 'maxmemory'.", StoreFull),
    ("-MOVED 14041 127.0.0.1:24610", StoreUnusable),
    ("-CROSSSLOT Keys in request don't hash to the same slot", StoreUnusable),
    ("-NOAUTH Authentication required.", StoreUnusable),
    ("-WRONGPASS invalid username-password pair or user is disabled.", StoreUnusable),
    ("-NOPERM User SECRET has no permissions to run the 'time' command", StoreUnusable),
    ("-ERR invalid password", StoreUnusable),
    ("-ERR AUTH <password> called without any password configured for the default user.", StoreUnusable),
    ("-ERR unknown command 'EVALSHA', with args beginning with:", StoreUnusable),
    ("-ERR max number of clients reached", StoreUnavailable),
    ("-WRONGTYPE Operation against a key holding the wrong kind of value", StateDamaged),
    ("-ERR ddbmm:{m}:ledger holds no number at reads", StateDamaged),
    ("-STATELOST the state of this migration is gone", StateLost),
    ("-NOGROUP No such key", StateLost),
    ("-DENIED Redis is running in protected mode because protected mode is enabled", StoreUnusable),
    ("-NOPROTO unsupported protocol version", StoreUnusable),
    ("-NEWS of a code from the future", StoreUnusable),
    ("-", StoreUnusable),
    ("HTTP/1.1 400 Bad Request", StoreUnusable),
    ("SSH-2.0-OpenSSH_9.6", StoreUnusable),
    ("-MOVED to somewhere", StoreUnusable),
    (":no number", StoreUnusable),
    ("*1000000000", StoreUnavailable),
    ("+OK", StoreUnavailable),
    ("$-1", StoreUnavailable),
]


@pytest.mark.parametrize(("answer", "kind"), ANSWERS)
def test_every_refusal_is_an_error_of_ours_with_its_kind(answer: str, kind: type[StoreError]) -> None:
    with saying(f"{answer}\r\n".encode()) as url:
        connection = RedisConnection(url, "m")
        connection.redis.connection_pool.connection_kwargs["socket_timeout"] = 0.5
        with pytest.raises(StoreError) as refused:
            connection.time_ms()
    assert type(refused.value).__mro__.index(kind) <= 1, refused.value
    assert "SECRET" not in str(refused.value)
    assert isinstance(refused.value, (StoreUnavailable, StateLost)), "a role waits, or begins again"


def test_a_database_that_the_server_lacks_is_named_with_what_to_do(store_url: str) -> None:
    elsewhere = f"{store_url.rpartition('/')[0]}/9999"
    with pytest.raises(StoreError, match="no such database") as refused:
        RedisConnection(elsewhere, "m").time_ms()
    assert refused.value.remedy


def test_a_server_with_too_many_clients_is_not_said_to_be_another() -> None:
    with saying(b"-ERR max number of clients reached\r\n") as url, pytest.raises(StoreUnavailable) as refused:
        RedisConnection(url, "m").time_ms()
    assert "maxclients" in refused.value.remedy and "--redis-url" not in refused.value.remedy


def test_a_server_that_is_not_there_is_said_with_what_helps() -> None:
    with pytest.raises(StoreUnavailable, match="check --redis-url"):
        RedisConnection(f"redis://127.0.0.1:{servers.free_port()}/0", "m").time_ms()


@pytest.mark.parametrize("answer", [one for one, kind in ANSWERS if kind is StoreNotReady])
def test_what_is_waited_for_is_said_with_what_helps(answer: str) -> None:
    with saying(f"{answer}\r\n".encode()) as url, pytest.raises(StoreNotReady) as refused:
        RedisConnection(url, "m").time_ms()
    assert refused.value.remedy


def test_a_long_answer_is_cut_and_escaped() -> None:
    page = "-ERR \x1b[2J" + "<html>" * 50_000
    with saying(f"{page}\r\n".encode()) as url, pytest.raises(StoreUnusable) as refused:
        RedisConnection(url, "m").time_ms()
    assert len(str(refused.value)) < 400 and "\x1b" not in str(refused.value)


def test_a_node_of_a_cluster_is_named_as_one_with_what_to_do() -> None:
    with saying(b"-MOVED 14041 127.0.0.1:24610\r\n") as url, pytest.raises(StoreUnusable) as refused:
        RedisConnection(url, "m").time_ms()
    assert "cluster" in refused.value.problem and "redis+cluster://" in refused.value.remedy
    assert refused.value.exit_code == exit_codes.CONFIGURATION


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[redis.Redis, str]]:
    """A node of a cluster that has no slots yet."""
    bus = ("--cluster-port", str(servers.free_port()))
    config = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", *bus)
    with servers.redis_like(servers.valkey_binary(), tmp_path / "one", *config) as url:
        node = redis.Redis.from_url(url)
        yield node, url


def test_a_real_cluster_node_without_the_slot_is_waited_for(cluster: tuple[redis.Redis, str]) -> None:
    _, url = cluster
    with pytest.raises(StoreNotReady, match="cluster is down"):
        RedisConnection(url, "m").clock.now_ms()


def test_a_cluster_of_one_node_works(cluster: tuple[redis.Redis, str]) -> None:
    node, url = cluster
    node.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
    connection = RedisConnection(url, "m")

    def serves() -> bool:
        with contextlib.suppress(StoreNotReady):
            connection.check_takes_writes()
            return True
        return False

    eventually(serves, 30, "the cluster")
    assert connection.clock.now_ms() > 0


@pytest.mark.parametrize("binary", [servers.valkey_binary, servers.redis_binary])
def test_another_database_of_a_cluster_is_refused_with_what_to_write(
    tmp_path: Path, binary: Callable[[], str]
) -> None:
    config = ("--cluster-enabled", "yes", "--cluster-port", str(servers.free_port()))
    with (
        servers.redis_like(binary(), tmp_path, *config) as url,
        pytest.raises(StoreUnusable, match="database") as refused,
    ):
        RedisConnection(url.replace("/0", "/1"), "m").time_ms()
    assert type(refused.value) is StoreUnusable and "redis+cluster://" in refused.value.remedy


# --- INFO --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "version", "doubts"),
    [
        ("redis_version:8\r\nmaxmemory_policy:noeviction", (8,), 0),
        ("redis_version:8.0\r\nmaxmemory_policy:noeviction", (8, 0), 0),
        ("redis_version:8.0-rc1\r\nmaxmemory_policy:noeviction", (8, 0), 0),
        ("redis_version:7.10\r\nmaxmemory_policy:noeviction", (7, 10), 0),
        ("redis_version:255.255.255\r\nmaxmemory_policy:noeviction", (255, 255, 255), 0),
        ("redis_version:7.4.2-v3+build\r\nmaxmemory_policy:volatile-lru", (7, 4, 2), 1),
        ("redis_version:\r\nmaxmemory_policy:noeviction", (), 1),
        ("redis_version:unstable", (), 2),
        ("redis_version:7.2.4", (7, 2, 4), 1),
        ("maxmemory_policy:noeviction", (), 1),
        ("redis_version:7.2.4\r\nvalkey_version:8.1.0\r\nmaxmemory_policy:noeviction", (8, 1, 0), 0),
        ("", (), 2),
        ("\x00\xff::::", (), 2),
        ("redis_version:" + "9" * 5000, (999999999,), 1),
    ],
)
def test_info_of_any_server_is_read(info: str, version: tuple[int, ...], doubts: int) -> None:
    with telling(info.encode("latin-1")) as connection:
        found = check_server(connection)
    assert (found.version, len(found.doubts)) == (version, doubts)


@pytest.mark.parametrize("version", ["6", "6.2.14", "7.0.3", "7.0.3-rc1", "5.9"])
def test_an_old_server_is_refused_however_it_writes_its_version(version: str) -> None:
    with (
        telling(f"redis_version:{version}\r\nmaxmemory_policy:noeviction".encode()) as connection,
        pytest.raises(ConfigurationError, match=rf"{version} is too old.*7\.0\.4"),
    ):
        check_server(connection)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("-DENIED Redis is running in protected mode", "own host alone.*requirepass"),
        ("-NOPROTO unsupported protocol version", "RESP3.*newer"),
        ("-NEWS of a code from the future", "NEWS of a code from the future; check --redis-url"),
    ],
)
def test_who_lets_nobody_in_is_not_said_to_lack_commands(
    answer: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with saying(f"{answer}\r\n".encode()) as url:
        main(["doctor", "--target-table=b", "--region=us-east-1", f"--redis-url={url}"], {})
    [line] = [line for line in capsys.readouterr().out.splitlines() if "redis:" in line]
    assert line.startswith("fail") and re.search(says, line) and "lacks" not in line


def test_an_old_server_is_said_to_be_old_before_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    info = b"redis_version:6.2.14\r\nmaxmemory_policy:noeviction"
    answers = {**HANDSHAKE, "INFO": b"$%d\r\n%s\r\n" % (len(info), info)}
    with saying(b"-ERR unknown command\r\n", answers) as url:
        main(["doctor", "--target-table=b", "--region=us-east-1", f"--redis-url={url}"], {})
    [line] = [line for line in capsys.readouterr().out.splitlines() if "redis:" in line]
    assert "redis 6.2.14 is too old" in line


@pytest.mark.parametrize(
    "answer", [b"-ERR unknown command 'INFO'\r\n", b"-NOPERM User x has no permissions\r\n"]
)
def test_a_managed_server_that_forbids_info_is_doubted_not_refused(answer: bytes) -> None:
    with saying(answer, HANDSHAKE) as url:
        assert len(check_server(RedisConnection(url, "m")).doubts) == 2


@pytest.mark.parametrize("takes_writes", ["yes", "no"])
def test_a_replica_is_not_served_even_where_it_takes_writes(
    tmp_path: Path, store_url: str, takes_writes: str
) -> None:
    primary = ("--replicaof", f"127.0.0.1 {urlsplit(store_url).port}")
    options = (*primary, "--replica-read-only", "no" if takes_writes == "yes" else "yes")
    with (
        servers.redis_like(servers.redis_binary(), tmp_path, *options) as url,
        pytest.raises(StoreNotReady, match="replica") as refused,
    ):
        check_server(RedisConnection(url, "m"))
    assert "primary" in refused.value.remedy


@pytest.mark.parametrize("binary", [servers.valkey_binary, servers.redis_binary])
def test_a_sentinel_in_the_place_of_a_server_is_said_with_what_to_write(
    tmp_path: Path, binary: Callable[[], str]
) -> None:
    written, port = tmp_path / "sentinel.conf", servers.free_port()
    written.write_text(f"port {port}\nbind 127.0.0.1\n")
    command, log = [binary(), str(written), "--sentinel"], tmp_path / "log"
    with servers.process(command, log=log) as child:
        servers._answers_ping(child, port, log)
        with pytest.raises(ConfigurationError, match="Sentinel") as refused:
            check_server(RedisConnection(f"redis://127.0.0.1:{port}/0", "m"))
    assert "redis+sentinel://" in refused.value.remedy


def test_volatile_policies_are_harmless_and_the_doubt_says_what_they_take(store_url: str) -> None:
    client = redis.Redis.from_url(store_url)
    client.config_set("maxmemory-policy", "volatile-ttl")
    try:
        [doubt] = check_server(RedisConnection(store_url, "m")).doubts
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    assert "no state of a migration" in doubt


def test_the_remedy_for_eviction_is_none_that_managed_servers_forbid() -> None:
    info = b"redis_version:8.0.0\r\nmaxmemory_policy:allkeys-lru"
    with telling(info) as connection, pytest.raises(ConfigurationError) as refused:
        check_server(connection)
    assert "CONFIG SET" not in str(refused.value) and "maxmemory-policy noeviction" in str(refused.value)


def test_info_that_is_no_text_says_nothing() -> None:
    assert server_info({}).version == ()


# --- an outage is said once --------------------------------------------------------------------------------


class Told:
    """An outage with a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.noted: list[float] = []
        self.outage = Outage(self.noted.append, lambda: self.now)

    def lines(self, act: Callable[[], None]) -> list[str]:
        with structlog.testing.capture_logs() as lines:
            act()
        return [f"{line['log_level']}: {line['event']}" for line in lines]

    def fail(self, call: str = "renew") -> None:
        self.outage.failed(call, StoreNotReady("loading"))


AWAY, BACK = "warning: Redis does not serve us: waiting", "info: Redis is back"


def test_an_outage_is_said_once_a_minute_and_its_end_once() -> None:
    told = Told()

    def happens() -> None:
        for _ in range(int(SAID_EVERY_SECONDS) + 1):
            told.fail()
            told.now += 1
        told.outage.served("renew")
        told.outage.served("renew")

    assert told.lines(happens) == [AWAY, AWAY, BACK]
    assert told.noted == [1_000.0, 0.0]


def test_a_server_that_refuses_writes_is_not_back_because_it_answers_reads() -> None:
    told = Told()

    def happens() -> None:
        told.fail("publish")
        told.outage.served("partitions")

    assert told.lines(happens) == [AWAY]
    assert told.lines(lambda: told.outage.served("publish")) == [BACK]


def test_what_is_never_asked_again_holds_no_outage_open() -> None:
    told = Told()
    told.lines(lambda: told.fail("release"))
    told.now += FORGET_SECONDS
    assert told.lines(lambda: told.outage.served("renew")) == [BACK]


def test_what_goes_well_says_nothing() -> None:
    told = Told()
    assert told.lines(lambda: told.outage.served("renew")) == [] and told.noted == []


# --- connections are made anew -----------------------------------------------------------------------------


def test_after_a_refusal_the_next_call_makes_a_new_connection() -> None:
    with saying(b"-READONLY You can't write against a read only replica.\r\n") as url:
        connection = RedisConnection(url, "m")
        sockets = set()
        for _ in range(3):
            with pytest.raises(StoreNotReady):
                connection.time_ms()
            pool = connection.redis.connection_pool
            sockets |= {one._sock for one in pool._available_connections}
    assert sockets == {None}, "nothing idle is kept"


@pytest.mark.parametrize(
    "answer", ["+OK", ":5", "$-1", "%1\r\n+a\r\n+b", "*1\r\n:1", ",inf", "~1\r\n+a", "#t"]
)
@pytest.mark.parametrize("command", ["status", "doctor", "mark", "run"])
def test_an_answer_of_another_type_is_no_defect_of_ours(
    answer: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """To whatever is asked: what answers is no Redis, or a proxy that has lost its place."""
    with Fake() as fake, saying(f"{answer}\r\n".encode(), HANDSHAKE) as url:
        fake.control.create_table("a", view="NEW_AND_OLD_IMAGES")
        fake.control.create_table("b")
        tables = [
            *("--source-table=a", "--target-table=b", "--region=us-east-1", "--metrics-port=0"),
            *(f"--source-endpoint-url={fake.url}", f"--target-endpoint-url={fake.url}"),
        ]
        words = ["mark", "T1"] if command == "mark" else [command]
        code = main([*words, "--migration=m", f"--redis-url={url}", *tables], {})
    said = "".join(capsys.readouterr())
    assert code in (exit_codes.FAILED, exit_codes.CONFIGURATION, exit_codes.COULD_NOT_ASK), said
    assert "Traceback" not in said and "defect" not in said

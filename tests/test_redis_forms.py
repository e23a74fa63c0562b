"""Redis behind Sentinels and in a cluster: failovers and a slot that moves while the whole program runs."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot

from pipeline.commands.doctor import examine
from pipeline.commands.lines import Line
from pipeline.config import load
from pipeline.core.redis_url import Form
from pipeline.errors import ConfigurationError, StoreError, StoreNotReady, StoreUnavailable, StoreUnusable
from pipeline.store import (
    Pools,
    RedisConnection,
    Role,
    StoreView,
    begin,
    begun_migrations,
    check_permissions,
    check_server,
    scripts,
)
from pipeline.store.permissions import acl_rules
from tests import redis_forms, servers
from tests.fake import FakeProcess
from tests.redis_forms import ClusterSet, Node, SentinelSet
from tests.servers import eventually
from tests.system import FakeTable, System, balanced

ROOT = Path(__file__).parent.parent
#: Keys written between two events.
BATCH = 40


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSet]:
    with redis_forms.cluster_set(servers.redis_binary(), tmp_path_factory.mktemp("cluster")) as one:
        yield one


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSet]:
    with redis_forms.sentinel_set(servers.valkey_binary(), tmp_path_factory.mktemp("sentinels")) as one:
        yield one


# --- the whole program while the server changes ------------------------------------------------------------


def drive(directory: Path, url: str, name: str, events: list[Callable[[], None]]) -> None:
    """Right and wrong keys before, during and after each event; then every book must be right."""
    with FakeProcess() as fake:
        fake.steer("create_table", name="source", view="NEW_AND_OLD_IMAGES", shards=2)
        fake.steer("create_table", name="target")
        system = System(directory, url, FakeTable(fake, "source"), FakeTable(fake, "target"), name)
        with system.running() as supervisor:
            eventually(lambda: _read(system), 60, "the first changes")
            for number, event in enumerate(events):
                _write(system, f"{number}")
                event()
                _write(system, f"{number}-after")
                status = eventually(system.at_rest, 120, "every change judged")
            assert supervisor.poll() is None
            assert all(len(system.pids(slot)) == 1 for slot in ("reader-0", "validator-0", "monitor-0"))
    ledger = status["ledger"]
    assert system.findings() == system.truth()
    assert ledger["records_read"] == ledger["versions_published"] == system.writes
    assert balanced(status) and ledger["recovered"] == 0
    assert "Traceback" not in system.log.read_text()


def _read(system: System) -> bool:
    with contextlib.suppress(StoreError):
        _write(system, "first")
        return system.store.ledger().records_read > 0
    return False


def _write(system: System, batch: str) -> None:
    for number in range(BATCH):
        system.write(f"{batch}-{number}", "a", "b" if number % 10 == 0 else "same")


def test_a_slot_moves_and_its_node_dies_while_the_program_runs(cluster: ClusterSet, tmp_path: Path) -> None:
    name = "moving"

    def waits() -> None:
        """Until a caller was told that the migration is neither here nor there."""
        onlooker = RedisConnection(cluster.url, name)

        def told() -> bool:
            with contextlib.suppress(StoreNotReady):
                onlooker.check_takes_writes()
                return False
            return True

        eventually(told, 30, "the slot is half moved")

    drive(tmp_path, cluster.url, name, [lambda: cluster.move(name, waits), lambda: cluster.fail_over(name)])


def test_a_primary_dies_under_sentinels_while_the_program_runs(
    sentinels: SentinelSet, tmp_path: Path
) -> None:
    drive(tmp_path, sentinels.url, "failing-over", [sentinels.fail_over])


# --- one slot ----------------------------------------------------------------------------------------------


def test_every_key_of_every_script_is_in_the_slot_of_the_migration() -> None:
    connection = RedisConnection("redis://127.0.0.1:1", "orders")
    found = [one for one in vars(scripts).values() if isinstance(one, scripts.Script)]
    names = {name for script in (*found, scripts.commit(1)) for name in script.keys}
    assert {key_slot(connection.key(name).encode()) for name in names} == {redis_forms.slot_of("orders")}


def test_migrations_spread_over_the_nodes(cluster: ClusterSet) -> None:
    names = [f"spread-{number}" for number in range(8)]
    for name in names:
        connection = RedisConnection(cluster.url, name)
        assert StoreView(connection, begin(connection, {"target_table": "t"})).ledger().balanced
    owners = {cluster.owner(redis_forms.slot_of(name)).port for name in names}
    assert len(owners) > 1
    with contextlib.closing(RedisConnection(cluster.url, "any")) as connection:
        assert set(names) <= set(begun_migrations(connection))


def test_migrations_of_one_process_share_the_connections_of_a_node(cluster: ClusterSet) -> None:
    """Eight migrations, asked one after the other: a connection to each node, and not one for each."""
    pools, names = Pools(), [f"share-{number}" for number in range(8)]
    connections = [RedisConnection(cluster.url, name, pools=pools) for name in names]
    for _ in range(3):
        for connection in connections:
            assert connection.time_ms() > 0
    owners = {cluster.owner(redis_forms.slot_of(name)).port for name in names}
    made = {address[1]: pool._created_connections for (_, address), pool in pools._nodes.items()}
    assert made == dict.fromkeys(owners, 1)


# --- who may ask -------------------------------------------------------------------------------------------


def test_the_example_of_an_acl_is_what_the_code_needs_and_a_server_reads_it(tmp_path: Path) -> None:
    file = ROOT / "deploy" / "redis" / "acl.example"
    assert file.read_text() == f"user ddbmm on >PASSWORD {acl_rules('ddbmm:*', in_cluster=True)}\n"
    with servers.redis_like(servers.redis_binary(), tmp_path, "--aclfile", str(file)) as url:
        connection = RedisConnection(url.replace("://", "://ddbmm:PASSWORD@"), "orders")
        check_permissions(connection, list(Role))
        assert check_server(connection).kind == "redis"


@contextlib.contextmanager
def limited(nodes: list[Node], rules: str) -> Iterator[str]:
    """A user of all the servers with these rules alone; the URL's part that names it."""
    for node in nodes:
        node.ask("ACL", "SETUSER", "limited", "reset", "on", ">sesame", *rules.split())
    yield "://limited:sesame@"
    for node in nodes:
        node.ask("ACL", "DELUSER", "limited")


def test_the_user_of_the_example_is_enough_in_a_cluster(cluster: ClusterSet) -> None:
    with limited(cluster.nodes, acl_rules("ddbmm:*", in_cluster=True)) as user:
        check_permissions(RedisConnection(cluster.url.replace("://", user), "orders"), list(Role))


def test_a_user_who_may_not_ask_where_the_slot_is_is_told_so(cluster: ClusterSet) -> None:
    with limited(cluster.nodes, acl_rules("ddbmm:*")) as user, pytest.raises(ConfigurationError) as refused:
        check_permissions(RedisConnection(cluster.url.replace("://", user), "orders"), list(Role))
    assert "CLUSTER SLOTS" in refused.value.problem and "+cluster|slots" in refused.value.remedy
    assert "sesame" not in str(refused.value)


def test_a_password_and_tls_for_sentinels_and_servers_alike(tmp_path: Path) -> None:
    certificate, key = servers.certificate(tmp_path)
    proof = [("tls-cert-file", certificate), ("tls-key-file", key), ("tls-ca-cert-file", certificate)]
    port, plain = servers.free_port(), servers.free_port()
    tls = [*proof, ("tls-port", port), ("tls-auth-clients", "no")]
    options = [word for name, value in tls for word in (f"--{name}", str(value))]
    binary, sentinel_port = servers.redis_binary(), servers.free_port()
    file, log = tmp_path / "sentinel.conf", tmp_path / "sentinel.log"
    lines = [f"{name} {value}" for name, value in [*proof, ("tls-port", sentinel_port)]]
    lines += ["port 0", "tls-auth-clients no", "tls-replication yes", "requirepass watchword"]
    lines += [f"sentinel monitor s 127.0.0.1 {port} 1", "sentinel auth-pass s sesame"]
    file.write_text("\n".join(lines) + "\n")
    with (
        servers.redis_like(binary, tmp_path / "server", *options, "--appendonly", "yes", port=plain) as url,
        servers.process([binary, str(file), "--sentinel"], log=log),
    ):
        redis.Redis.from_url(url).config_set("requirepass", "sesame")
        begins = f"rediss+sentinel://:sesame@localhost:{sentinel_port}/s/0?ssl_ca_certs={certificate}"
        connection = RedisConnection(f"{begins}&sentinel_password=watchword", "m")
        eventually(lambda: not connection.silent_hosts(), 30, "the Sentinel")
        assert StoreView(connection, begin(connection, {"target_table": "t"})).ledger().balanced
        with pytest.raises(StoreUnusable, match="refuse to be asked") as refused:
            RedisConnection(begins, "m").time_ms()
        assert "sentinel_password" in refused.value.remedy


def test_a_cluster_behind_tls(tmp_path: Path) -> None:
    """Redis 7.0 tells the port for TLS only with tls-cluster."""
    certificate, key = servers.certificate(tmp_path)
    port, plain, bus = servers.free_port(), servers.free_port(), servers.free_port()
    options = [
        *("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
        *("--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no"),
        *("--tls-cluster", "yes", "--cluster-enabled", "yes", "--cluster-port", str(bus)),
    ]
    with servers.redis_like(servers.redis_binary(), tmp_path / "node", *options, port=plain) as url:
        redis.Redis.from_url(url).execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        connection = RedisConnection(f"rediss+cluster://localhost:{port}?ssl_ca_certs={certificate}", "m")

        def begun() -> StoreView | None:
            with contextlib.suppress(StoreNotReady):
                return StoreView(connection, begin(connection, {"target_table": "t"}))
            return None

        assert eventually(begun, 30, "the cluster").ledger().balanced
        assert connection.silent_hosts() == []


# --- what a URL can get wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "url", "says"),
    [
        ("server", "redis+cluster://127.0.0.1:{port}", "no node of a cluster"),
        ("server", "redis+sentinel://127.0.0.1:{port}/s", "no Sentinel"),
        ("sentinels", "redis+sentinel://127.0.0.1:{port}/nobody", "no service of that name"),
        ("sentinels", "redis+cluster://127.0.0.1:{port}", "no node of a cluster"),
    ],
)
def test_a_host_of_another_kind_is_said(
    request: pytest.FixtureRequest, valkey_url: str, of: str, url: str, says: str
) -> None:
    port = RedisConnection(valkey_url, "m").redis.connection_pool.connection_kwargs["port"]
    if of == "sentinels":
        port = request.getfixturevalue("sentinels").sentinels[0]
    with pytest.raises(StoreUnusable, match=says):
        check_server(RedisConnection(url.format(port=port), "m"))


def test_a_server_that_is_called_the_primary_and_is_none_is_not_written_to(sentinels: SentinelSet) -> None:
    """What a Sentinel says may be old."""
    connection = RedisConnection(sentinels.url, "m")
    old = connection.locator
    assert old is not None and connection.form is Form.SENTINEL
    replica = next(node for node in sentinels.nodes if not node.is_primary())
    old.find = lambda: ("127.0.0.1", replica.port)  # type: ignore[method-assign]
    with pytest.raises(StoreNotReady, match="replica"):
        connection.time_ms()


def test_a_primary_that_is_not_where_the_sentinels_say_is_said_with_that_place(
    sentinels: SentinelSet,
) -> None:
    connection = RedisConnection(sentinels.url, "m")
    named = servers.free_port()
    assert connection.locator is not None
    connection.locator.find = lambda: ("127.0.0.1", named)  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{named}") as refused:
        connection.time_ms()
    assert "announce-ip" in refused.value.remedy


@pytest.mark.parametrize(
    ("announced", "says"),
    [
        (
            {"cluster-announce-hostname": "nowhere.invalid", "cluster-preferred-endpoint-type": "hostname"},
            "nowhere.invalid",
        ),
        ({"cluster-announce-port": "1"}, ":1: Connection refused"),
    ],
)
def test_a_node_under_a_name_that_leads_nowhere_is_said_with_that_name(
    tmp_path: Path, announced: dict[str, str], says: str
) -> None:
    """Nothing is wrong with the URL: its host answers."""
    options = ("--cluster-enabled", "yes", "--cluster-port", str(servers.free_port()))
    with servers.redis_like(servers.redis_binary(), tmp_path, *options) as url:
        admin = redis.Redis.from_url(url)
        admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, redis_forms.SLOTS - 1)
        connection = RedisConnection(url.replace("redis:", "redis+cluster:"), "m")
        for option, value in announced.items():
            admin.config_set(option, value)

        def told() -> str:
            with contextlib.suppress(StoreNotReady):
                try:
                    connection.time_ms()
                except StoreUnavailable as error:
                    return f"{error.problem} {error.remedy}" if type(error) is StoreUnavailable else ""
            return ""

        assert says in eventually(told, 30) and "announce-ip" in told()


def test_one_node_under_two_names_is_one(tmp_path: Path) -> None:
    """A cluster may name no host: then whoever was asked is meant, under the name that it was asked by."""
    options = ("--cluster-enabled", "yes", "--cluster-port", str(servers.free_port()))
    unnamed = ("--cluster-preferred-endpoint-type", "unknown-endpoint")
    with servers.redis_like(servers.redis_binary(), tmp_path, *options, *unnamed) as url:
        redis.Redis.from_url(url).execute_command("CLUSTER ADDSLOTSRANGE", 0, redis_forms.SLOTS - 1)
        port = url.split("/")[2].partition(":")[2]
        connection = RedisConnection(f"redis+cluster://127.0.0.1:{port},localhost:{port}", "m")
        assert connection.locator is not None
        assert {at for _, at in connection.locator.told()} == {
            (host, int(port)) for host in ("127.0.0.1", "localhost")
        }
        connection.check_hosts_agree()


def test_hosts_of_two_clusters_are_no_cluster(tmp_path: Path) -> None:
    """Each connection would be made to the other one: half a state here, half a state there."""
    with contextlib.ExitStack() as both:
        hosts = []
        for number in range(2):
            options = ("--cluster-enabled", "yes", "--cluster-port", str(servers.free_port()))
            here = servers.redis_like(servers.redis_binary(), tmp_path / f"{number}", *options)
            url = both.enter_context(here)
            admin = redis.Redis.from_url(url)
            admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, redis_forms.SLOTS - 1)
            hosts.append(url.split("/")[2])
        RedisConnection(f"redis+cluster://{hosts[0]}", "m").check_hosts_agree()
        made = f"redis+cluster://{','.join(hosts)}"
        with pytest.raises(StoreNotReady, match="do not agree") as refused:
            RedisConnection(made, "m").check_hosts_agree()
        assert all(host in refused.value.problem for host in hosts) and refused.value.remedy

        def said() -> bool:
            return "do not agree" in doctored(made)["redis"].says

        eventually(said, 30, "the cluster is up, and `doctor` says it")


def doctored(url: str, more: str = "") -> dict[str, Line]:
    made = load(
        ["doctor", "--target-table", "t", "--region", "us-east-1", "--redis-url", url, *more.split()], {}
    )
    return {line.check: line for line in examine(made.process, made.migrations[0])}


def test_doctor_says_which_server_it_is_and_which_host_is_silent(
    sentinels: SentinelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    found = doctored(sentinels.url)
    assert found["redis"].level == "ok" and "the primary that the Sentinels name" in found["redis"].says
    assert "redis hosts" not in found
    silent = servers.free_port()
    found = doctored(sentinels.url.replace("://", f"://127.0.0.1:{silent},"))
    assert found["redis"].level == "ok"
    assert found["redis hosts"].level == "warn" and f"127.0.0.1:{silent}" in found["redis hosts"].says

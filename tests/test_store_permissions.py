"""The Redis user: what the documentation allows is just enough, and what is missing is said at the start."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from pipeline.errors import ConfigurationError, StoreUnusable
from pipeline.store import RedisConnection, Role, StoreView, check_permissions, check_server, scripts
from pipeline.store.permissions import _SCRIPTS, COMMANDS, acl_rules
from pipeline.store.scripts import Script
from tests import servers
from tests.fake import FakeProcess
from tests.servers import eventually
from tests.store_world import CALLS, StoreWorld
from tests.system import FakeTable, System

ROOT = Path(__file__).parent.parent
#: What the test does itself, what no ACL can refuse, and what nobody misses.
_OTHER = {"config|resetstat", "config|get", "xgroup|createconsumer", "hello", "auth", "client|setinfo"}

#: Lua: the server with an `acl_check_cmd` that is as particular as that of Redis 8.
_PARTICULAR = """
local server = redis
local redis = {call = server.call, pcall = server.pcall, sha1hex = server.sha1hex}
function redis.acl_check_cmd(command, ...)
  local of = (command == 'XGROUP' or command == 'XINFO') and command .. '|' .. (...) or command
  local arity = server.call('COMMAND', 'INFO', of)[1][2]
  local given = 1 + select('#', ...)
  assert(arity < 0 and given >= -arity or given == arity, 'Wrong number of args of ' .. of)
  return server.acl_check_cmd(command, ...)
end
"""


@contextlib.contextmanager
def user(url: str, rules: str) -> Iterator[str]:
    """A user with these rules alone; the URL with which it comes."""
    with redis.Redis.from_url(url) as admin:
        admin.acl_log_reset()
        admin.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", *rules.split())
        yield url.replace("://", "://limited:secret@")
        admin.acl_deluser("limited")


def connection(url: str) -> RedisConnection:
    return RedisConnection(url, "orders")


def test_the_documented_rules_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    [line] = re.findall(r"ACL SETUSER ddbmm on '>[^']*' ((?:[^\n]*\\\n)*[^\n]*)", page)
    assert line.replace("\\\n", " ").replace("'", "").split() == acl_rules("ddbmm:*").split()


@pytest.mark.parametrize("binary", [servers.valkey_binary, servers.redis_binary])
def test_the_rules_hold_every_command_that_is_used_and_no_other(
    tmp_path: Path, binary: Callable[[], str]
) -> None:
    with servers.redis_like(binary(), tmp_path) as url, user(url, acl_rules("ddbmm:*")) as limited:
        admin = redis.Redis.from_url(url)
        admin.config_resetstat()
        use_everything(url, limited)
        used = {name.removeprefix("cmdstat_") for name in admin.info("commandstats")}
        refused = [entry["object"] for entry in admin.acl_log()]
    assert set(refused) <= {"client|setinfo"}
    assert used - _OTHER == set(COMMANDS)


def use_everything(url: str, limited: str) -> None:
    """Whatever a role or a command does in Redis, at least once, as that user."""
    check_permissions(connection(limited.replace("/0", "/1")), list(Role))
    assert check_server(connection(limited)).policy == "noeviction"
    world = StoreWorld(url, "limited:secret@")
    store = world.store
    for script in scripts.names():
        if "begin" not in script:
            CALLS[script](world, store)
    opened = StoreView.open(limited, store.migration)
    assert opened is not None and opened.figures().ledger.balanced
    assert list(store.findings()) == [] and len(store.gaps()) == 1 and not store.begun_again()
    assert store.partitions("test") and store.watermarks("test") and store.backlog()
    store.retire("test", "reader")
    assert opened.begun_migrations() == [store.migration]
    for script in ("compare_begin", "begin", "begin_again"):
        world.admin.delete(store._key("meta"), store._key("work"))
        CALLS[script](world, store)


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"info", "scan"}))
def test_a_user_who_lacks_one_of_the_commands_is_told_so_at_the_start(store_url: str, command: str) -> None:
    rules = f"{acl_rules('ddbmm:*')} -{command}"
    with user(store_url, rules) as limited, pytest.raises(ConfigurationError) as refused:
        check_permissions(connection(limited.replace("/0", "/1")), list(Role))
    named = refused.value.problem.partition(": ")[2]
    assert {one.partition(" on ")[0].replace("|", " ") for one in named.split(", ")} <= {
        command.upper().replace("|", " "),
        command.partition("|")[0].upper(),
    }
    assert acl_rules("ddbmm:{orders}:*") in refused.value.remedy
    assert "limited" not in str(refused.value), "a part of the URL's credentials"


@pytest.mark.parametrize(
    "lacking",
    [
        ("HELLO",),
        ("EVALSHA",),
        ("SELECT",),
        ("TIME", "HSCAN", "MULTI", "SCRIPT"),
        ("TYPE", "XAUTOCLAIM", "PFADD", "EXEC"),
    ],
    ids="+".join,
)
def test_commands_that_the_server_lacks_are_named_at_the_start(
    tmp_path: Path, lacking: tuple[str, ...]
) -> None:
    """A proxy, a managed server, `rename-command`: no rule of an ACL helps there."""
    renamed = (word for command in lacking for word in ("--rename-command", command, f"hidden-{command}"))
    with (
        servers.redis_like(servers.redis_binary(), tmp_path, *renamed) as url,
        pytest.raises(ConfigurationError) as refused,
    ):
        check_permissions(connection(url.replace("/0", "/1")), list(Role))
    named = refused.value.problem.partition(": ")[2].split(", ")
    assert sorted(named) == sorted(lacking)
    assert "rename-command" in refused.value.remedy and "ACL" not in refused.value.remedy


@pytest.mark.parametrize("script", sorted({one for own in _SCRIPTS.values() for one in own}), ids=str)
def test_every_permission_is_asked_for_as_a_whole_command(store_url: str, script: Script) -> None:
    """Redis 8 with its security corrections answers with an error where words are missing."""
    assert {one.name for own in _SCRIPTS.values() for one in own} == set(scripts.names())
    first, _, rest = scripts.source(script.name).partition("\n")
    with redis.Redis.from_url(store_url) as admin:
        keys = connection(store_url).keys(*script.keys)
        assert admin.eval(f"{first}\n{_PARTICULAR}\n{rest}", len(keys), *keys) == []


@pytest.mark.parametrize("role", Role)
def test_a_user_of_other_keys_is_told_so_at_the_start(store_url: str, role: Role) -> None:
    with (
        user(store_url, acl_rules("others:*")) as limited,
        pytest.raises(ConfigurationError, match=r"ddbmm:\{orders\}:"),
    ):
        check_permissions(connection(limited), [role])


@pytest.mark.parametrize("role", Role)
def test_what_a_role_does_not_do_it_need_not_be_allowed(store_url: str, role: Role) -> None:
    """A monitor needs no right to write."""
    others = {
        Role.READER: "xack",
        Role.VALIDATOR: "pfcount",
        Role.COMPARER: "xack",
        Role.VIEWER: "evalsha",
        Role.MARK: "pfcount",
        Role.MONITOR: "xack",
    }
    with user(store_url, f"{acl_rules('ddbmm:*')} -{others[role]}") as limited:
        check_permissions(connection(limited), [role])


def test_the_trial_leaves_nothing_behind(store_url: str) -> None:
    name = "never-begun"
    check_permissions(RedisConnection(store_url, name), list(Role))
    with redis.Redis.from_url(store_url) as admin:
        assert admin.keys(f"ddbmm:[{{]{name}}}:*") == []


def test_the_trial_changes_nothing_of_a_migration_that_runs(store_url: str) -> None:
    world = StoreWorld(store_url)
    before = world.everything()
    check_permissions(RedisConnection(store_url, world.store.migration), list(Role))
    assert world.everything() == before


def test_a_right_taken_away_later_is_told_too_and_leaves_the_books_right(store_url: str) -> None:
    world = StoreWorld(store_url)
    with world.without("PFADD") as weak, pytest.raises(StoreUnusable, match="PFADD"):
        CALLS["publish"](world, weak)
    CALLS["publish"](world, world.store)
    ledger = world.store.ledger()
    assert ledger.balanced and ledger.outstanding == 5


def test_the_whole_program_runs_as_that_user(tmp_path: Path, store_url: str) -> None:
    with FakeProcess() as fake, user(store_url, acl_rules("ddbmm:*")) as limited:
        fake.steer("create_table", name="source", view="NEW_AND_OLD_IMAGES", shards=2)
        fake.steer("create_table", name="target")
        tables = FakeTable(fake, "source"), FakeTable(fake, "target")
        system = System(tmp_path, limited, *tables, f"limited-{tmp_path.name}")
        with system.running():
            system.write("right", "a")
            system.write("wrong", "a", replica="b")
            eventually(system.at_rest, 60)
        assert system.findings() == system.truth() == {"wrong": "different"}
        assert [system.command(*words).returncode for words in (("gate",), ("mark", "T1"))] == [1, 0]
        with redis.Redis.from_url(store_url) as admin:
            refused = {entry["object"] for entry in admin.acl_log() if entry["username"] == "limited"}
        assert refused <= {"client|setinfo"}

"""What the Redis user must be allowed, and the trial of it before a role starts.

Reads: what the roles read. Writes: nothing: a script called without arguments only says what it is refused,
and what the trial removes has never been there.
"""

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import partial

from pipeline.core.redis_url import Form
from pipeline.errors import ConfigurationError, StateDamaged, StateLost
from pipeline.store import scripts
from pipeline.store.answers import NotAllowed, Unexpected
from pipeline.store.connection import RedisConnection
from pipeline.store.questions import Question, figures_questions
from pipeline.store.scripts import Script

#: Every command that a role or a command line needs; docs/operations.md shows it. (The client also says its
#: name, `client|setinfo`; where that is refused, nothing is missing, and Redis 7.0 does not know it. Without
#: `info`, which managed servers may forbid, nobody can tell whether the server is fit: `beginning` says so.
#: Without `scan` nobody can tell which other migrations the server holds: `begun`.)
COMMANDS = (
    *("del", "evalsha", "exec", "exists", "expire", "getbit", "hdel", "hexists", "hget", "hgetall"),
    *("hincrby", "hkeys", "hlen", "hmget", "hscan", "hset", "hvals", "info", "multi", "pfadd", "pfcount"),
    *(
        "ping",
        "scan",
        "script|load",
        "select",
        "setbit",
        "time",
        "type",
        "xack",
        "xadd",
        "xautoclaim",
        "xclaim",
    ),
    *(
        "xdel",
        "xgroup|create",
        "xgroup|delconsumer",
        "xinfo|consumers",
        "xlen",
        "xpending",
        "xrange",
        "xreadgroup",
        "xrevrange",
        "zadd",
    ),
    *("zcount", "zrange", "zrangebyscore", "zrem", "zremrangebyscore", "zscore"),
)
#: And in a cluster, where its nodes are asked who has the migration.
CLUSTER_COMMANDS = ("cluster|slots",)
#: A name that no reader and no field has.
_NOBODY = ""


class Role(Enum):
    """Who needs what."""

    READER = "reader"
    VALIDATOR = "validator"
    COMPARER = "comparer"
    VIEWER = "viewer"
    MONITOR = "monitor"
    MARK = "mark"


_SCRIPTS: dict[Role, tuple[Script, ...]] = {
    Role.READER: (
        *(scripts.BEGIN, scripts.BEGIN_AGAIN, scripts.HEARTBEAT, scripts.TRACK, scripts.LEASE),
        *(scripts.RENEW, scripts.RELEASE, scripts.publish(), scripts.ADD_GAP, scripts.KEEP_CLOCK),
        *(scripts.spend(0), scripts.lower()),
    ),
    Role.VALIDATOR: (
        *(scripts.BEGIN, scripts.CLAIM, scripts.CLAIM_ALONE, scripts.commit(0), scripts.KEEP_CLOCK),
        *(scripts.VALIDATOR_HEARTBEAT, scripts.ADAPT, scripts.spend(0)),
    ),
    Role.COMPARER: (
        *(scripts.BEGIN, scripts.COMPARE_BEGIN, scripts.COMPARE_TAKE, scripts.COMPARE_RENEW),
        *(scripts.COMPARE_FINISH, scripts.SUSPECT, scripts.KEEP_CLOCK, scripts.spend(0)),
    ),
    Role.VIEWER: (),
    Role.MONITOR: (scripts.SAMPLE,),
    Role.MARK: (scripts.MARK,),
}


def acl_rules(keys: str, *, in_cluster: bool = False) -> str:
    """The rules of an ACL that allow what is needed on keys of that pattern."""
    commands = COMMANDS + (CLUSTER_COMMANDS if in_cluster else ())
    return f"~{keys} {' '.join(f'+{command}' for command in commands)}"


def check_permissions(connection: RedisConnection, roles: Sequence[Role]) -> None:
    """Raises ConfigurationError that names all that one of the roles needs and the user may not do."""
    refused = [*_refused_questions(connection, roles), *_refused_scripts(connection, roles)]
    if refused:
        rules = acl_rules(connection.key("*"), in_cluster=connection.form is Form.CLUSTER)
        raise ConfigurationError(
            f"the Redis user of --redis-url may not do what is needed: {', '.join(dict.fromkeys(refused))}",
            f"allow it: ACL SETUSER (its name) {rules}",
        )


def _refused_questions(connection: RedisConnection, roles: Sequence[Role]) -> Iterator[str]:
    if connection.locator and _is_refused(connection, connection.locator.find):
        yield "CLUSTER SLOTS"
        return
    if _is_refused(connection, connection.redis.ping):
        yield "PING, or SELECT for the database of the URL"
        return
    for question in dict.fromkeys(one for role in roles for one in _questions(role, connection.key)):
        if _is_refused(connection, partial(connection.redis.execute_command, *question)):
            command, *on = question
            yield f"{command} on {on[0]}" if on else str(command)
    transaction = connection.redis.pipeline(transaction=True)
    transaction.time()
    if _is_refused(connection, transaction.execute, by_any_error=True):
        yield "MULTI, EXEC"


def _questions(role: Role, key: Callable[[str], str]) -> Iterator[Question]:
    """What a role asks without a script, or something as harmless in its place."""
    yield from (("TIME",), ("HGET", key("clock"), "distance_ms"), ("HGETALL", key("meta")))
    if role is Role.VIEWER:
        yield from figures_questions(key, 0).values()
        yield from (("HMGET", key("findings"), _NOBODY), ("ZRANGEBYSCORE", key("findings-since"), 0, 0))
        yield from (("XREVRANGE", key("findings-log"), "+", "-", "COUNT", 1), ("HGETALL", key("samples")))
        yield from (("HSCAN", key("history"), 0), ("HGET", key("history"), _NOBODY))
        yield from (("ZSCORE", key("due"), _NOBODY), ("ZSCORE", key("findings-since"), _NOBODY))
        yield ("XREVRANGE", key("dead"), "+", "-", "COUNT", 1)
    if role in (Role.VIEWER, Role.READER):
        yield from (("HGETALL", key("gaps")), ("HEXISTS", key("meta"), _NOBODY))
        yield from (("HGETALL", key("checkpoints")), ("HGETALL", key("watermarks")))
        yield ("HMGET", key("meta"), "queued")
    if role is Role.VALIDATOR:
        yield ("ZREM", key("validators"), _NOBODY)
    if role is Role.READER:
        yield ("ZREM", key("readers"), _NOBODY)
    if role is Role.COMPARER:
        yield ("HGETALL", key("comparison-sorted"))


def _refused_scripts(connection: RedisConnection, roles: Sequence[Role]) -> Iterator[str]:
    needed = dict.fromkeys(script for role in roles for script in _SCRIPTS[role])
    if needed and _is_refused(connection, lambda: connection.redis.script_load(scripts.source("mark"))):
        yield "SCRIPT LOAD"
    else:
        for script in needed:
            yield from _refused_in(connection, script)


def _refused_in(connection: RedisConnection, script: Script) -> Iterator[str]:
    found: list[bytes] = []
    if _is_refused(connection, lambda: found.extend(connection.run(script, ()))):
        yield f"EVALSHA on {connection.key('*')}"
    yield from (one.decode() for one in found)


def _is_refused(
    connection: RedisConnection, call: Callable[[], object], *, by_any_error: bool = False
) -> bool:
    """by_any_error: a transaction that is not allowed says that there is none, or was aborted."""
    try:
        with connection.asking("trial"):
            call()
    except NotAllowed:
        return True
    except (StateLost, StateDamaged, Unexpected):
        # Else it may, but there is no such thing: a group before the migration has begun.
        return by_any_error
    return False

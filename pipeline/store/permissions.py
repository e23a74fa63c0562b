"""What the Redis user must be allowed, and the trial of it before a role starts.

Reads: what the roles read. Writes: nothing: a script called without arguments only says what it is refused,
and what the trial removes has never been there.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from functools import partial

from pipeline.core.redis_url import Form
from pipeline.errors import ConfigurationError, StateDamaged, StateLost, StoreFull
from pipeline.store import scripts
from pipeline.store.answers import ALL_COMMANDS, NotAllowed, Unexpected
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
#: How a script ends what it says of a command that there is not (lua/prelude.lua).
_UNKNOWN = " is unknown to the server"
_UNKNOWN_COMMAND = re.compile(r"unknown command [`'\"]?(\w+)", re.IGNORECASE)
_REFUSED_COMMAND = re.compile(r"to run the '([\w|]+)' command")
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
    """Raises ConfigurationError that names all that one of the roles needs and the server does not have, or
    the user may not do; StoreFull where the rest is fine.
    """
    trial = _Trial(connection)
    trial.run(roles)
    if trial.lacking:
        lacking = ", ".join(dict.fromkeys(trial.lacking))
        raise ConfigurationError(f"the server of --redis-url lacks what is needed: {lacking}", ALL_COMMANDS)
    if trial.refused:
        rules = acl_rules(connection.key("*"), in_cluster=connection.form is Form.CLUSTER)
        refused = ", ".join(dict.fromkeys(trial.refused))
        raise ConfigurationError(
            f"the Redis user of --redis-url may not do what is needed: {refused}",
            f"allow it: ACL SETUSER (its name) {rules}",
        )
    if trial.full:
        raise trial.full


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


class _Trial:
    """Of all that is asked. refused: what the user may not do. lacking: what the server refuses anybody.
    full: what it says where there is no room for some of it.
    """

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self.refused: list[str] = []
        self.lacking: list[str] = []
        self.full: StoreFull | None = None

    def run(self, roles: Sequence[Role]) -> None:
        connection = self._connection
        if connection.locator and not self._goes("CLUSTER SLOTS", connection.locator.find, first=True):
            return
        if self._goes("PING", connection.redis.ping, first=True):
            self._questions(roles)
        elif self.lacking:
            return  # no connection can be made
        self._scripts(dict.fromkeys(script for role in roles for script in _SCRIPTS[role]))

    def _questions(self, roles: Sequence[Role]) -> None:
        connection = self._connection
        for question in dict.fromkeys(one for role in roles for one in _questions(role, connection.key)):
            command, *on = question
            what = f"{command} on {on[0]}" if on else str(command)
            self._goes(what, partial(connection.redis.execute_command, *question))
        if self._goes("MULTI", partial(self._alone, "MULTI")):
            self._goes("EXEC", partial(self._alone, "MULTI", "EXEC"))

    def _alone(self, *commands: str) -> None:
        """On a connection that nobody else gets: it may be left in the middle of a transaction."""
        client = self._connection.redis.client()  # type: ignore[no-untyped-call]
        try:
            for command in commands:
                client.execute_command(command)
        finally:
            client.connection.disconnect()
            client.close()

    def _scripts(self, needed: Iterable[Script]) -> None:
        load = partial(self._connection.redis.script_load, scripts.source("mark"))
        if needed and self._goes("SCRIPT LOAD", load):
            for script in needed:
                self._script(script)

    def _script(self, script: Script) -> None:
        found: list[bytes] = []
        what = f"EVALSHA on {self._connection.key('*')}"
        self._goes(what, lambda: found.extend(self._connection.run(script, ())))
        for one in (raw.decode() for raw in found):
            known = one.removesuffix(_UNKNOWN)
            (self.refused if known == one else self.lacking).append(known)

    def _goes(self, what: str, call: Callable[[], object], *, first: bool = False) -> bool:
        """first: what is refused for any other reason than a command says nothing about commands."""
        try:
            with self._connection.asking("trial"):
                call()
        except NotAllowed as error:
            # Another command than the one that was asked: SELECT, which each connection begins with.
            found = _REFUSED_COMMAND.search(error.problem)
            named = found[1].upper().replace("|", " ") if found else ""
            self.refused.append(what if what.startswith(named) else named)
            return False
        except Unexpected as error:
            unknown = _UNKNOWN_COMMAND.search(error.problem)
            if first and not unknown:
                raise
            self.lacking.append(unknown[1].upper() if unknown else f"{what} ({error.problem})")
            return False
        except StoreFull as error:
            self.full = error
        except (StateLost, StateDamaged):
            pass  # it may, but there is no such thing: a group before the migration has begun
        return True

"""What Redis' refusals mean for us: to be waited for, to be put right by somebody, or state that is not ours.

Reads and writes: nothing. Never: waiting. What a server says is shown short and escaped, and no user's name.

Whoever plays a role waits through all of it; a start ends with what waiting does not change (StoreUnusable).
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec
import redis

from pipeline.core.comparing.state import Comparison
from pipeline.core.judging.history import MAX_MS
from pipeline.core.quoting import quoted
from pipeline.errors import (
    StateDamaged,
    StateLost,
    StoreError,
    StoreFull,
    StoreNotReady,
    StoreUnavailable,
    StoreUnusable,
)

#: How a server says that it serves nobody for a while, by the first word of its answer.
_NOT_READY = {
    "LOADING": "Redis is still loading its data",
    "BUSY": "Redis is busy with a script of somebody",
    "MISCONF": "Redis takes no writes now, because it cannot save",
    "NOREPLICAS": "Redis takes no writes now, because it has too few replicas",
    "READONLY": "Redis takes no writes now: what answers is a replica",
    "MASTERDOWN": "what answers is a replica that has lost its primary",
    "CLUSTERDOWN": "the Redis cluster is down",
    "TRYAGAIN": "the Redis cluster is moving this migration",
    "ASK": "the Redis cluster is moving this migration",
    "NOSCRIPT": "Redis forgot its scripts",
}
#: redis-py takes the first word off these.
_WORDS: dict[type[redis.RedisError], str] = {
    redis.BusyLoadingError: "LOADING",
    redis.ReadOnlyError: "READONLY",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.TryAgainError: "TRYAGAIN",
    redis.exceptions.MovedError: "MOVED",
    redis.exceptions.AskError: "ASK",
    redis.exceptions.ClusterCrossSlotError: "CROSSSLOT",
    redis.exceptions.NoScriptError: "NOSCRIPT",
}
#: How scripts and commands say that a value is not what they ever wrote.
_DAMAGED = re.compile(
    r"holds no number at|hash value is not an integer|INVALIDOBJ|"
    r"user_script:\d+: (?:attempt to (?!call)|bad argument|data string too short)"
)
#: What redis-py, or we, raise over an answer of another type, or over a handshake that is none.
CHOKED = (ValueError, TypeError, AttributeError, LookupError)
#: The largest that Redis counts to.
MOST_COUNTED = 2**63 - 1
_OF_A_CLUSTER = (
    "write redis+cluster://HOST:6379,HOST:6379 with some of its nodes, or use a server that is no node"
)
#: redis-py puts this in front, with the whole command.
_OF_A_PIPELINE = re.compile(r"\ACommand # \d+ \(.*?\) of pipeline caused error: ", re.DOTALL)
_USER = re.compile(r"User \S+ has no permissions")


class NotAllowed(StoreUnusable):
    """The user's ACL lacks a command or a key."""


class Unexpected(StoreUnusable):
    """A refusal that nobody foresaw."""


class WrongForm(redis.RedisError):
    """Who was asked where the server is cannot say so: (problem, remedy)."""


def translation(error: Exception, *, in_cluster: bool = False) -> StoreError:
    """Our error for one of redis-py's, or of CHOKED.

    in_cluster: the URL names a cluster's nodes, and the next connection is made to the right one.
    """
    text = _OF_A_PIPELINE.sub("", str(error))
    word = _WORDS.get(type(error)) or text.partition(" ")[0]  # type: ignore[arg-type]
    said = quoted(text if text.startswith(word) else f"{word} {text}")
    if isinstance(error, redis.exceptions.NoPermissionError):
        may_not = quoted(_USER.sub("it has no permission", text))
        return NotAllowed(
            f"the Redis user may not do what is needed: {may_not}", "`doctor` says what to allow"
        )
    if isinstance(error, (redis.AuthenticationError, redis.exceptions.AuthorizationError)):
        return StoreUnusable(
            f"Redis refused the credentials in --redis-url: {said}", "check its user and password"
        )
    if isinstance(error, redis.OutOfMemoryError):
        return StoreFull("Redis is at maxmemory, and publishing waits until there is room", "raise maxmemory")
    if word in ("MOVED", "CROSSSLOT"):
        return _elsewhere(said, wait=in_cluster and word == "MOVED")
    if word in _NOT_READY:
        return StoreNotReady(f"{_NOT_READY[word]}: {said}")
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        return StoreUnavailable(f"Redis cannot be reached: {quoted(text)}")
    return _of_state(word, said) or _unforeseen(error, said)


def _elsewhere(said: str, *, wait: bool) -> StoreError:
    if wait:
        return StoreNotReady(f"another node of the Redis cluster has this migration now: {said}")
    return StoreUnusable(
        "the Redis in --redis-url is a node of a cluster, and another node has this migration", _OF_A_CLUSTER
    )


def _of_state(word: str, said: str) -> StoreError | None:
    if word in ("STATELOST", "NOGROUP"):
        return StateLost(f"the migration's state is gone from Redis: {said}")
    if word == "WRONGTYPE":
        return StateDamaged(
            f"a key of the migration holds something else: {said}",
            "delete that key, or give the migration a Redis of its own",
        )
    if _DAMAGED.search(said):
        return damaged(said)
    return None


def _unforeseen(error: Exception, said: str) -> StoreError:
    if isinstance(error, WrongForm):
        return StoreUnusable(*error.args)
    if "DB index is out of range" in said:
        return StoreUnusable(
            "the server has no such database as --redis-url names", "name one that it has, mostly 0 to 15"
        )
    if isinstance(error, (redis.InvalidResponse, *CHOKED)):
        return StoreUnusable(
            "what answers at --redis-url does not speak as Redis does", "check its host, port and scheme"
        )
    return Unexpected(f"Redis refused a call: {said}")


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Whatever cannot be read of the state is damaged: one error of ours. what: the key, as for `damaged`."""
    try:
        yield
    except (LookupError, ValueError, TypeError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise damaged(what) from error


def whole(raw: bytes | str | float) -> int:
    """A number that was counted. Raises ValueError for one that nobody counts to."""
    number = int(raw)
    if abs(number) > MOST_COUNTED:
        raise ValueError("no count is as large")
    return number


def instant_ms(raw: bytes | str | float | None) -> int:
    """An instant, 0 = none. Raises ValueError for one that is none."""
    at_ms = int(raw or 0)
    if not 0 <= at_ms <= MAX_MS:
        raise ValueError("no instant of ours")
    return at_ms


def comparison_of(fields: Mapping[str, str]) -> Comparison:
    """The hash `comparison`. Raises KeyError or ValueError for one that nobody wrote."""
    found = Comparison.from_fields(fields)
    for at_ms in (found.started_ms, found.finished_ms, found.vouches_from_ms):
        instant_ms(at_ms)
    for count in (found.planned, found.done, found.epoch, *msgspec.structs.astuple(found.tally)):
        whole(count)
    return found


def damaged(what: str) -> StateDamaged:
    """what: the key, and the field of it where there is one."""
    return StateDamaged(
        f"the migration's state in Redis is damaged: {what}",
        "restore a backup, or begin anew under another --migration name",
    )

"""What Redis' refusals mean for us: to be waited for, to be put right by somebody, or state that is not ours.

Reads and writes: nothing. Never: waiting. What a server says is shown short and escaped, and no user's name.

Whoever plays a role waits through all of it; a start ends with what waiting does not change (StoreUnusable).
"""

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec
import redis

from pipeline.core.comparing.state import Comparison
from pipeline.core.judging.history import MAX_MS
from pipeline.core.quoting import quoted
from pipeline.errors import (
    ANOTHER_NAME,
    StateDamaged,
    StateLost,
    StoreError,
    StoreFull,
    StoreNotReady,
    StoreUnavailable,
    StoreUnusable,
)

#: How a server says that it serves nobody for a while, by the first word of its answer, and what helps.
_MOVES = ("the Redis cluster is moving this migration", "let the move of its slot end")
_NOT_READY = {
    "LOADING": ("Redis is still loading its data", "wait until it has"),
    "BUSY": ("Redis is busy with a script of somebody", "wait for its end, or ask for it: SCRIPT KILL"),
    "MISCONF": (
        "Redis takes no writes now, because it cannot save",
        "make room on its disk; its log says more",
    ),
    "NOREPLICAS": (
        "Redis takes no writes now, because it has too few replicas",
        "start its replicas, or set a lower min-replicas-to-write",
    ),
    "READONLY": (
        "Redis takes no writes now: what answers is a replica",
        "name the primary in --redis-url; while one fails over, wait",
    ),
    "MASTERDOWN": ("what answers is a replica that has lost its primary", "start its primary, or name that"),
    "CLUSTERDOWN": (
        "the Redis cluster is down",
        "start the nodes that are gone; CLUSTER INFO and CLUSTER NODES say what is missing",
    ),
    "TRYAGAIN": _MOVES,
    "ASK": _MOVES,
    "NOSCRIPT": ("Redis forgot its scripts", ""),
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
#: The remedy where commands are missing.
ALL_COMMANDS = (
    "use a server that has all commands of Redis 7.0.4 or Valkey 8 under their own names: a proxy, a managed "
    "service or `rename-command` may take some away"
)
_VOUCHED = (
    "name the file of who vouches for its certificate behind the database (?ssl_ca_certs=FILE), and the "
    "host as the certificate has it"
)
_TLS_FILES = "check ssl_ca_certs, ssl_certfile, ssl_keyfile and ssl_password in --redis-url"
_THERE = "check --redis-url, and that the server runs"
_ANNOUNCED = (
    "start it, or wait until another takes its place; and see that this host reaches it under the name that "
    "Sentinels or nodes have for it (replica-announce-ip, sentinel announce-ip, cluster-announce-ip)"
)
#: Why a file cannot be read; a connection to a host reads those of TLS alone, one to a socket that.
_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
_TO_A_SOCKET = re.compile(r" connecting to /")
#: redis-py puts this in front, with the whole command.
_OF_A_PIPELINE = re.compile(r"\ACommand # \d+ \(.*?\) of pipeline caused error: ", re.DOTALL)
_USER = re.compile(r"User \S+ has no permissions")


class NotAllowed(StoreUnusable):
    """The user's ACL lacks a command or a key."""


class Unexpected(StoreUnusable):
    """A refusal that nobody foresaw."""


class WrongForm(redis.RedisError):
    """Who was asked where the server is cannot say so: (problem, remedy)."""


class NotReached(redis.ConnectionError):
    """Nobody answers where the Sentinels, or the nodes of the cluster, say that the server is."""


def translation(error: Exception, *, in_cluster: bool = False) -> StoreError:
    """Our error for one of redis-py's, or of CHOKED.

    in_cluster: the URL names a cluster's nodes, and the next connection is made to the right one.
    """
    text = _OF_A_PIPELINE.sub("", str(error))
    word = _WORDS.get(type(error)) or text.partition(" ")[0]  # type: ignore[arg-type]
    said = quoted(text if text.startswith(word) else f"{word} {text}")
    aborted = isinstance(error, redis.exceptions.ExecAbortError)
    if isinstance(error, redis.exceptions.NoPermissionError) or (aborted and "because of: NOPERM" in text):
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
        return _not_ready(word, said)
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        return _unreachable(error, text)
    return _of_state(word, said) or _unforeseen(error, said)


def a_replica(said: str) -> StoreNotReady:
    """said: how that showed."""
    return _not_ready("READONLY", said)


def _not_ready(word: str, said: str) -> StoreNotReady:
    problem, remedy = _NOT_READY[word]
    return StoreNotReady(f"{problem}: {said}", remedy)


def _unreachable(error: Exception, text: str) -> StoreError:
    problem, cause = f"Redis cannot be reached: {quoted(text)}", error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return StoreUnavailable(problem, _VOUCHED)
    if isinstance(cause, ssl.SSLError):
        return StoreUnavailable(problem, f"{_TLS_FILES}; where the server has no TLS write redis://")
    if isinstance(cause, _NO_FILE) and not _TO_A_SOCKET.search(text):
        no_file = quoted(cause.strerror or "")
        return StoreUnusable(f"a file that --redis-url names for TLS cannot be read: {no_file}", _TLS_FILES)
    if "max number of clients" in text:
        return StoreUnavailable(problem, "set a higher maxclients, or end connections of others")
    return StoreUnavailable(problem, _ANNOUNCED if isinstance(error, NotReached) else _THERE)


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
            "the server has no such database as --redis-url names",
            "name one that it has, mostly 0 to 15; a cluster is named redis+cluster://HOST:6379,HOST:6379",
        )
    if "SELECT is not allowed in cluster mode" in said:
        return StoreUnusable(
            "the Redis in --redis-url is a node of a cluster, which has database 0 alone", _OF_A_CLUSTER
        )
    if said.startswith("DENIED"):
        return StoreUnusable(
            f"Redis has no password, and so serves its own host alone: {said}",
            "give it one (requirepass, or a user), and write redis://:PASSWORD@HOST:6379/0",
        )
    if said.startswith("NOPROTO"):
        return StoreUnusable(
            f"what answers at --redis-url does not speak RESP3: {said}", "use Redis 7.0.4, Valkey 8 or newer"
        )
    if "unknown command" in said.lower():
        return Unexpected(f"the server lacks a command that is needed: {said}", ALL_COMMANDS)
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
        f"restore a backup, or begin anew {ANOTHER_NAME}",
    )

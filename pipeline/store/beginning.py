"""A migration's beginning: a server that can be used, and the settings under which its state was made.

Reads and writes: `meta` and the work stream's group. Never: judging.
"""

import re
import secrets
from collections.abc import Mapping
from typing import cast

import msgspec

from pipeline.core.model import Side
from pipeline.core.quoting import quoted
from pipeline.errors import ANOTHER_NAME, ConfigurationError, SettingsChanged
from pipeline.store import scripts
from pipeline.store.answers import NotAllowed, Unexpected, a_replica, instant_ms, reading
from pipeline.store.connection import GROUP, RedisConnection
from pipeline.store.messages import Meta, ServerInfo

#: Redis ≥ 7.0.4: XAUTOCLAIM of older servers keeps trimmed entries pending for ever. Valkey ≥ 8 alike.
REDIS_FLOOR, VALKEY_FLOOR = (7, 0, 4), (8, 0, 0)
#: The form of all that is stored: one more whenever it changes. State of another form is refused.
FORMAT = 3


def check_server(connection: RedisConnection) -> ServerInfo:
    """Raises ConfigurationError for a server that is too old or may evict, StoreNotReady for a replica, even
    for one that takes writes (its primary's overwrite them), StoreUnavailable for none.

    What a server does not say (managed ones forbid INFO, others lack fields of it) cannot be held against it:
    `ServerInfo.doubts` names it.
    """
    told = _told(connection)
    if "sentinel" in (told.get("redis_mode"), told.get("server_mode")):
        raise ConfigurationError(
            "what answers at --redis-url is a Sentinel, which keeps no state",
            "write redis+sentinel://HOST:26379,HOST:26379/SERVICE/0, the service as `sentinel monitor` in "
            "sentinel.conf calls it",
        )
    if told.get("role") == "slave":
        raise a_replica("INFO says role:slave")
    info = server_info(told)
    floor = VALKEY_FLOOR if info.kind == "valkey" else REDIS_FLOOR
    known = len(info.version)  # "8" may be any of the eighth
    if info.version < floor[:known]:
        wanted = ".".join(map(str, floor))
        raise ConfigurationError(
            f"{info.kind} {info.version_text} is too old", f"use {info.kind} {wanted} or newer"
        )
    if info.policy and info.policy != "noeviction" and not info.policy.startswith("volatile-"):
        raise ConfigurationError(
            f"{info.kind} has maxmemory-policy {info.policy} and may evict the migration's state",
            "set maxmemory-policy noeviction where this server is configured (redis.conf, or the parameters "
            "of a managed service), or use a server of its own",
        )
    return info


def _told(connection: RedisConnection) -> dict[str, str]:
    """What INFO says, field by field, as text; nothing where the server does not answer it to us."""
    # redis-py would make a number of "8", and another version of "7.10".
    connection.redis.set_response_callback("INFO", lambda answer: answer)
    try:
        with connection.asking("info"):
            answer = cast(bytes | str, connection.redis.execute_command("INFO"))  # type: ignore[no-untyped-call]
            text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
            lines = text.splitlines()
    except (NotAllowed, Unexpected):
        return {}
    fields = (line.partition(":") for line in lines if not line.startswith("#"))
    return {name: quoted(value.strip(), 40) for name, _, value in fields}


def server_info(told: Mapping[str, str]) -> ServerInfo:
    """told: the fields of INFO."""
    kind = "valkey" if "valkey_version" in told else "redis"
    text = told.get(f"{kind}_version", "")
    numbers = re.match(r"\d+(?:\.\d+)*", text)
    version = tuple(int(part[:9]) for part in numbers[0].split(".")[:3]) if numbers else ()
    return ServerInfo(
        kind,
        version,
        text or "of an unknown version",
        told.get("maxmemory_policy", ""),
        forgets=told.get("aof_enabled") == "0",
    )


def load(connection: RedisConnection) -> Meta | None:
    """The migration as it was begun, None when there is none. Raises ConfigurationError (`readable`)."""
    with connection.asking("meta"):
        raw = dict(cast(dict[bytes, bytes], connection.redis.hgetall(connection.key("meta"))))
    return _meta_of(raw, connection.migration) if raw else None


def begin(
    connection: RedisConnection, settings: dict[str, str], judged_by: dict[str, str] | None = None
) -> Meta:
    """Begin the migration or go on with it. judged_by: times that may change; None leaves them as they are.

    Raises SettingsChanged if it was begun with other settings, and ConfigurationError as `readable` does.
    """
    encoded = msgspec.json.encode(settings)
    times = msgspec.json.encode(judged_by) if judged_by else b""
    flat = connection.run(scripts.BEGIN, (secrets.token_hex(16), encoded, FORMAT, GROUP, times))
    with connection.asking("begin"):
        raw = dict(zip(flat[::2], flat[1::2], strict=True))
    meta = _meta_of(raw, connection.migration)
    check_settings(meta, settings, connection.migration)
    return meta


def check_settings(meta: Meta, settings: Mapping[str, str], migration: str) -> None:
    """Raises SettingsChanged if the migration was begun with other settings."""
    differing = [
        f"{name}: {meta.settings.get(name, '(unset)')} → {settings.get(name, '(unset)')}"
        for name in sorted(meta.settings.keys() | settings.keys())
        if meta.settings.get(name) != settings.get(name)
    ]
    if differing:
        raise SettingsChanged(
            f"migration {migration} was begun with other settings ({'; '.join(differing)})",
            f"go back to them, or begin anew {ANOTHER_NAME}",
        )


def readable(found: bytes | None, migration: str) -> None:
    """Raises ConfigurationError for state whose `format` is not ours."""
    if found != b"%d" % FORMAT:
        form = quoted(found.decode(errors="replace"), 20) if found else ""
        of = f"has format {form}" if form else "was made before the first release"
        raise ConfigurationError(
            f"the state of migration {migration} in this Redis {of}, and this version reads format {FORMAT}",
            f"begin anew {ANOTHER_NAME}, or delete it with "
            f"`redis-cli --scan --pattern 'ddbmm:{{{migration}}}:*' | xargs redis-cli del`",
        )


def _meta_of(raw: dict[bytes, bytes], migration: str) -> Meta:
    readable(raw.get(b"format"), migration)
    with reading(f"ddbmm:{{{migration}}}:meta"):
        settings = msgspec.json.decode(raw[b"settings"], type=dict[str, str])
        judged_by = msgspec.json.decode(raw.get(b"judged_by", b"{}"), type=dict[str, str])
        Side(settings.get("verify_on", Side.TARGET))
        float(settings.get("sample_rate", 100))
        return Meta(
            instant_ms(raw[b"started_ms"]), bytes.fromhex(raw[b"secret"].decode()), settings, judged_by
        )

"""A migration's beginning: a server that can be used, and the settings under which its state was made.

Reads and writes: `meta` and the work stream's group. Never: anything of a migration that goes on.
"""

import secrets
from typing import cast

import msgspec
import redis

from pipeline.errors import ConfigurationError, SettingsChanged
from pipeline.store.connection import GROUP, RedisConnection, translated
from pipeline.store.messages import Meta, ServerInfo

#: Redis ≥ 7.0.4: XAUTOCLAIM of older servers keeps trimmed entries pending for ever. Valkey ≥ 8 alike.
REDIS_FLOOR, VALKEY_FLOOR = (7, 0, 4), (8, 0, 0)


def check_server(connection: RedisConnection) -> ServerInfo:
    """Raises ConfigurationError for a server that is too old or may evict, StoreUnavailable for none."""
    with translated():
        server = connection.redis.info("server")
        memory = connection.redis.info("memory")
    kind = "valkey" if "valkey_version" in server else "redis"
    version = tuple(int(part) for part in server[f"{kind}_version"].split(".")[:3])
    info = ServerInfo(kind, version, memory["maxmemory_policy"])
    floor = VALKEY_FLOOR if kind == "valkey" else REDIS_FLOOR
    if version < floor:
        wanted = ".".join(map(str, floor))
        raise ConfigurationError(
            f"{kind} {server[f'{kind}_version']} is too old: use {kind} {wanted} or newer"
        )
    if info.policy != "noeviction":
        raise ConfigurationError(
            f"{kind} has maxmemory-policy {info.policy} and may evict the migration's state: "
            "run `CONFIG SET maxmemory-policy noeviction`, or use a server of its own"
        )
    return info


def load(connection: RedisConnection) -> Meta | None:
    """The migration as it was begun, None when there is none."""
    with translated():
        raw = cast(dict[bytes, bytes], connection.redis.hgetall(connection.key("meta")))
    return _meta_of(raw) if b"settings" in raw else None


def begin(connection: RedisConnection, settings: dict[str, str]) -> Meta:
    """Begin the migration or go on with it; SettingsChanged if it was begun with other settings.

    Going on writes nothing: a server at maxmemory would refuse, and could never be drained.
    """
    meta_key = connection.key("meta")
    with translated():
        begun = connection.redis.hexists(meta_key, "settings") and connection.redis.exists(
            connection.key("work")
        )
        if not begun:
            connection.redis.hsetnx(meta_key, "secret", secrets.token_hex(16))
            connection.redis.hsetnx(meta_key, "started_ms", connection.now_ms())
            connection.redis.hsetnx(meta_key, "settings", msgspec.json.encode(settings))
            try:
                connection.redis.xgroup_create(connection.key("work"), GROUP, id="0", mkstream=True)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
        raw = cast(dict[bytes, bytes], connection.redis.hgetall(meta_key))
    meta = _meta_of(raw)
    stored = meta.settings
    differing = [
        f"{name}: {stored.get(name, '(unset)')} → {settings.get(name, '(unset)')}"
        for name in sorted(stored.keys() | settings.keys())
        if stored.get(name) != settings.get(name)
    ]
    if differing:
        raise SettingsChanged(
            f"migration {connection.migration} was begun with other settings ({'; '.join(differing)}): "
            "go back to them, or choose a new name with --migration"
        )
    return meta


def _meta_of(raw: dict[bytes, bytes]) -> Meta:
    settings = msgspec.json.decode(raw[b"settings"], type=dict[str, str])
    return Meta(int(raw[b"started_ms"]), bytes.fromhex(raw[b"secret"].decode()), settings)

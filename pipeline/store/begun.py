"""The migrations that a Redis holds the state of, whoever began them.

Reads: names of keys. Writes: nothing. Never: judging.

No list of them is kept, which would be a second truth; the server is asked for its keys, a page at a time.
The user need not be allowed that (it is no key of ours that is asked for): then nobody can tell.
"""

import contextlib
from collections.abc import Iterator
from typing import cast

import redis

from pipeline.errors import StoreError
from pipeline.store.connection import RedisConnection

#: Every migration has settings.
_BEFORE, _BEHIND = "ddbmm:{", "}:meta"
#: Keys of a page, and pages: a migration has some hundred keys, and a shared server may have any number.
PAGE, MOST_PAGES = 5_000, 400


def begun_migrations(connection: RedisConnection) -> list[str]:
    """Their names, in order: those that can be found. connection: whichever migration it is of."""
    found: set[str] = set()
    with contextlib.suppress(StoreError), connection.asking("begun"):
        for name in _names(connection):
            found.add(name)
    return sorted(found)


def _names(connection: RedisConnection) -> Iterator[str]:
    for server in connection.servers():
        try:
            for key in _keys(server):
                yield key.decode(errors="replace").removeprefix(_BEFORE).removesuffix(_BEHIND)
        finally:
            if server is not connection.redis:  # a node of a cluster, of which nobody else asks anything
                server.connection_pool.disconnect(inuse_connections=False)


def _keys(server: redis.Redis) -> Iterator[bytes]:
    cursor = 0
    for _ in range(MOST_PAGES):
        cursor, keys = server.scan(cursor, f"{_BEFORE}*{_BEHIND}", PAGE)
        yield from cast(list[bytes], keys)
        if not cursor:
            return

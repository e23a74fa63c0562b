"""The keys with an open finding, in the order in which they were opened, a page at a time.

Reads: the sorted set `findings-since`. Writes: nothing. Never: judging.

A page is asked for by its place: that costs the same however many were opened at one instant. What is closed
meanwhile moves all behind it, so a page begins with the last key of the page before; where that is not in its
place any more, those behind it are looked for by their instant and their name, which is Redis' own order.
"""

from collections.abc import Iterator
from itertools import takewhile
from typing import Any, cast

from pipeline.store.connection import RedisConnection

#: A key, and when its finding was opened (ms).
Opened = tuple[bytes, float]


def opened(
    connection: RedisConnection, from_ms: int, until_ms: int | None, size: int
) -> Iterator[list[Opened]]:
    """Pages of `size` keys at most. One that is opened or closed meanwhile may be among them or not."""
    until = float("inf") if until_ms is None else float(until_ms)
    last, place = (b"", float(from_ms)), -1  # the last one, and how many are before it; -1 = nobody knows
    while True:
        page = _at_place(connection, last, place, size) if place >= 0 else None
        if page is None:
            page, place = _behind(connection, last, size)
        page = list(takewhile(lambda one: one[1] <= until, page))
        if not page:
            return
        yield page
        last, place = page[-1], place + len(page)


def _at_place(connection: RedisConnection, last: Opened, place: int, size: int) -> list[Opened] | None:
    """Those behind the last one; None where it is not in its place."""
    found = _asked(connection, place, place + size)
    return found[1:] if found[:1] == [last] else None


def _behind(connection: RedisConnection, last: Opened, size: int) -> tuple[list[Opened], int]:
    """Those behind the last one, which may be gone, and how many are before the one that is before them."""
    name, at_ms = last
    count = size
    while True:
        found = _asked(connection, at_ms, "+inf", byscore=True, offset=0, num=count)
        rest = [one for one in found if (one[1], one[0]) > (at_ms, name)]
        if rest or len(found) < count:
            break
        count *= 2
    with connection.asking("opened"):
        earlier = connection.redis.zcount(connection.key("findings-since"), "-inf", f"({at_ms!r}")
    return rest[:size], earlier + len(found) - len(rest) - 1


def _asked(connection: RedisConnection, first: Any, end: Any, **options: Any) -> list[Opened]:
    with connection.asking("opened"):
        found = connection.redis.zrange(
            connection.key("findings-since"), first, end, withscores=True, **options
        )
    return cast(list[Opened], found)

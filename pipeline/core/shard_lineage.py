"""Which shards may be read now: the stream's shard tree against what has been read of it.

Reads: one complete listing of a stream, the ids that have a checkpoint, the ids that are read to their end.
Writes: nothing; the answer is a LineagePlan. Never: AWS, the store. No listing is remembered, and no shard is
dropped.

DynamoDB orders the changes of a key only along a lineage: a child holds changes made after its parent closed
(AWS, "Change data capture for DynamoDB Streams"). So the rules are:

1. A shard waits for its parent until the parent is read to its end, even while both are listed as open.
2. A parent that is neither listed nor tracked holds nothing any more (24 h retention) and blocks nobody.
3. A tracked parent that is not listed and not finished still blocks: it is `vanished`, and the reader has to
   finish it, by reading what is left or by recording a gap. Only then is the order of a key's changes safe.
4. What the operator chose (LATEST or TRIM_HORIZON) is for the first listing alone, when nothing is tracked.
   Every shard found later, and every child of a shard that will be read, begins at TRIM_HORIZON: all it
   holds was written after the watch began, or cannot be told from it.
5. Listings are inconsistent at times: a child appears after its parent closed, a parent stays open beside it.
   Nothing is concluded from an absence but `vanished`, `forgettable` and `childless`, and the caller
   confirms each of them.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum, auto
from heapq import heappop, heappush

import msgspec


class Start(Enum):
    """Where reading of a shard begins."""

    LATEST = auto()  # with what is written from now on
    TRIM_HORIZON = auto()  # with the oldest record there is
    NEVER = auto()  # not at all: it was closed before the watch began


class Shard(msgspec.Struct, frozen=True):
    """A shard as DescribeStream lists it. closed: it has an EndingSequenceNumber, nothing will be added."""

    id: str
    parent: str | None
    closed: bool


class LineagePlan(msgspec.Struct, frozen=True):
    """What one listing means. Every list has parents before children, and lower ids
    first where both orders would do.

    begin: shards to track from now on, and where they begin; one that begins NEVER is tracked as finished (a
    tombstone, so that it is never taken for a new one).
    readable: unfinished shards, new ones included, that no parent blocks. waiting: those that wait.
    vanished: tracked and unfinished, but not listed: try to read them, on NotFound record a gap and finish.
    forgettable: finished and not listed. Drop a tombstone only once the shard is older than the retention:
    a shard missing from one listing may be back in the next, and would be read again from its beginning.
    childless: finished and listed, with no child listed yet: list again soon, backing off.
    """

    begin: dict[str, Start]
    readable: list[str]
    waiting: list[str]
    vanished: list[str]
    forgettable: list[str]
    childless: list[str]


def plan(
    listed: Iterable[Shard],
    finished: Collection[str],
    tracked: Collection[str],
    first: Start = Start.TRIM_HORIZON,
) -> LineagePlan:
    """What one complete listing means. tracked: every id with a checkpoint, the finished ones included.

    Any graph is answered: unknown parents, shards that are their own ancestors, repeated entries.
    """
    shards = {shard.id: shard for shard in listed}
    done, known = frozenset(finished), frozenset(tracked) | frozenset(finished)
    parents = {shard.id: shard.parent for shard in shards.values()}
    parents |= dict.fromkeys(known - shards.keys())
    order = _parents_first(parents)
    begin = _beginnings(order, shards, known, first)
    ended = done | {shard_id for shard_id, start in begin.items() if start is Start.NEVER}
    blocked = set(_blocked(order, parents, ended))
    with_child = {shard.parent for shard in shards.values() if shard.id != shard.parent}
    unfinished = [shard_id for shard_id in order if shard_id in shards and shard_id not in ended]
    return LineagePlan(
        begin=begin,
        readable=[shard_id for shard_id in unfinished if shard_id not in blocked],
        waiting=[shard_id for shard_id in unfinished if shard_id in blocked],
        vanished=[shard_id for shard_id in order if shard_id not in shards and shard_id not in ended],
        forgettable=[shard_id for shard_id in order if shard_id not in shards and shard_id in ended],
        childless=[shard_id for shard_id in order if shard_id in shards and shard_id in ended - with_child],
    )


def _beginnings(
    order: list[str], shards: Mapping[str, Shard], known: Collection[str], first: Start
) -> dict[str, Start]:
    """Where each listed shard that is not tracked yet begins, parents first."""
    begin: dict[str, Start] = {}
    for shard_id in order:
        if shard_id in known or shard_id not in shards:
            continue
        shard = shards[shard_id]
        follows = begin.get(shard.parent or "", Start.NEVER) is not Start.NEVER
        if first is not Start.LATEST or known or follows:
            begin[shard_id] = Start.TRIM_HORIZON
        else:
            begin[shard_id] = Start.NEVER if shard.closed else Start.LATEST
    return begin


def _parents_first(parents: Mapping[str, str | None]) -> list[str]:
    """All ids, each after its parent where it has one here; in a ring, the least id counts as the first."""
    children: defaultdict[str, list[str]] = defaultdict(list)
    roots = []
    for shard_id in sorted(parents):
        parent = parents[shard_id]
        if parent is None or parent not in parents:
            roots.append(shard_id)
        else:
            children[parent].append(shard_id)
    order: dict[str, None] = {}
    # Whatever the roots do not lead to is in a ring or below one.
    starts = [roots, *([shard_id] for shard_id in sorted(parents))]
    for heap in starts:
        while heap:
            shard_id = heappop(heap)
            if shard_id not in order:
                order[shard_id] = None
                for child in children[shard_id]:
                    heappush(heap, child)
    return list(order)


def _blocked(order: list[str], parents: Mapping[str, str | None], ended: Collection[str]) -> Iterator[str]:
    """Shards with a parent before them that is not read to its end."""
    seen = set()
    for shard_id in order:
        parent = parents[shard_id]
        if parent in seen and parent not in ended:
            yield shard_id
        seen.add(shard_id)

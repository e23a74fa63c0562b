"""A stream's shards, records and iterators, as DynamoDB Streams keeps them.

Reads: nothing. Writes: nothing. Never: HTTP, faults that are not a state of a shard.

Shards share a hash space: a split halves its parent's range, a rollover takes it over, so that the changes of
one key stay in one lineage. Sequence numbers begin just below a power of ten and gain a digit per generation
(21 … 40 digits): whoever compares them as text, or as floats, is caught.
"""

import itertools
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from tests.fake.errors import ExpiredIterator, NotFound, Trimmed

HASH_SPACE = 2**32
PAGE_RECORDS = 1000
PAGE_BYTES = 1_000_000
PAGE_SHARDS = 100
FIRST_SEQUENCE = 10**21 - 5
LARGEST_SEQUENCE = 10**39


class TrimShows(StrEnum):
    """Where reading trimmed records fails; TRIM_HORIZON itself never does, it silently begins later."""

    AT_ITERATOR = "at_iterator"
    AT_RECORDS = "at_records"
    AS_NOT_FOUND = "as_not_found"  # though the shard is still listed


@dataclass
class Shard:
    id: str
    parent: str | None
    range: tuple[int, int]
    first_sequence: int
    records: list[bytes] = field(default_factory=list)
    trimmed: int = 0  # records gone from the front; indexes count from the shard's birth
    closed: bool = False
    listed_after: float = 0  # DescribeStream walks until it is listed
    trim_shows: TrimShows = TrimShows.AT_ITERATOR

    def trim(self, records: int | None, shows: TrimShows) -> None:
        """Lose the oldest records (None: all)."""
        lost = len(self.records[:records])
        del self.records[:lost]
        self.trimmed += lost
        self.trim_shows = shows

    @property
    def end(self) -> int:
        return self.trimmed + len(self.records)

    @property
    def next_sequence(self) -> int:
        return self.first_sequence + self.end

    def index_of(self, sequence: int) -> int:
        """Index of the first record with at least this sequence number. Raises Trimmed when that is gone."""
        index = max(0, min(sequence - self.first_sequence, self.end))
        if index < self.trimmed:
            raise Trimmed
        return index


class Stream:
    """Not thread-safe: the service's lock guards it."""

    def __init__(self, arn: str, table: str, view: str, shards: int = 1) -> None:
        self.arn = arn
        self.table = table
        self.view = view
        self.enabled = True
        self.shards: dict[str, Shard] = {}
        self._born = 0
        self._oldest_valid_epoch = 0
        width = HASH_SPACE // shards
        for at in range(shards):
            last = HASH_SPACE if at == shards - 1 else (at + 1) * width
            self._bear(None, (at * width, last), FIRST_SEQUENCE + at * 1000)

    # Growing

    def append(self, position: int, record: dict[str, Any]) -> None:
        """Append a change record (without its SequenceNumber) to the open shard of a hash."""
        self.append_to(self._open_shard(position), record)

    def append_to(self, shard: Shard, record: dict[str, Any]) -> None:
        record["dynamodb"]["SequenceNumber"] = str(shard.next_sequence)
        shard.records.append(msgspec.json.encode(record))

    def split(self, shard_id: str, ways: int = 2, close_parent: bool = True) -> list[str]:
        """Children that share the parent's range (one: a rollover); the parent is closed by default."""
        parent = self.shards[shard_id]
        parent.closed = close_parent
        low, high = parent.range
        width = (high - low) // ways
        first = min(parent.next_sequence * 10, LARGEST_SEQUENCE)
        edges = [*(low + width * at for at in range(ways)), high]
        spans = itertools.pairwise(edges)
        return [self._bear(shard_id, span, first + at * 1000).id for at, span in enumerate(spans)]

    def disable(self) -> None:
        self.enabled = False
        for shard in self.shards.values():
            shard.closed = True

    def _bear(self, parent: str | None, span: tuple[int, int], first_sequence: int) -> Shard:
        self._born += 1
        shard_id = f"shardId-{self._born:020d}-{self._born * 2654435761 % HASH_SPACE:08x}"
        shard = Shard(shard_id, parent, span, first_sequence)
        self.shards[shard.id] = shard
        return shard

    def _open_shard(self, position: int) -> Shard:
        covering = [s for s in self.shards.values() if s.range[0] <= position < s.range[1]]
        newest = covering[-1]
        return self.shards[self.split(newest.id, ways=1)[0]] if newest.closed else newest

    def expire_iterators(self) -> None:
        """What 15 minutes do to every iterator that was given out."""
        self._oldest_valid_epoch += 1

    # Reading

    def describe(self, after: str | None, limit: int) -> tuple[list[Shard], str | None]:
        listed = [shard for shard in self.shards.values() if shard.listed_after <= 0]
        if after is not None:
            listed = [shard for shard in listed if shard.id > after]
        else:
            for shard in self.shards.values():
                shard.listed_after -= 1
        page = listed[: min(limit, PAGE_SHARDS)]
        return page, page[-1].id if len(page) < len(listed) else None

    def iterator(self, shard_id: str, kind: str, sequence: str | None) -> str:
        shard = self._shard(shard_id)
        return self._token(shard, self._start(shard, kind, sequence))

    def _start(self, shard: Shard, kind: str, sequence: str | None) -> int:
        if kind == "TRIM_HORIZON":
            return shard.trimmed
        if kind == "LATEST":
            return shard.end
        wanted = int(sequence or 0) + (kind == "AFTER_SEQUENCE_NUMBER")
        try:
            return shard.index_of(wanted)
        except Trimmed:
            if shard.trim_shows is TrimShows.AT_RECORDS:
                return -1
            raise

    def _token(self, shard: Shard, index: int) -> str:
        return f"{self.arn}|{shard.id}|{self._oldest_valid_epoch}|{index}"

    def read(self, token: str, limit: int) -> tuple[list[bytes], str | None]:
        """One page: record bodies and the next iterator (None: the shard is closed and read to its end)."""
        _, shard_id, epoch, index = token.rsplit("|", 3)
        shard = self._shard(shard_id)
        if int(epoch) < self._oldest_valid_epoch:
            raise ExpiredIterator
        at = int(index) - shard.trimmed
        if at < 0:
            raise Trimmed
        page: list[bytes] = []
        size = 0
        for record in shard.records[at : at + min(limit, PAGE_RECORDS)]:
            size += len(record)
            if page and size > PAGE_BYTES:
                break
            page.append(record)
        after = int(index) + len(page)
        return page, None if shard.closed and after == shard.end else self._token(shard, after)

    def _shard(self, shard_id: str) -> Shard:
        shard = self.shards.get(shard_id)
        if shard is None or (shard.trimmed and shard.trim_shows is TrimShows.AS_NOT_FOUND):
            raise NotFound(f"Shard {shard_id} not found")
        return shard

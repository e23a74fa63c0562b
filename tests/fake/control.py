"""How a test steers the fake: the same methods in-process and, by name over HTTP, for the process form.

Reads: nothing. Writes: the state of a `Fake`. Never: anything a client of DynamoDB could see directly.

Arguments and results are plain JSON values. `table` names a table, `shard` is a shard's id; None means the
table's newest open shard.
"""

from typing import TYPE_CHECKING, Any

from tests.fake.faults import Kind
from tests.fake.streams import Shard, Stream, TrimShows
from tests.fake.tables import Item

if TYPE_CHECKING:
    from tests.fake.server import Fake


class Control:
    """Thread-safe."""

    def __init__(self, fake: "Fake") -> None:
        self._fake = fake

    # Tables and items

    def create_table(
        self,
        name: str,
        *,
        partition_key: str = "pk",
        partition_type: str = "S",
        sort_key: str | None = None,
        sort_type: str = "S",
        view: str | None = None,
        shards: int = 1,
        ttl: str | None = None,
    ) -> str | None:
        """The stream's ARN; `view` None: no stream."""
        keys = [(partition_key, partition_type, "HASH")]
        if sort_key is not None:
            keys.append((sort_key, sort_type, "RANGE"))
        request = {
            "TableName": name,
            "KeySchema": [{"AttributeName": n, "KeyType": kind} for n, _, kind in keys],
            "AttributeDefinitions": [{"AttributeName": n, "AttributeType": t} for n, t, _ in keys],
        }
        with self._fake.lock:
            self._fake.world.create_table(request)
            self._fake.world.table(name).ttl_attribute = ttl
            return None if view is None else self.enable_stream(name, view, shards)

    def delete_table(self, table: str) -> None:
        with self._fake.lock:
            self._fake.world.delete_table({"TableName": table})

    def enable_stream(self, table: str, view: str = "NEW_AND_OLD_IMAGES", shards: int = 1) -> str:
        """A new stream with a new ARN; the old one, when there was one, stays readable."""
        with self._fake.lock:
            world = self._fake.world
            world.set_stream(world.table(table), {"StreamEnabled": True, "StreamViewType": view}, shards)
            return self._stream(table).arn

    def disable_stream(self, table: str) -> None:
        with self._fake.lock:
            self._stream(table).disable()

    def put(self, table: str, item: Item, *, created: float | None = None, streamed: bool = True) -> None:
        """Write an item; `streamed=False` leaves no change record (a fault that a stream cannot show)."""
        with self._fake.lock:
            world = self._fake.world
            world.table(table).put(item, world.now() if created is None else created, streamed=streamed)

    def delete(self, table: str, key: Item, *, created: float | None = None, streamed: bool = True) -> None:
        with self._fake.lock:
            world = self._fake.world
            world.table(table).delete(key, world.now() if created is None else created, streamed=streamed)

    def expire(self, table: str, key: Item) -> None:
        """Delete as DynamoDB's time to live does."""
        with self._fake.lock:
            self._fake.world.table(table).delete(key, self._fake.world.now(), ttl=True)

    def fill(
        self,
        table: str,
        count: int,
        *,
        mirror: str | None = None,
        start: int = 0,
        size: int = 100,
        streamed: bool = True,
    ) -> None:
        """Write `count` items numbered from `start`, spread over the shards by key; into `mirror` as well."""
        with self._fake.lock:
            for number in range(start, start + count):
                item = self._numbered(table, number, size)
                self.put(table, item, streamed=streamed)
                if mirror is not None:
                    self.put(mirror, item, streamed=streamed)

    def append(self, table: str, shard: str, count: int, *, start: int = 0, size: int = 100) -> None:
        """Append `count` INSERT records to one shard, whatever shard their keys belong to; no items."""
        with self._fake.lock:
            where = self._shard(table, shard)
            for number in range(start, start + count):
                change = {
                    "ApproximateCreationDateTime": self._fake.world.now(),
                    "Keys": self._fake.world.table(table).wire_key(self._numbered(table, number, size)),
                    "NewImage": self._numbered(table, number, size),
                    "StreamViewType": self._stream(table).view,
                }
                self._stream(table).append_to(where, {"eventName": "INSERT", "dynamodb": change})

    # Shards

    def shards(self, table: str) -> list[dict[str, Any]]:
        """Every shard, listed or not: id, parent, closed, records."""
        with self._fake.lock:
            return [
                {"id": s.id, "parent": s.parent, "closed": s.closed, "records": len(s.records)}
                for s in self._stream(table).shards.values()
            ]

    def split(
        self, table: str, shard: str | None = None, *, ways: int = 2, close_parent: bool = True
    ) -> list[str]:
        """Children of a shard. `ways=1`: a rollover. `close_parent=False`: the parent stays open."""
        with self._fake.lock:
            return self._stream(table).split(self._shard(table, shard).id, ways, close_parent)

    def close_shard(self, table: str, shard: str | None = None) -> str:
        """A closed leaf: no child until the next write to its range."""
        with self._fake.lock:
            found = self._shard(table, shard)
            found.closed = True
            return found.id

    def hide_shard(self, table: str, shard: str, walks: int | None = None) -> None:
        """Not listed for the next DescribeStream walks (None: until shown)."""
        with self._fake.lock:
            self._shard(table, shard).listed_after = float("inf") if walks is None else walks

    def show_shard(self, table: str, shard: str) -> None:
        with self._fake.lock:
            self._shard(table, shard).listed_after = 0

    def trim(
        self, table: str, shard: str | None = None, *, records: int | None = None, shows: str = "at_iterator"
    ) -> None:
        """Lose the oldest records (None: all); `shows`: at_iterator, at_records, as_not_found."""
        with self._fake.lock:
            self._shard(table, shard).trim(records, TrimShows(shows))

    def vanish(self, table: str, shard: str) -> None:
        with self._fake.lock:
            del self._stream(table).shards[shard]

    def expire_iterators(self, table: str) -> None:
        with self._fake.lock:
            self._stream(table).expire_iterators()

    def describe_export_as(self, arn: str, description: dict[str, Any]) -> None:
        """What DescribeExport answers."""
        self._fake.world.exports[arn] = description

    # Faults and facts

    def fail(self, kind: str, operation: str = "*", *, calls: int | None = 1, detail: float = 1) -> None:
        """Order a fault (see faults.Kind) for the next calls of an operation; None: until cleared."""
        self._fake.faults.add(Kind(kind), operation, calls, detail)

    def say(self, operation: str, raw: str, *, calls: int | None = 1) -> None:
        """Answer the next calls with this whole HTTP answer, in Latin-1, and hang up; None: until cleared."""
        self._fake.faults.say(operation, raw.encode("latin-1"), calls)

    def limit_rate(self, operation: str, per_second: float) -> None:
        self._fake.faults.limit_rate(operation, per_second)

    def clear_faults(self) -> None:
        self._fake.faults.clear()

    def skew(self, seconds: float) -> None:
        """What the Date header is off by."""
        self._fake.server.date_skew_seconds = seconds

    def hang_up(self) -> None:
        self._fake.server.hang_up()

    def limit_batch_get(self, size_bytes: int) -> None:
        """The answer size (16 MB at AWS) above which keys come back unprocessed."""
        self._fake.world.batch_get_limit_bytes = size_bytes

    def limit_scan(self, size_bytes: int, empty_pages: int = 0) -> None:
        """The size (1 MB at AWS) after which a page of a Scan ends, and how many of the next hold nothing."""
        self._fake.world.scans.page_bytes = size_bytes
        self._fake.world.scans.empty_pages = empty_pages

    def scatter(self, table: str, salt: str) -> None:
        """Put the table's keys into other segments than those of a table with another salt."""
        self._fake.world.scans.salts[table] = salt

    def heat(self, segment: int | None) -> None:
        """Throttle the Scans of this segment, of every table, until another (or None) is named."""
        self._fake.world.scans.hot_segment = segment

    def calls(self, operation: str) -> int:
        """How often an operation was called, refusals included."""
        return self._fake.calls[operation]

    def keys_read(self) -> int:
        """How many keys BatchGetItem looked up."""
        return self._fake.world.keys_read

    def _stream(self, table: str) -> Stream:
        stream = self._fake.world.table(table).stream
        if stream is None:
            raise LookupError(f"{table} has no stream")
        return stream

    def _shard(self, table: str, shard: str | None) -> Shard:
        shards = self._stream(table).shards
        if shard is not None:
            return shards[shard]
        return [each for each in shards.values() if not each.closed][-1]

    def _numbered(self, table: str, number: int, size: int) -> Item:
        wire = {"S": f"item-{number:08d}", "N": str(number), "B": f"{number:08d}"}
        key_types = self._fake.world.table(table).key_types
        keys = {name: {kind: wire[kind]} for name, kind in key_types.items()}
        return {**keys, "number": {"N": str(number)}, "payload": {"S": "x" * size}}


#: What `POST /_control` may call.
VERBS = frozenset(name for name in vars(Control) if not name.startswith("_"))

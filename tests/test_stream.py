"""The stream producer against streams over HTTP: what is found, what a page becomes, what is lost."""

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import structlog

from pipeline import metrics
from pipeline.aws import Connection, SideConfig, StreamClient
from pipeline.core.canonical import Digester, KeySchema
from pipeline.core.model import ABSENT, UNKNOWN, Change, Checkpoint, Counts
from pipeline.core.sampling import Sampler
from pipeline.errors import ConfigurationError, NotFound, Throttled
from pipeline.producers.base import Batch, Discovery, Found
from pipeline.producers.stream import discovery, producer
from pipeline.producers.stream.discovery import Discoverer
from pipeline.producers.stream.listing import Pace
from pipeline.producers.stream.position import (
    WATERMARK_BEHIND_MS,
    GapReason,
    Position,
    PositionKind,
    label_of,
    partition_of,
    shard_of,
)
from pipeline.producers.stream.producer import ShardReader, StreamProducer
from pipeline.producers.stream.records import Selector
from tests.fake.control import Control
from tests.fake.server import Fake

LATEST, TRIM_HORIZON = PositionKind.LATEST, PositionKind.TRIM_HORIZON
AFTER = PositionKind.AFTER
HOUR_MS = 3_600_000


@dataclass
class Clock:
    """A clock that stands still until it is told otherwise."""

    now: int = field(default_factory=lambda: int(time.time() * 1000))

    def now_ms(self) -> int:
        return self.now

    def latest_ms(self) -> int:
        return self.now + 700


class Rig:
    """A table with a stream, and a producer that reads it. The test plays the publisher and the store."""

    def __init__(
        self,
        fake: Fake,
        *,
        shards: int = 1,
        view: str = "NEW_AND_OLD_IMAGES",
        from_latest: bool = False,
        percent: float = 100.0,
        forget_after_seconds: float = 600.0,
    ) -> None:
        self.fake: Control = fake.control
        arn = self.fake.create_table("orders", view=view, shards=shards)
        assert arn is not None
        self.arn, self.label = arn, arn.rpartition("/")[2]
        self.clock = Clock()
        self.connection = Connection(SideConfig("stream", endpoint_url=fake.url, region="us-east-1"))
        client = StreamClient(self.connection)
        self.discoverer = Discoverer(
            client,
            arn,
            "orders",
            self.clock.now_ms,
            threading.Event(),
            started_ms=self.clock.now,
            from_latest=from_latest,
            pace=Pace(0.0),
            forget_after_seconds=forget_after_seconds,
        )
        self.metrics = metrics.start(None, "reader")
        self.producer = StreamProducer(
            client,
            self.discoverer,
            Selector(
                KeySchema("pk", "S", None, None),
                Sampler(percent),
                Digester(),
                self.metrics.of_reader("orders", "source").stream_malformed_images.inc,
            ),
            self.clock,
            self.metrics.of_reader("orders", "source"),
        )
        self.tracked: dict[str, Checkpoint] = {}
        self.watermarks: dict[str, int] = {}

    def name(self, shard: str) -> str:
        return partition_of(self.label, shard)

    def discover(self) -> Discovery:
        """Discover from a new listing, and do as it says, as the publisher would."""
        self.discoverer._list_due = 0.0
        plan = self.producer.discover(self.tracked, self.watermarks)
        for found in plan.found:
            self.tracked[found.partition] = found.checkpoint
            self.watermarks[found.partition] = found.watermark_ms
        for name in plan.unwatched:
            self.watermarks.pop(name, None)
        for name in plan.forget:
            del self.tracked[name]
        return plan

    def open(self, shard: str | None = None, position: Position | None = None) -> ShardReader:
        name = self.name(shard or str(self.fake.shards("orders")[0]["id"]))
        return self.producer.open(name, (position or Position(TRIM_HORIZON)).checkpoint())

    def put(self, number: int, value: str = "a", created: float | None = None) -> None:
        self.fake.put("orders", {"pk": {"S": f"k{number}"}, "v": {"S": value}}, created=created)

    def finish(self, *shards: str) -> None:
        for shard in shards:
            self.tracked[self.name(shard)] = Position(AFTER, "1", self.clock.now).checkpoint(finished=True)


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        yield one


@pytest.fixture
def rig(fake: Fake) -> Rig:
    return Rig(fake)


def at(one: Batch | Found) -> Position:
    return Position.of(one.checkpoint)


def drain(reader: ShardReader) -> list[Change]:
    """All changes up to the end or the first empty page."""
    changes: list[Change] = []
    while (batch := reader.next_batch()).counts.read or batch.gap:
        changes += batch.changes
    return changes


def test_a_page_becomes_changes_in_order_with_both_digests(rig: Rig):
    rig.put(1, "a")
    rig.put(1, "b")
    rig.fake.delete("orders", {"pk": {"S": "k1"}})

    batch = rig.open().next_batch()

    first, second, third = batch.changes
    assert (first.before, second.before, third.before) == (ABSENT, first.after, second.after)
    assert third.after == ABSENT
    assert first.after not in (ABSENT, UNKNOWN, second.after)
    assert first.key == b'"k1"'
    counts = batch.counts
    assert counts == Counts(3, 0, {"INSERT": 1, "MODIFY": 1, "REMOVE": 1})
    assert at(batch).kind is AFTER and not batch.idle


@pytest.mark.parametrize(
    ("view", "before_known", "after_known"),
    [("NEW_IMAGE", False, True), ("OLD_IMAGE", True, False), ("KEYS_ONLY", False, False)],
)
def test_what_a_view_does_not_show_is_unknown(fake: Fake, view: str, before_known: bool, after_known: bool):
    rig = Rig(fake, view=view)
    rig.put(1, "a")
    rig.put(1, "b")
    rig.fake.delete("orders", {"pk": {"S": "k1"}})

    insert, modify, remove = rig.open().next_batch().changes

    assert insert.before == ABSENT and remove.after == ABSENT
    assert (modify.before != UNKNOWN) is before_known is (remove.before != UNKNOWN)
    assert (modify.after != UNKNOWN) is after_known is (insert.after != UNKNOWN)


def test_records_of_keys_that_are_not_sampled_are_only_counted(fake: Fake):
    rig = Rig(fake, percent=5)
    rig.fake.fill("orders", 400)

    batch = rig.open().next_batch()

    assert 0 < len(batch.changes) < 60
    assert batch.counts.read == 400 == batch.counts.not_sampled + len(batch.changes)


def test_an_image_that_is_no_valid_item_is_counted_and_published_as_unknown(rig: Rig):
    rig.put(1)
    rig.fake.fail("unknown_tag", "GetRecords")
    with pytest.raises(Exception, match="keys that do not fit"):  # the keys are spoiled as well: not a page
        rig.open().next_batch()

    rig.put(2)
    [change, _] = _with_bad_image(rig).changes

    assert change.after == UNKNOWN and _metric(rig, "ddbmm_stream_malformed_images_total") == 1


def _metric(rig: Rig, name: str) -> float | None:
    return rig.metrics.registry.get_sample_value(name, {"migration": "orders"})


def _with_bad_image(rig: Rig) -> Batch:
    shard = next(iter(rig.fake._stream("orders").shards.values()))
    shard.records[0] = shard.records[0].replace(b'"v":{"S":"a"}', b'"v":{"Q":"a"}')
    return rig.open().next_batch()


def test_an_empty_page_is_idle_and_reads_through_to_shortly_before_the_call(rig: Rig):
    reader = rig.open()

    batch = reader.next_batch()

    assert batch.idle and at(batch) == Position(TRIM_HORIZON)
    assert batch.watermark_ms == rig.clock.now - WATERMARK_BEHIND_MS


def test_a_full_page_reads_through_to_shortly_before_its_last_record_only(rig: Rig):
    created = rig.clock.now // 1000 - 60
    rig.put(1, created=created)

    batch = rig.open().next_batch()

    assert batch.watermark_ms == created * 1000 - WATERMARK_BEHIND_MS and not batch.idle


def test_the_watermark_never_goes_back(rig: Rig):
    reader = rig.open()
    before = reader.next_batch().watermark_ms
    rig.put(1, created=rig.clock.now / 1000 - 60)

    assert reader.next_batch().watermark_ms == before


def test_an_empty_page_of_a_closed_shard_promises_nothing(rig: Rig):
    """There may be records behind it: only at the tip of an open shard does empty mean read through."""
    rig.put(1, created=rig.clock.now / 1000 - 60)
    reader = rig.open()
    before = reader.next_batch().watermark_ms
    rig.fake.close_shard("orders")
    rig.discover()

    batch = reader.next_batch()

    assert batch.checkpoint.finished and batch.watermark_ms == before


def test_the_last_page_and_the_end_are_one_batch(rig: Rig):
    rig.put(1)
    shard = rig.fake.close_shard("orders")

    batch = rig.open(shard).next_batch()

    assert len(batch.changes) == 1 and batch.checkpoint.finished and at(batch).sequence


def test_more_records_than_a_page_holds_come_in_several_calls(rig: Rig):
    rig.fake.fill("orders", 2500)
    reader = rig.open()

    sizes = [len(reader.next_batch().changes) for _ in range(4)]

    assert sizes == [1000, 1000, 500, 0]


def test_reading_goes_on_after_the_checkpoint(rig: Rig):
    for number in range(5):
        rig.put(number)
    batch = rig.open().next_batch()
    rig.put(5)

    assert [change.key for change in drain(rig.open(position=at(batch)))] == [b'"k5"']


def test_an_expired_iterator_is_derived_again_from_the_checkpoint(rig: Rig):
    rig.put(1)
    reader = rig.open()
    reader.next_batch()
    rig.put(2)
    rig.fake.expire_iterators("orders")

    assert reader.next_batch().changes == []
    assert [change.key for change in reader.next_batch().changes] == [b'"k2"']


def test_throttling_loses_nothing(rig: Rig):
    rig.put(1)
    reader = rig.open()
    rig.fake.fail("throttle", "GetRecords")
    with pytest.raises(Throttled):
        reader.next_batch()

    assert len(reader.next_batch().changes) == 1


def test_a_truncated_page_loses_nothing(rig: Rig):
    rig.put(1)
    reader = rig.open()
    rig.fake.fail("truncate", "GetRecords")
    with pytest.raises(Exception, match="GetRecords"):
        reader.next_batch()

    assert len(reader.next_batch().changes) == 1


# --- LATEST ------------------------------------------------------------------------------------------------


def test_latest_publishes_when_the_watch_began_before_anything_is_read(fake: Fake):
    rig = Rig(fake, from_latest=True)
    rig.put(1)
    reader = rig.open(position=Position(LATEST))

    begun = reader.next_batch()
    rig.put(2)

    assert at(begun) == Position(LATEST, at_ms=rig.clock.now) and begun.watermark_ms == rig.clock.now
    assert [change.key for change in drain(reader)] == [b'"k2"']


def test_latest_restarted_before_anything_was_read_loses_nothing_and_skips_the_past(fake: Fake):
    rig = Rig(fake, from_latest=True)
    rig.put(1, created=rig.clock.now / 1000 - 60)
    begun = rig.open(position=Position(LATEST)).next_batch()
    rig.put(2)

    changes = drain(rig.open(position=at(begun)))

    assert [change.key for change in changes] == [b'"k2"']


def test_records_before_the_watch_do_not_move_the_checkpoint(fake: Fake):
    rig = Rig(fake, from_latest=True)
    rig.put(1, created=rig.clock.now / 1000 - 60)
    began = Position(LATEST, at_ms=rig.clock.now)

    batch = rig.open(position=began).next_batch()

    assert at(batch) == began and batch.counts.read == 0


@pytest.mark.parametrize("walks", [1, 5])
def test_a_change_written_while_no_shard_is_listed_is_read(fake: Fake, walks: int):
    """A stream that was just enabled: DescribeStream lists its shard some seconds late."""
    rig = Rig(fake, from_latest=True)
    [shard] = [str(one["id"]) for one in rig.fake.shards("orders")]
    rig.put(0, created=rig.clock.now / 1000 - 60)
    rig.fake.hide_shard("orders", shard, walks=walks)
    for _ in range(walks):
        assert rig.discover().found == []
    rig.put(1)

    [found] = rig.discover().found
    reader = rig.open(shard, at(found))

    assert at(found) == Position(LATEST, at_ms=rig.discoverer._started_ms)
    batch = reader.next_batch()
    assert [change.key for change in batch.changes] == [b'"k1"'], "and not what was written before"
    assert batch.watch_began_ms == rig.discoverer._started_ms


def test_children_of_a_first_shard_that_was_listed_late_and_closed_are_read_too(fake: Fake):
    rig = Rig(fake, from_latest=True)
    [shard] = [str(one["id"]) for one in rig.fake.shards("orders")]
    rig.fake.hide_shard("orders", shard, walks=1)
    rig.discover()
    rig.put(1)
    rig.fake.split("orders", shard)

    found = {shard_of(one.partition): at(one) for one in rig.discover().found}

    assert found == {shard: Position(LATEST, at_ms=rig.discoverer._started_ms)}


# --- records without a creation time -----------------------------------------------------------------------


def undated(rig: Rig, *numbers: int) -> None:
    """Take the creation time from these records of the first shard: the API has it as optional."""
    shard = next(iter(rig.fake._stream("orders").shards.values()))
    for number in numbers:
        shard.records[number] = re.sub(rb'"ApproximateCreationDateTime":[0-9.]+,', b"", shard.records[number])
        assert b"Approximate" not in shard.records[number]


def test_an_undated_record_was_written_before_the_next_one_that_is_dated(rig: Rig):
    created = rig.clock.now // 1000 - 60
    for number in range(4):
        rig.put(number, created=created + number)
    undated(rig, 0, 1, 3)

    batch = rig.open().next_batch()

    assert [one.created_ms for one in batch.changes] == [
        *[(created + 2) * 1000] * 3,
        rig.clock.latest_ms(),
    ]
    assert at(batch).at_ms == (created + 2) * 1000, "its parent's end, for the children"
    assert batch.watermark_ms == (created + 2) * 1000 - WATERMARK_BEHIND_MS


def test_a_page_without_any_date_is_read_and_moves_no_watermark(rig: Rig):
    rig.put(1)
    rig.put(2)
    undated(rig, 0, 1)
    reader = rig.open()

    batch = reader.next_batch()

    assert [one.created_ms for one in batch.changes] == [rig.clock.latest_ms()] * 2
    assert (batch.watermark_ms, at(batch).at_ms, batch.gap) == (0, 0, None)
    assert reader.next_batch().watermark_ms == rig.clock.now - WATERMARK_BEHIND_MS, "at the tip"


def test_an_undated_record_after_the_watch_began_is_not_left_out(fake: Fake):
    rig = Rig(fake, from_latest=True)
    rig.put(1, created=rig.clock.now / 1000 - 60)
    rig.put(2)
    undated(rig, 1)

    batch = rig.open(position=Position(LATEST, at_ms=rig.clock.now)).next_batch()

    assert [change.key for change in batch.changes] == [b'"k2"']


# --- gaps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shows", ["at_iterator", "at_records"])
def test_trimmed_records_are_a_gap_and_reading_goes_on_with_the_oldest_there_are(rig: Rig, shows: str):
    for number in range(10):
        rig.put(number)
    checkpoint = Position(AFTER, str(int(_first_sequence(rig)) + 2), rig.clock.now)
    rig.fake.trim("orders", records=6, shows=shows)
    reader = rig.open(position=checkpoint)

    lost = reader.next_batch()

    assert lost.gap is GapReason.TRIMMED and at(lost).kind is TRIM_HORIZON
    assert [change.key for change in drain(reader)] == [b'"k6"', b'"k7"', b'"k8"', b'"k9"']


def _first_sequence(rig: Rig) -> str:
    return str(next(iter(rig.fake._stream("orders").shards.values())).first_sequence)


def test_a_listed_shard_that_is_not_found_is_a_gap_and_finished(rig: Rig):
    rig.put(1)
    rig.fake.trim("orders", records=1, shows="as_not_found")

    batch = rig.open().next_batch()

    assert batch.gap is GapReason.SHARD_GONE and batch.checkpoint.finished


def test_a_shard_that_vanishes_while_it_is_read_is_a_gap_and_finished(rig: Rig):
    rig.put(1)
    reader = rig.open()
    reader.next_batch()
    rig.fake.vanish("orders", rig.fake.shards("orders")[0]["id"])

    batch = reader.next_batch()

    assert batch.gap is GapReason.SHARD_GONE and batch.checkpoint.finished


@pytest.mark.parametrize("kind", [LATEST, TRIM_HORIZON])
def test_the_horizon_after_23_hours_is_a_gap_because_it_leaves_records_out_silently(
    rig: Rig, kind: PositionKind
):
    rig.put(1)
    reader = rig.open(position=Position(kind, at_ms=rig.clock.now - 24 * HOUR_MS))

    lost = reader.next_batch()

    assert lost.gap is GapReason.OVERDUE and at(lost) == Position(TRIM_HORIZON, at_ms=rig.clock.now)
    assert len(drain(reader)) == 1


def test_a_shard_that_was_read_all_the_time_is_not_overdue_however_old_its_checkpoint(rig: Rig):
    reader = rig.open(position=Position(TRIM_HORIZON, at_ms=rig.clock.now))
    rig.clock.now += 30 * HOUR_MS
    reader._watermark_ms = rig.clock.now - 1000
    assert reader.next_batch().gap is None


# --- clocks ------------------------------------------------------------------------------------------------


def test_creation_times_are_awss_own_whatever_this_host_says(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """AWS's clock (its Date header and its creation times) is ten minutes ahead of ours."""
    created = rig.clock.now // 1000 + 600
    monkeypatch.setattr(time, "time", lambda: 0.0)
    rig.put(1, created=created)

    [change] = drain(rig.open())

    assert change.created_ms == created * 1000


# --- discovery ---------------------------------------------------------------------------------------------


def starts(plan: Discovery) -> dict[str, PositionKind | None]:
    """Where the shards found begin; None: they are never read."""
    return {
        shard_of(found.partition): None if found.checkpoint.finished else at(found).kind
        for found in plan.found
    }


def test_every_page_of_a_listing_is_read(fake: Fake):
    rig = Rig(fake, shards=250)

    assert len(rig.discover().found) == 250
    assert rig.fake.calls("DescribeStream") == 3


class RefusedAfterAPage(threading.Event):
    """A stop on which a listing waits between two pages; the next call of DescribeStream is refused."""

    def __init__(self, control: Control, kind: str) -> None:
        super().__init__()
        self._control, self._kind = control, kind

    def wait(self, timeout: float | None = None) -> bool:
        self._control.fail(self._kind, "DescribeStream")
        return False


@pytest.mark.parametrize("kind", ["throttle", "internal_error", "bad_gateway"])
def test_a_listing_goes_on_after_the_last_page_that_came(fake: Fake, kind: str):
    """It began anew after every refusal: 250 shards at a call a second were never listed."""
    rig = Rig(fake, shards=250)
    rig.discoverer._stop = RefusedAfterAPage(rig.fake, kind)

    turns = [len(rig.discover().found) for _ in range(3)]

    assert turns == [0, 0, 250]
    assert rig.fake.calls("DescribeStream") == 5, "three pages, two refusals"


def test_a_refusal_of_a_turn_s_first_call_is_told_and_keeps_the_pages(fake: Fake):
    rig = Rig(fake, shards=150)
    rig.discoverer._stop = RefusedAfterAPage(rig.fake, "throttle")
    assert rig.discover().found == []
    rig.fake.fail("throttle", "DescribeStream")
    with pytest.raises(Throttled):
        rig.discover()
    assert len(rig.discover().found) == 150
    assert rig.fake.calls("DescribeStream") == 4, "two pages, two refusals"


def test_a_listing_that_takes_longer_than_a_turn_goes_on_in_the_next(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
):
    """Between two turns the lease of who discovers is renewed."""
    monkeypatch.setattr("pipeline.producers.stream.listing.TURN_SECONDS", 0.0)
    rig = Rig(fake, shards=250)

    assert [len(rig.discover().found) for _ in range(3)] == [0, 0, 250]


@pytest.mark.parametrize("changes", ["stale", "another stream"])
def test_pages_that_are_old_or_of_another_stream_are_not_gone_on_with(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, changes: str
):
    rig = Rig(fake, shards=150)
    rig.discoverer._stop = RefusedAfterAPage(rig.fake, "throttle")
    rig.discover()
    rig.discoverer._stop = threading.Event()
    if changes == "stale":
        monkeypatch.setattr("pipeline.producers.stream.listing.KEPT_SECONDS", -1.0)
    else:
        rig.fake.disable_stream("orders")
        rig.label = rig.fake.enable_stream("orders").rpartition("/")[2]
        rig.discoverer._newest_label = rig.label
    before = rig.fake.calls("DescribeStream")

    found = rig.discover().found

    assert rig.fake.calls("DescribeStream") - before == (2 if changes == "stale" else 1)
    assert {one.partition for one in found} == {rig.name(str(s["id"])) for s in rig.fake.shards("orders")}


def test_children_wait_for_their_parents_end_and_take_over_its_watermark(rig: Rig):
    [parent] = starts(rig.discover())
    children = rig.fake.split("orders", parent)
    assert rig.discover().found == []

    rig.finish(parent)
    rig.watermarks[rig.name(parent)] = rig.clock.now - 5000
    plan = rig.discover()

    assert starts(plan) == dict.fromkeys(children, TRIM_HORIZON)
    assert {found.watermark_ms for found in plan.found} == {rig.clock.now - 5000}
    assert plan.unwatched == [rig.name(parent)]


def test_latest_begins_with_the_open_shards_and_never_reads_the_closed_ones(fake: Fake):
    rig = Rig(fake, from_latest=True)
    old = rig.fake.shards("orders")[0]["id"]
    young = rig.fake.split("orders", old, ways=1)[0]

    plan = rig.discover()

    assert starts(plan) == {old: None, young: LATEST}
    assert plan.unwatched == [rig.name(old)]


def test_children_are_read_from_their_beginning_though_the_user_chose_latest(fake: Fake):
    rig = Rig(fake, from_latest=True)
    [parent] = starts(rig.discover())
    children = rig.fake.split("orders", parent)
    rig.finish(parent)

    assert starts(rig.discover()) == dict.fromkeys(children, TRIM_HORIZON)


def test_a_root_listed_late_under_latest_leaves_out_what_was_before_the_watch(fake: Fake):
    rig = Rig(fake, shards=2, from_latest=True)
    late = rig.fake.shards("orders")[1]["id"]
    rig.fake.hide_shard("orders", late)
    rig.discover()
    rig.fake.show_shard("orders", late)

    [found] = rig.discover().found

    assert at(found) == Position(LATEST, at_ms=rig.discoverer._started_ms)


def test_a_child_listed_late_is_found_soon_and_the_parent_holds_the_watermark_until_then(rig: Rig):
    [parent] = starts(rig.discover())
    [child] = rig.fake.split("orders", parent, ways=1)
    rig.fake.hide_shard("orders", child)
    rig.finish(parent)

    assert rig.discover().unwatched == []
    assert rig.discoverer._list_due - time.monotonic() < 5  # soon: not the usual 10 s
    rig.fake.show_shard("orders", child)
    plan = rig.discover()

    assert starts(plan) == {child: TRIM_HORIZON} and plan.unwatched == [rig.name(parent)]


def test_a_childless_shard_holds_the_watermark_for_five_minutes_only(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    [parent] = starts(rig.discover())
    rig.fake.close_shard("orders")
    rig.finish(parent)
    assert rig.discover().unwatched == []

    monkeypatch.setattr(discovery, "CHILDLESS_SECONDS", 0.0)

    assert rig.discover().unwatched == [rig.name(parent)]


def test_a_tombstone_stays_until_it_has_been_missing_from_the_listings_for_a_while(fake: Fake):
    rig = Rig(fake)
    [parent] = starts(rig.discover())
    rig.fake.split("orders", parent, ways=1)
    rig.finish(parent)
    rig.discover()
    rig.fake.hide_shard("orders", parent)

    assert rig.discover().forget == []
    rig.fake.show_shard("orders", parent)
    assert rig.discover().found == []  # back again, and not read twice
    rig.fake.vanish("orders", parent)
    rig.discover()
    rig.discoverer._forget_after_seconds = 0.0

    assert rig.discover().forget == [rig.name(parent)]


def test_the_listing_is_not_asked_for_again_before_it_is_due(rig: Rig):
    rig.discover()
    calls = rig.fake.calls("DescribeStream")
    for _ in range(20):
        rig.producer.discover(rig.tracked, rig.watermarks)

    assert rig.fake.calls("DescribeStream") == calls


def test_a_stream_that_is_enabled_anew_is_drained_a_gap_and_followed_by_the_new_one(rig: Rig):
    [shard] = starts(rig.discover())
    rig.fake.disable_stream("orders")
    rig.fake.enable_stream("orders")

    drained = rig.discover()
    assert [lost.reason for lost in drained.lost] == [GapReason.STREAM_DISABLED]
    assert drained.found == []  # the old stream's shard is not read to its end yet

    rig.finish(shard)
    [found] = rig.discover().found

    assert label_of(found.partition) > rig.label and at(found).kind is TRIM_HORIZON
    assert rig.discover().forget == [rig.name(shard)]
    assert rig.producer.open(found.partition, found.checkpoint).next_batch().idle


def test_a_stream_of_an_equally_named_table_of_another_account_is_not_gone_on_with(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
):
    rig = Rig(fake)
    rig.discover()
    rig.fake.disable_stream("orders")
    other = rig.arn.replace("123456789012", "210987654321").rpartition("/")[0] + "/2999-01-01T00:00:00.000"
    monkeypatch.setattr(StreamClient, "latest_stream", lambda *_: other)
    rig.discover()
    assert rig.discoverer._newest_label == rig.label


def test_a_reader_that_comes_back_to_an_old_stream_finishes_it_before_the_new_one(fake: Fake):
    rig = Rig(fake)
    [shard] = starts(rig.discover())
    rig.put(1)
    rig.fake.disable_stream("orders")
    new = rig.fake.enable_stream("orders")
    again = Discoverer(
        StreamClient(rig.connection),
        new,
        "orders",
        rig.clock.now_ms,
        threading.Event(),
        started_ms=rig.clock.now,
        from_latest=True,
    )

    assert again.discover(rig.tracked, rig.watermarks).found == []
    rig.finish(shard)
    [found] = again.discover(rig.tracked, rig.watermarks).found

    assert label_of(found.partition) == new.rpartition("/")[2]


def test_a_stream_that_stays_disabled_is_said_once(rig: Rig):
    rig.discover()
    rig.fake.disable_stream("orders")
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            rig.discover()
    assert [one["event"] for one in logged if one["log_level"] == "error"] == [
        "the stream is disabled: changes are not seen"
    ]


def test_a_stream_of_another_table_is_refused(rig: Rig):
    rig.discoverer._table = "invoices"
    with pytest.raises(ConfigurationError, match="a stream of table orders, not of invoices"):
        rig.discover()


def test_a_disabled_stream_is_refused_at_the_start(rig: Rig):
    rig.fake.disable_stream("orders")
    with pytest.raises(ConfigurationError, match="disabled"):
        rig.discover()


def test_a_stream_that_does_not_exist_is_refused_at_the_start(rig: Rig):
    rig.discoverer._newest_label = "2020-01-01T00:00:00.000"
    with pytest.raises(NotFound):
        rig.discover()


def test_an_arn_that_is_not_a_streams_is_refused(rig: Rig):
    with pytest.raises(ConfigurationError, match="not a stream's ARN"):
        Discoverer(
            StreamClient(rig.connection),
            "arn:aws:dynamodb:us-east-1:1:table/orders",
            "orders",
            rig.clock.now_ms,
            threading.Event(),
            started_ms=0,
            from_latest=True,
        )


def test_a_closed_shard_that_stays_trimmed_is_finished_after_some_tries(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """Real AWS never refuses TRIM_HORIZON so; were it to, the lineage must not stand still for ever."""
    rig.put(1)
    shard = rig.fake.close_shard("orders")
    rig.discover()
    monkeypatch.setattr(producer, "TRIMMED_TRIES", 2)
    reader = rig.open(shard)
    monkeypatch.setattr("tests.fake.streams.Stream._start", lambda *_: -1)

    batches = [reader.next_batch() for _ in range(3)]

    assert [batch.gap for batch in batches] == [GapReason.TRIMMED, None, None]
    assert batches[-1].checkpoint.finished

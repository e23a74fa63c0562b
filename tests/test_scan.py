"""Scans of one segment: pages, their odd cases, and both tables joined, against the fake and moto."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import msgspec
import pytest

from pipeline.aws import Connection, ScanPage, SideConfig, TableScanner
from pipeline.core.canonical import Digester, KeySchema, KeyType
from pipeline.core.comparing.join import Join, JoinCounts, Showed, Suspect
from pipeline.core.comparing.keys import KeyReader
from pipeline.core.comparing.pairs import PairComparer
from pipeline.core.model import Side
from pipeline.errors import AwsError, MalformedResponse, NotFound, Throttled
from pipeline.producers.scan.segment import SegmentPair, SegmentReader
from tests.fake import Fake
from tests.fake.faults import Kind

SCHEMA = KeySchema("pk", "S")


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as fake:
        for table in ("source", "target"):
            fake.control.create_table(table)
        fake.world.scans.page_bytes = 2_000
        yield fake


def connect(url: str) -> Connection:
    return Connection(SideConfig("source", region="us-east-1", endpoint_url=url))


def scanner(fake: Fake, table: str = "source", schema: KeySchema = SCHEMA) -> TableScanner:
    return TableScanner(connect(fake.url), table, KeyReader(schema))


def pages(scan: TableScanner, segment: int = 0, total: int = 1) -> Iterator[ScanPage]:
    after = None
    while True:
        page = scan.page(segment, total, after)
        yield page
        after = page.after
        if after is None:
            return


def test_every_item_is_read_once_over_segments_and_pages(fake: Fake) -> None:
    fake.control.fill("source", 200)
    scan = scanner(fake)
    found: list[bytes] = []
    for segment in range(7):
        for page in pages(scan, segment, 7):
            assert [SCHEMA.compact_of(msgspec.json.decode(item)) for item in page.items] == page.keys
            assert page.units > 0
            found += page.keys
    assert len(found) == len(set(found)) == 200
    assert fake.calls["Scan"] > 14


@pytest.mark.parametrize(
    ("partition", "sort"), [("S", None), ("N", None), ("B", None), ("B", "N"), ("S", "B")]
)
def test_keys_of_every_type_are_read_and_resumed_from(
    fake: Fake, partition: KeyType, sort: KeyType | None
) -> None:
    name = "sk" if sort else None
    fake.control.create_table("t", partition_type=partition, sort_key=name, sort_type=sort or "S")
    fake.control.fill("t", 50)
    schema = KeySchema("pk", partition, name, sort)
    found = [key for page in pages(scanner(fake, "t", schema)) for key in page.keys]
    assert len(set(found)) == len(found) == 50


def test_an_empty_page_is_not_the_end(fake: Fake) -> None:
    fake.control.fill("source", 30)
    fake.world.scans.empty_pages = 3
    read = list(pages(scanner(fake)))
    assert [len(page.keys) for page in read[:3]] == [0, 0, 0]
    assert sum(len(page.keys) for page in read) == 30


def test_an_empty_segment_is_one_empty_page(fake: Fake) -> None:
    [page] = pages(scanner(fake))
    assert (page.keys, page.items, page.after) == ([], [], None)


def test_a_table_that_is_not_there_is_named(fake: Fake) -> None:
    with pytest.raises(NotFound):
        scanner(fake, "nowhere").page(0, 1)


@pytest.mark.parametrize("fault", [Kind.TRUNCATE, Kind.EMPTY, Kind.BAD_CRC])
def test_a_broken_page_is_an_error_and_the_next_call_reads_it(fake: Fake, fault: Kind) -> None:
    fake.control.fill("source", 30)
    reader = SegmentReader(scanner(fake), 0, 1)
    reader.next_page()
    fake.faults.add(fault, "Scan")
    with pytest.raises(MalformedResponse):
        reader.next_page()
    fake.faults.add(Kind.THROTTLE, "Scan")
    with pytest.raises(Throttled):
        reader.next_page()
    found = 0
    while not reader.finished:
        found += len(reader.next_page().keys)
    assert 0 < found < 30


def body(**fields: Any) -> bytes:
    whole = {
        "Items": [{"pk": {"S": "a"}}],
        "Count": 1,
        "ScannedCount": 1,
        "ConsumedCapacity": {"CapacityUnits": 0.5},
    }
    return msgspec.json.encode({k: v for k, v in (whole | fields).items() if v is not None})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (body(Items=None), "Items"),
        (body(Items=None, Count=0), "Items"),
        (body(Items=7), "keys that do not fit"),
        (body(Count=None), "Count"),
        (body(Count=2), "another number of items"),
        (body(Items=[{"pk": {"S": "a"}}] * 2, Count=2), "an item twice"),
        (body(Items=[{"sk": {"S": "a"}}]), "keys that do not fit"),
        (body(Items=[{"pk": {"N": "1"}}]), "keys that do not fit"),
        (body(LastEvaluatedKey={"pk": {"S": "0"}}), "the position that it was asked for"),
        (body(LastEvaluatedKey={"sk": {"S": "0"}}), "keys that do not fit"),
    ],
)
def test_an_odd_page_is_an_error(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, answer: bytes, said: str
) -> None:
    monkeypatch.setitem(fake.world.operations, "Scan", lambda _: answer)
    with pytest.raises(MalformedResponse, match=said):
        scanner(fake).page(0, 1, b'{"pk":{"S":"0"}}')


def test_moto_is_scanned_by_segments(moto_url: str) -> None:
    name = f"t-{uuid.uuid4().hex[:8]}"
    client = boto3.client("dynamodb", endpoint_url=moto_url)
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for number in range(40):
        client.put_item(TableName=name, Item={"pk": {"S": f"key-{number}"}, "n": {"N": str(number)}})
    scan = TableScanner(connect(moto_url), name, KeyReader(SCHEMA))
    found = [key for segment in range(4) for page in pages(scan, segment, 4) for key in page.keys]
    assert sorted(found) == sorted(b'"key-%d"' % number for number in range(40))


# Both tables


Compare = Callable[..., tuple[list[Suspect], JoinCounts]]


@pytest.fixture
def compare(fake: Fake) -> Compare:
    """All segments of both tables: the suspects, and the counts of all segments together."""
    scanners = {Side.SOURCE: scanner(fake, "source"), Side.TARGET: scanner(fake, "target")}

    def run(total: int = 3, most: int = 1_000_000) -> tuple[list[Suspect], JoinCounts]:
        suspects: list[Suspect] = []
        sums = JoinCounts()
        for segment in range(total):
            readers = {side: SegmentReader(scan, segment, total) for side, scan in scanners.items()}
            pair = SegmentPair(readers, Join(PairComparer(Digester()), most))
            while not pair.finished:
                try:
                    suspects += pair.step()
                except AwsError:
                    continue
            assert pair.join.counts.balanced
            for name in JoinCounts.__struct_fields__:
                setattr(sums, name, getattr(sums, name) + getattr(pair.join.counts, name))
        return suspects, sums

    return run


def test_planted_differences_are_suspects_and_nothing_else_is(fake: Fake, compare: Compare) -> None:
    fake.control.fill("source", 300, mirror="target")
    fake.control.delete("target", {"pk": {"S": "item-00000007"}})
    fake.control.fill("target", 1, start=500)
    fake.control.put("target", {"pk": {"S": "item-00000011"}, "number": {"N": "12"}})
    suspects, counts = compare()
    assert {(suspect.key, suspect.showed) for suspect in suspects} == {
        (b'"item-00000007"', Showed.SOURCE),
        (b'"item-00000500"', Showed.TARGET),
        (b'"item-00000011"', Showed.BOTH),
    }
    assert (counts.equal, counts.source_items, counts.target_items) == (298, 300, 300)


def test_failed_calls_in_between_change_no_count(fake: Fake, compare: Compare) -> None:
    fake.control.fill("source", 300, mirror="target")
    for kind in (Kind.THROTTLE, Kind.TRUNCATE, Kind.HANG_UP, Kind.INTERNAL_ERROR):
        fake.faults.add(kind, "Scan", calls=2)
    suspects, counts = compare()
    assert (suspects, counts.equal) == ([], 300)


def test_keys_in_other_segments_of_the_other_table_are_suspects_from_both(
    fake: Fake, compare: Compare
) -> None:
    fake.control.fill("source", 100, mirror="target")
    fake.world.scans.salts["target"] = "other"
    suspects, counts = compare(total=5)
    assert counts.source_items == counts.target_items == 100
    assert 0 < counts.equal < 100
    assert counts.source_only == counts.target_only == 100 - counts.equal
    shown = {side: {one.key for one in suspects if one.showed is side} for side in Showed}
    assert shown[Showed.SOURCE] == shown[Showed.TARGET]


def test_tables_that_share_nothing_and_empty_ones_are_counted_exactly(fake: Fake, compare: Compare) -> None:
    fake.control.fill("source", 150)
    suspects, counts = compare()
    assert {one.showed for one in suspects} == {Showed.SOURCE}
    assert (len(suspects), counts.source_only, counts.target_items) == (150, 150, 0)
    fake.control.fill("target", 150, start=1000)
    suspects, counts = compare(most=3_000)
    assert (len(suspects), counts.source_only, counts.target_only, counts.equal) == (300, 150, 150, 0)

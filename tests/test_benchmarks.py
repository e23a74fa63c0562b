"""The benchmarks' stub is a fair stand-in: what it answers is what AWS would, and consistent with itself."""

import shutil
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import boto3
import pytest

from benchmarks import comparers, picture, results, stub
from benchmarks.measure import Spread
from benchmarks.subjects import SCHEMA, HostClock, shard_reader
from pipeline.aws import Connection, SideConfig, TableReader
from pipeline.core.canonical import Digester

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="the stub needs a C compiler")

REGION = "us-east-1"


@pytest.fixture(params=[400, 2000])
def server(request: pytest.FixtureRequest) -> Iterator[stub.Stub]:
    with stub.serve(shards=120, records=1500, item_bytes=request.param) as running:
        yield running


def streams(server: stub.Stub) -> Any:
    return boto3.client("dynamodbstreams", endpoint_url=server.url, region_name=REGION)


def test_describe_stream_lists_every_shard_over_pages(server):
    client = streams(server)
    first = client.describe_stream(StreamArn=stub.STREAM_ARN)["StreamDescription"]
    rest = client.describe_stream(
        StreamArn=stub.STREAM_ARN, ExclusiveStartShardId=first["LastEvaluatedShardId"]
    )["StreamDescription"]
    listed = [shard["ShardId"] for shard in first["Shards"] + rest["Shards"]]
    assert listed == [stub.shard_id(number) for number in range(120)]
    assert "LastEvaluatedShardId" not in rest


def test_a_shard_is_read_in_order_and_resumed_after_a_sequence_number(server):
    client, shard = streams(server), stub.shard_id(7)

    def read(**start: str) -> list[dict[str, Any]]:
        at = client.get_shard_iterator(StreamArn=stub.STREAM_ARN, ShardId=shard, **start)["ShardIterator"]
        first = client.get_records(ShardIterator=at)
        return first["Records"] + client.get_records(ShardIterator=first["NextShardIterator"])["Records"]

    records = read(ShardIteratorType="TRIM_HORIZON")
    keys = [record["dynamodb"]["Keys"]["pk"]["S"] for record in records]
    assert keys == [stub.key_of(7, number) for number in range(1500)]
    after = records[41]["dynamodb"]["SequenceNumber"]
    resumed = read(ShardIteratorType="AFTER_SEQUENCE_NUMBER", SequenceNumber=after)
    assert [record["dynamodb"]["Keys"]["pk"]["S"] for record in resumed] == keys[42:]


def test_a_read_shows_exactly_the_keys_asked_for_as_the_stream_left_them(server):
    changes = shard_reader(server.url, 100, HostClock()).next_batch().changes[:100]
    connection = Connection(SideConfig("target", region=REGION, endpoint_url=server.url))
    table = TableReader(connection, stub.TABLE, SCHEMA)
    answer = table.batch_get(
        [change.key for change in changes], lambda _key, item: Digester().digest_item(item)
    )
    assert answer.items == {change.key: change.after for change in changes}
    assert not answer.absent and not answer.unprocessed


def test_no_record_is_there_before_the_gate_is_opened():
    with stub.serve(records=10, gated=True) as server:
        reader = shard_reader(server.url, 100, HostClock())
        assert reader.next_batch().changes == []
        server.begin()
        assert len(reader.next_batch().changes) == 10


def test_the_picture_is_well_formed_and_names_every_required_row():
    cost = Spread(1.0, 2.0, 3.0)
    row = results.Row("reader <400 B>", "µs", cost, cost, Spread(10, 20, 30), 18)
    curve = {1: {"us": 2.0}, 1000: {"us": 2.2}}
    drawn = picture.draw(results.Results("a machine", False, [row], curve, curve))
    assert "reader <400 B>" in "".join(ElementTree.fromstring(drawn).itertext())


def scanned(segment: int, **options: Any) -> list[dict[str, Any]]:
    with stub.serve(**options) as server:
        client = boto3.client("dynamodb", endpoint_url=server.url, region_name=REGION)
        pages = client.get_paginator("scan").paginate(TableName=stub.TABLE, Segment=segment, TotalSegments=9)
        return [item for page in pages for item in page["Items"]]


def test_a_scan_can_lack_items_lie_apart_and_be_one_item_collection():
    numbers = [number for number in range(7_000) if number % 1_000]
    apart = scanned(2, scan_items=7_000, lacks=1_000, apart=3)
    assert [item["pk"]["S"] for item in apart] == [stub.key_of(5, number) for number in numbers]
    collection = scanned(2, scan_items=7_000, collection=1)
    assert {item["pk"]["S"] for item in collection} == {"one"}
    assert [item["sk"]["S"] for item in collection] == [stub.key_of(2, number) for number in range(7_000)]


def test_what_follows_tells_what_was_measured_from_what_was_not():
    lines = comparers.extrapolated(us=4.8, item_bytes=400)
    assert [line.partition(":")[0] for line in lines][:2] == ["measured", "extrapolated"]
    # 0.5e9 × 4.8 µs on 16 cores; 2 × 0.5e9 × 400 B at 8,192 B a unit, 0.125 dollars a million.
    assert "2.5 min" in lines[1] and "6.10 dollars" in lines[1]


def test_a_scan_shows_every_item_of_a_segment_in_both_tables_once_and_equal():
    with stub.serve() as server:
        client = boto3.client("dynamodb", endpoint_url=server.url, region_name=REGION)
        shown = []
        for table in (stub.TABLE, stub.REORDERED_TABLE):
            pages = client.get_paginator("scan").paginate(TableName=table, Segment=3, TotalSegments=4)
            shown.append({item["pk"]["S"]: item for page in pages for item in page["Items"]})
        assert shown[0] == shown[1]
        assert set(shown[0]) == {stub.key_of(3, number) for number in range(stub.SCAN_ITEMS)}
        orders = [list(items[stub.key_of(3, 0)]) for items in shown]
        assert orders[0] != orders[1]

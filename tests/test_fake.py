"""The fake itself, asked by a plain boto3: a test that trusts it needs to know that it behaves like AWS."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.fake import Fake, FakeProcess


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as fake:
        yield fake


def client(url: str, service: str) -> Any:
    retries = {"mode": "standard", "total_max_attempts": 1}
    return boto3.client(service, "us-east-1", endpoint_url=url, config=Config(retries=retries))


@pytest.fixture
def dynamodb(fake: Fake) -> Any:
    return client(fake.url, "dynamodb")


@pytest.fixture
def streams(fake: Fake) -> Any:
    return client(fake.url, "dynamodbstreams")


def read(streams: Any, arn: str, shard: str, kind: str = "TRIM_HORIZON", **at: str) -> list[Any]:
    """Every record of a shard from there to its present end."""
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType=kind, **at)
    page = streams.get_records(ShardIterator=iterator["ShardIterator"])
    records = page["Records"]
    while page["Records"] and "NextShardIterator" in page:
        page = streams.get_records(ShardIterator=page["NextShardIterator"])
        records += page["Records"]
    return records


def test_a_table_made_written_and_read_by_boto3(fake: Fake, dynamodb: Any) -> None:
    dynamodb.create_table(
        TableName="t",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "sk", "AttributeType": "N"},
            {"AttributeName": "pk", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    key = {"pk": {"S": "a"}, "sk": {"N": "1.0"}}
    dynamodb.put_item(TableName="t", Item={**key, "v": {"N": "1E2"}})
    found = dynamodb.get_item(TableName="t", Key={"pk": {"S": "a"}, "sk": {"N": "1"}})
    assert found["Item"] == {"pk": {"S": "a"}, "sk": {"N": "1"}, "v": {"N": "100"}}
    dynamodb.delete_item(TableName="t", Key=key)
    assert "Item" not in dynamodb.get_item(TableName="t", Key=key)


@pytest.mark.parametrize(
    "item",
    [
        {"v": {"S": "no key"}},
        {"pk": {"N": "1"}},
        {"pk": {"S": ""}},
        {"pk": {"S": "a"}, "v": {"N": "1" * 39}},
        {"pk": {"S": "a"}, "v": {"N": "NaN"}},
        {"pk": {"S": "a"}, "v": {"SS": []}},
        {"pk": {"S": "a"}, "v": {"S": "x" * 400 * 1024}},
    ],
    ids=["no key", "key type", "empty key", "39 digits", "NaN", "empty set", "over 400 KB"],
)
def test_an_item_that_dynamodb_refuses_is_refused(fake: Fake, dynamodb: Any, item: Any) -> None:
    fake.control.create_table("t")
    with pytest.raises(ClientError, match="ValidationException"):
        dynamodb.put_item(TableName="t", Item=item)


def test_two_spellings_of_a_number_key_are_duplicates(fake: Fake, dynamodb: Any) -> None:
    fake.control.create_table("t", partition_type="N")
    with pytest.raises(ClientError, match="duplicates"):
        dynamodb.batch_get_item(RequestItems={"t": {"Keys": [{"pk": {"N": "1"}}, {"pk": {"N": "1.0"}}]}})


def test_batch_writes_can_be_left_unprocessed(fake: Fake, dynamodb: Any) -> None:
    fake.control.create_table("t")
    puts = [{"PutRequest": {"Item": {"pk": {"S": str(n)}}}} for n in range(5)]
    fake.control.fail("unprocessed", "BatchWriteItem", detail=2)
    left = dynamodb.batch_write_item(RequestItems={"t": puts})["UnprocessedItems"]
    assert left == {"t": puts[3:]}
    assert dynamodb.batch_write_item(RequestItems=left)["UnprocessedItems"] == {}
    assert dynamodb.describe_table(TableName="t")["Table"]["ItemCount"] == 5


@pytest.mark.parametrize("view", ["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"])
def test_a_stream_shows_what_its_view_says(fake: Fake, streams: Any, view: str) -> None:
    arn = fake.control.create_table("t", view=view) or ""
    for text in ("1", "2", "2"):
        fake.control.put("t", {"pk": {"S": "a"}, "v": {"S": text}})
    fake.control.delete("t", {"pk": {"S": "a"}})
    records = read(streams, arn, fake.control.shards("t")[0]["id"])
    # The third write changed nothing and left no record.
    assert [each["eventName"] for each in records] == ["INSERT", "MODIFY", "REMOVE"]
    modified = records[1]["dynamodb"]
    assert ("NewImage" in modified, "OldImage" in modified) == ("NEW" in view, "OLD" in view)


def test_creation_times_are_whole_seconds(fake: Fake, streams: Any) -> None:
    arn = fake.control.create_table("t", view="KEYS_ONLY") or ""
    fake.control.fill("t", 1)
    [record] = read(streams, arn, fake.control.shards("t")[0]["id"])
    assert record["dynamodb"]["ApproximateCreationDateTime"].microsecond == 0


def test_sequence_numbers_grow_along_the_lineage_and_gain_digits(fake: Fake, streams: Any) -> None:
    arn = fake.control.create_table("t", view="KEYS_ONLY") or ""
    fake.control.fill("t", 10)
    [child] = fake.control.split("t", ways=1)
    fake.control.fill("t", 10, start=10)
    sequences = [
        each["dynamodb"]["SequenceNumber"]
        for shard in (fake.control.shards("t")[0]["id"], child)
        for each in read(streams, arn, shard)
    ]
    assert len(sequences) == 20
    assert sequences == sorted(sequences, key=int) != sorted(sequences)
    assert {len(each) for each in sequences} == {21, 22, 23}


def test_the_changes_of_one_key_stay_in_one_lineage_over_a_split(fake: Fake, streams: Any) -> None:
    arn = fake.control.create_table("t", view="KEYS_ONLY", shards=3) or ""
    fake.control.fill("t", 30)
    parent = fake.control.shards("t")[0]
    children = fake.control.split("t", parent["id"])
    fake.control.fill("t", 30, size=7)

    def keys_in(shards: list[str]) -> set[str]:
        return {each["dynamodb"]["Keys"]["pk"]["S"] for s in shards for each in read(streams, arn, s)}

    assert keys_in([parent["id"]]) == keys_in(children) != set()


def test_a_write_to_a_closed_leaf_opens_a_child(fake: Fake) -> None:
    fake.control.create_table("t", view="KEYS_ONLY")
    closed = fake.control.close_shard("t")
    fake.control.fill("t", 1)
    assert [each["parent"] for each in fake.control.shards("t")] == [None, closed]


def test_a_hidden_child_is_listed_after_the_ordered_walks(fake: Fake, streams: Any) -> None:
    arn = fake.control.create_table("t", view="KEYS_ONLY") or ""
    [child] = fake.control.split("t", ways=1)
    fake.control.hide_shard("t", child, walks=2)
    seen = [len(streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]) for _ in range(3)]
    assert seen == [1, 1, 2]


def test_trimmed_records_are_silently_left_out_of_trim_horizon(fake: Fake, streams: Any) -> None:
    arn = fake.control.create_table("t", view="KEYS_ONLY") or ""
    fake.control.fill("t", 8)
    shard = fake.control.shards("t")[0]["id"]
    fake.control.trim("t", records=5)
    assert len(read(streams, arn, shard)) == 3


@pytest.mark.parametrize("stage", ["at_iterator", "at_records"])
def test_a_trim_shows_where_it_was_told_to(fake: Fake, streams: Any, stage: str) -> None:
    arn = fake.control.create_table("t", view="KEYS_ONLY") or ""
    fake.control.fill("t", 8)
    shard = fake.control.shards("t")[0]["id"]
    at = {"SequenceNumber": read(streams, arn, shard)[0]["dynamodb"]["SequenceNumber"]}
    fake.control.trim("t", records=5, shows=stage)
    refused_at = {"at_iterator": "GetShardIterator", "at_records": "GetRecords"}[stage]
    with pytest.raises(ClientError, match=rf"TrimmedDataAccessException.*{refused_at}"):
        read(streams, arn, shard, "AFTER_SEQUENCE_NUMBER", **at)


def test_a_vanished_shard_is_neither_listed_nor_found(fake: Fake, streams: Any) -> None:
    arn = fake.control.create_table("t", view="KEYS_ONLY", shards=2) or ""
    gone = fake.control.shards("t")[0]["id"]
    fake.control.vanish("t", gone)
    assert len(streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]) == 1
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        read(streams, arn, gone)


def test_a_disabled_stream_stays_readable_beside_the_new_one(fake: Fake, streams: Any) -> None:
    old = fake.control.create_table("t", view="KEYS_ONLY") or ""
    fake.control.fill("t", 2)
    shard = fake.control.shards("t")[0]["id"]
    fake.control.disable_stream("t")
    new = fake.control.enable_stream("t")
    fake.control.fill("t", 2, start=2)
    assert new != old
    assert streams.describe_stream(StreamArn=old)["StreamDescription"]["StreamStatus"] == "DISABLED"
    assert len(read(streams, old, shard)) == 2


def test_a_page_holds_a_thousand_records_or_a_megabyte(fake: Fake, streams: Any) -> None:
    arn = fake.control.create_table("t", view="NEW_IMAGE", shards=2) or ""
    small, large = [each["id"] for each in fake.control.shards("t")]
    fake.control.append("t", small, 1500)
    fake.control.append("t", large, 20, size=100_000)
    lengths = []
    for shard in (small, large):
        iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
        lengths.append(len(streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]))
    assert lengths == [1000, 9]


def test_ten_thousand_changes_spread_over_a_hundred_shards(fake: Fake) -> None:
    fake.control.create_table("target")
    fake.control.create_table("source", view="NEW_AND_OLD_IMAGES", shards=100)
    fake.control.fill("source", 10_000, mirror="target")
    records = [each["records"] for each in fake.control.shards("source")]
    assert (len(records), sum(records)) == (100, 10_000)
    assert min(records) > 0
    assert fake.world.tables["source"].items == fake.world.tables["target"].items


def test_a_rate_limit_throttles_what_exceeds_it(fake: Fake, dynamodb: Any) -> None:
    fake.control.create_table("t")
    fake.control.limit_rate("DescribeTable", 2)
    outcomes = []
    for _ in range(5):
        try:
            dynamodb.describe_table(TableName="t")
            outcomes.append("done")
        except ClientError as error:
            outcomes.append(error.response["Error"]["Code"])
    assert outcomes[:2] == ["done", "done"]
    assert "ProvisionedThroughputExceededException" in outcomes


def test_the_process_form_is_steered_by_name_and_served_over_http() -> None:
    with FakeProcess() as fake:
        fake.steer("create_table", name="t", view="KEYS_ONLY", shards=3)
        fake.steer("fill", table="t", count=30)
        assert sum(each["records"] for each in fake.steer("shards", table="t")) == 30
        assert client(fake.url, "dynamodb").describe_table(TableName="t")["Table"]["ItemCount"] == 30
        with pytest.raises(ValueError, match="no such verb"):
            fake.steer("__init__")


def test_the_process_form_dies_with_its_parent() -> None:
    program = "from tests.fake import FakeProcess; print(FakeProcess().pid, flush=True); input()"
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert parent.stdin is not None and parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait(120)
    parent.stdin.close()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < deadline, "the fake outlived its parent"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    """Whether the process is there and not a zombie that nobody has waited for."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

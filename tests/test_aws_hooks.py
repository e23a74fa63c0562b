"""botocore's undocumented hooks: a new botocore that changes them fails here, and is survived meanwhile."""

from collections.abc import Iterator
from typing import Any

import boto3
import msgspec
import pytest
from botocore.config import Config

from pipeline import aws_decode
from pipeline.aws import Connection, SideConfig, StreamClient, TableReader
from pipeline.core.canonical import KeySchema
from pipeline.errors import MalformedResponse
from tests.fake import Fake

IMAGE = {"pk": {"B": "AP8="}, "b": {"BS": ["//8=", "AAE="]}, "m": {"M": {"x": {"NULL": True}}}}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with Fake() as fake:
        fake.control.create_table("t", partition_type="B", view="NEW_AND_OLD_IMAGES")
        fake.control.put("t", IMAGE, created=1_700_000_000)
        yield fake


def client(fake: Fake, service: str) -> Any:
    settings = Config(parameter_validation=False, retries={"mode": "standard", "total_max_attempts": 1})
    return boto3.client(service, "us-east-1", endpoint_url=fake.url, config=settings)


def test_before_parse_hands_over_the_body_and_takes_the_result(fake: Fake) -> None:
    dynamodb = client(fake, "dynamodb")
    aws_decode.install(dynamodb.meta.events, "dynamodb")
    parsed = dynamodb.describe_table(TableName="t")
    assert parsed[aws_decode.DECODED].table.table_name == "t"
    assert "Table" not in parsed, "botocore's parser was spared the body"
    assert parsed["ResponseMetadata"]["HTTPHeaders"]["date"], "the metadata survive"


def test_errors_keep_botocores_own_path(fake: Fake) -> None:
    dynamodb = client(fake, "dynamodb")
    aws_decode.install(dynamodb.meta.events, "dynamodb")
    with pytest.raises(dynamodb.exceptions.ResourceNotFoundException):
        dynamodb.describe_table(TableName="nowhere")


def test_the_request_body_is_sent_byte_for_byte(fake: Fake) -> None:
    dynamodb = client(fake, "dynamodb")
    aws_decode.install(dynamodb.meta.events, "dynamodb")
    body = b'{"RequestItems":{"t":{"Keys":[{"pk":{"B":"AP8="}}] }}}'
    dynamodb.batch_get_item(RequestItems={"t": {}}, WireBody=body)
    assert fake.received["BatchGetItem"] == body


def test_without_the_request_hooks_the_read_fails_instead_of_finding_nothing(fake: Fake) -> None:
    with pytest.raises(Exception, match="WireBody"):
        client(fake, "dynamodb").batch_get_item(RequestItems={"t": {"Keys": []}}, WireBody=b"{}")


@pytest.fixture
def unhooked(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """A connection to a botocore that no longer emits `before-parse`."""
    install = aws_decode.install

    class Deaf:
        def __init__(self, emitter: Any) -> None:
            self._emitter = emitter

        def register(self, event_name: str, handler: Any) -> None:
            if not event_name.startswith("before-parse"):
                self._emitter.register(event_name, handler)

    monkeypatch.setattr(aws_decode, "install", lambda emitter, service: install(Deaf(emitter), service))
    return Connection(SideConfig("source", region="us-east-1", endpoint_url=fake.url))


def whole(_key: bytes, item: dict[str, Any]) -> dict[str, Any]:
    return item


def test_without_before_parse_items_and_records_are_the_same(unhooked: Connection) -> None:
    found = TableReader(unhooked, "t", KeySchema("pk", "B")).batch_get([b'"AP8="', b'"AA=="'], whole)
    assert found.items == {b'"AP8="': IMAGE}
    assert found.absent == {b'"AA=="'}
    streams = StreamClient(unhooked)
    arn = streams.latest_stream("t") or ""
    [record] = streams.get_records(
        streams.shard_iterator(arn, streams.describe_stream(arn)[1][0].id, "TRIM_HORIZON")
    ).records
    assert record.new_image is not None
    assert msgspec.json.decode(record.new_image) == IMAGE
    assert (record.created_ms, record.old_image) == (1_700_000_000_000, None)


@pytest.mark.parametrize("fault", ["truncate", "empty"])
def test_without_before_parse_a_truncated_answer_is_still_an_error(
    fake: Fake, unhooked: Connection, fault: str
) -> None:
    fake.control.fail(fault, "BatchGetItem")
    with pytest.raises(MalformedResponse):
        TableReader(unhooked, "t", KeySchema("pk", "B")).batch_get([b'"AP8="'], whole)

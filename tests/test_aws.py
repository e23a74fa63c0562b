"""The AWS edge against the fake: what is read, what is refused, and how each failure is named."""

import base64
import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import msgspec
import pytest
import structlog

from pipeline.aws import (
    Connection,
    RateLimiter,
    SideConfig,
    Silent,
    StreamClient,
    TableReader,
    describe_table,
)
from pipeline.aws.operations import DESCRIBE_TABLE
from pipeline.core.canonical import Item, KeySchema, KeyType
from pipeline.core.model import ChangeType, StreamView
from pipeline.errors import (
    AccessDenied,
    AwsError,
    AwsUnavailable,
    ConfigurationError,
    CredentialsExpired,
    IteratorExpired,
    MalformedResponse,
    MonitorError,
    NotFound,
    NotServed,
    Throttled,
    Trimmed,
)
from tests.fake import Fake
from tests.odd_answers import http
from tests.servers import eventually

Connect = Callable[..., Connection]


@pytest.fixture(autouse=True)
def ambient(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Credentials of nobody, and no configuration of whoever runs the tests."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFIRST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as fake:
        yield fake


@pytest.fixture
def connect(fake: Fake) -> Connect:
    def connect(observer: Any = None, clock: Any = None, **settings: Any) -> Connection:
        config = SideConfig("source", **{"region": "us-east-1", "endpoint_url": fake.url, **settings})
        return Connection(config, observer, **({"clock": clock} if clock else {}))

    return connect


@pytest.fixture
def reader(fake: Fake, connect: Connect) -> TableReader:
    """Of table "t", string key "pk", with ten items."""
    fake.control.create_table("t", view="NEW_AND_OLD_IMAGES")
    fake.control.fill("t", 10)
    return TableReader(connect(), "t", KeySchema("pk", "S"))


@pytest.fixture
def streams(connect: Connect) -> StreamClient:
    return StreamClient(connect())


def keys(*numbers: int) -> list[bytes]:
    return [b'"item-%08d"' % number for number in numbers]


def only_shard(streams: StreamClient, arn: str) -> str:
    _, [shard], _ = streams.describe_stream(arn)
    return shard.id


class Recorder:
    """An Observer that remembers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str | None]] = []
        self.units = 0.0

    def request(self, operation: str, seconds: float, code: str | None) -> None:
        assert seconds >= 0
        self.requests.append((operation, code))

    def consumed(self, operation: str, units: float) -> None:
        self.units += units


# Tables


def test_a_table_is_described_with_its_stream_and_ttl(fake: Fake, connect: Connect) -> None:
    arn = fake.control.create_table(
        "t", sort_key="sk", sort_type="N", partition_type="B", view="NEW_IMAGE", ttl="gone_at"
    )
    info = describe_table(connect(), "t")
    assert info.schema == KeySchema("pk", "B", "sk", "N")
    assert (info.account, info.region, info.stream_arn) == ("123456789012", "us-east-1", arn)
    assert (info.stream_enabled, info.view, info.ttl_attribute) == (True, StreamView.NEW_IMAGE, "gone_at")


def test_a_disabled_stream_is_described_as_disabled_but_keeps_its_arn(fake: Fake, connect: Connect) -> None:
    arn = fake.control.create_table("t", view="NEW_IMAGE")
    fake.control.disable_stream("t")
    info = describe_table(connect(), "t")
    assert (info.stream_arn, info.stream_enabled, info.view) == (arn, False, None)


def whole(_key: bytes, item: Item) -> Item:
    return item


@pytest.mark.parametrize(
    ("kind", "value", "compact"),
    [
        ("S", 'ключ "1"\n', None),
        ("N", "-12.50", b'"-12.5"'),
        ("N", "1E3", b'"1000"'),
        ("B", base64.b64encode(b"\x00\xff").decode(), None),
    ],
)
def test_items_are_found_by_keys_of_every_type(
    fake: Fake, connect: Connect, kind: KeyType, value: str, compact: bytes | None
) -> None:
    fake.control.create_table("t", partition_type=kind)
    fake.control.put("t", {"pk": {kind: value}, "v": {"S": "x"}})
    reader = TableReader(connect(), "t", KeySchema("pk", kind))
    key = reader.schema.compact_of({"pk": {kind: value}})
    assert compact in (None, key)
    assert reader.batch_get([key], whole).items[key]["v"] == {"S": "x"}


def test_items_are_found_by_partition_and_sort_key(fake: Fake, connect: Connect) -> None:
    fake.control.create_table("t", sort_key="sk", sort_type="N")
    fake.control.fill("t", 3)
    reader = TableReader(connect(), "t", KeySchema("pk", "S", "sk", "N"))
    found = reader.batch_get([b'"item-00000001","1"', b'"item-00000001","2"'], whole)
    assert (set(found.items), found.absent) == ({b'"item-00000001","1"'}, {b'"item-00000001","2"'})


def test_a_table_named_by_its_arn_may_be_answered_about_by_arn_or_by_name(
    fake: Fake, connect: Connect
) -> None:
    fake.control.create_table("t")
    fake.control.fill("t", 1)
    arn = describe_table(connect(), "t").arn
    info = describe_table(connect(), arn)
    assert (info.asked, info.name) == (arn, "t")
    reader = TableReader(connect(), info.asked, info.schema)
    assert len(reader.batch_get(keys(0), whole).items) == 1
    assert arn.encode() in fake.received["BatchGetItem"]
    body = '{"Responses":{"t":[{"pk":{"S":"item-00000000"}}]},"UnprocessedKeys":{}}'
    fake.control.say("BatchGetItem", http(200, body))
    assert len(reader.batch_get(keys(0), whole).items) == 1


def test_what_is_returned_and_what_is_absent_add_up_to_what_was_asked(reader: TableReader) -> None:
    asked = keys(*range(5, 15))
    found = reader.batch_get(asked, whole)
    assert set(found.items) == set(keys(*range(5, 10)))
    assert found.absent == set(keys(*range(10, 15)))
    assert found.unprocessed == []


def test_unprocessed_keys_are_handed_back_as_such(fake: Fake, reader: TableReader) -> None:
    fake.control.fail("unprocessed", "BatchGetItem", detail=4)
    found = reader.batch_get(keys(*range(12)), whole)
    assert (len(found.items), len(found.absent), len(found.unprocessed)) == (8, 0, 4)


def test_keys_beyond_the_16_mb_of_an_answer_are_unprocessed(fake: Fake, connect: Connect) -> None:
    fake.control.create_table("big")
    fake.control.fill("big", 60, size=390 * 1024)
    reader = TableReader(connect(), "big", KeySchema("pk", "S"))
    found = reader.batch_get(keys(*range(60)), whole)
    assert (len(found.items), len(found.absent), len(found.unprocessed)) == (42, 0, 18)
    assert len(reader.batch_get(found.unprocessed, whole).items) == 18


def test_a_strong_read_says_so_and_costs_double(fake: Fake, connect: Connect) -> None:
    recorder = Recorder()
    fake.control.create_table("t")
    fake.control.fill("t", 10)
    reader = TableReader(connect(recorder), "t", KeySchema("pk", "S"))
    assert reader.batch_get(keys(*range(10)), whole).consumed_units == 5
    assert reader.batch_get(keys(*range(10)), whole, strong=True).consumed_units == 10
    assert recorder.units == 15
    assert b'"ConsistentRead":true' in fake.received["BatchGetItem"]


@pytest.mark.parametrize("asked", [[], keys(1, 1), keys(*range(101))], ids=["none", "twice", "101"])
def test_a_batch_is_1_to_100_distinct_keys(reader: TableReader, asked: list[bytes]) -> None:
    with pytest.raises(ValueError, match="distinct"):
        reader.batch_get(asked, whole)


@pytest.mark.parametrize(
    "fault", ["truncate", "empty", "bad_crc", "extra_key", "duplicate_key", "unknown_tag"]
)
def test_an_answer_that_breaks_the_contract_is_never_a_result(
    fake: Fake, reader: TableReader, fault: str
) -> None:
    fake.control.fail(fault, "BatchGetItem")
    with pytest.raises(MalformedResponse, match="BatchGetItem"):
        reader.batch_get(keys(1, 2, 3), whole)
    assert len(reader.batch_get(keys(1, 2, 3), whole).items) == 3


# Streams


def test_a_record_has_its_images_keys_and_place(fake: Fake, streams: StreamClient) -> None:
    arn = fake.control.create_table("t", view="NEW_AND_OLD_IMAGES") or ""
    key = {"pk": {"S": "a"}}
    fake.control.put("t", key, created=1_700_000_000)
    fake.control.put("t", {**key, "v": {"N": "1.0"}}, created=1_700_000_001)
    fake.control.delete("t", key, created=1_700_000_002)
    page = streams.get_records(streams.shard_iterator(arn, only_shard(streams, arn), "TRIM_HORIZON"))
    inserted, modified, removed = page.records
    assert [each.event for each in page.records] == list(ChangeType)
    assert not inserted.change.old_image and not removed.change.new_image
    assert msgspec.json.decode(modified.change.new_image) == {**key, "v": {"N": "1"}}
    assert msgspec.json.decode(modified.change.old_image) == msgspec.json.decode(removed.change.keys) == key
    assert modified.created_ms == 1_700_000_001_000
    assert int(inserted.sequence) < int(modified.sequence) < int(removed.sequence)
    assert page.next_iterator is not None


@pytest.mark.parametrize(
    ("view", "new", "old"),
    [("KEYS_ONLY", False, False), ("NEW_IMAGE", True, False), ("OLD_IMAGE", False, True)],
)
def test_an_image_that_the_view_leaves_out_is_empty(
    fake: Fake, streams: StreamClient, view: str, new: bool, old: bool
) -> None:
    arn = fake.control.create_table("t", view=view) or ""
    for text in ("1", "2"):
        fake.control.put("t", {"pk": {"S": "a"}, "v": {"S": text}})
    page = streams.get_records(streams.shard_iterator(arn, only_shard(streams, arn), "TRIM_HORIZON"))
    images = [(bool(r.change.new_image), bool(r.change.old_image)) for r in page.records[1:]]
    assert images == [(new, old)]


def test_a_deletion_by_time_to_live_is_a_removal_like_any_other(fake: Fake, streams: StreamClient) -> None:
    """Its record says in addition who did it (userIdentity)."""
    arn = fake.control.create_table("t", view="KEYS_ONLY") or ""
    fake.control.put("t", {"pk": {"S": "a"}})
    fake.control.expire("t", {"pk": {"S": "a"}})
    page = streams.get_records(streams.shard_iterator(arn, only_shard(streams, arn), "TRIM_HORIZON"))
    assert [str(each.event) for each in page.records] == ["INSERT", "REMOVE"]


def test_more_than_a_hundred_shards_are_listed_in_pages(fake: Fake, streams: StreamClient) -> None:
    arn = fake.control.create_table("t", view="KEYS_ONLY", shards=150) or ""
    parent = fake.control.shards("t")[0]["id"]
    fake.control.split("t", parent)
    info, first, after = streams.describe_stream(arn)
    _, second, end = streams.describe_stream(arn, after)
    assert (info.table_name, info.enabled, info.view) == ("t", True, StreamView.KEYS_ONLY)
    assert (len(first), len(second), after, end) == (100, 52, first[-1].id, None)
    assert [each.id for each in first if each.closed] == [parent]
    assert [each.parent for each in second if each.parent] == [parent, parent]


def test_reading_goes_on_after_a_sequence_number(fake: Fake, streams: StreamClient) -> None:
    arn = fake.control.create_table("t", view="KEYS_ONLY") or ""
    fake.control.fill("t", 1500)
    shard = only_shard(streams, arn)
    first = streams.get_records(streams.shard_iterator(arn, shard, "TRIM_HORIZON"))
    at = streams.shard_iterator(arn, shard, "AFTER_SEQUENCE_NUMBER", first.records[-1].sequence)
    second = streams.get_records(at, limit=10)
    assert (len(first.records), len(second.records)) == (1000, 10)
    assert int(second.records[0].sequence) == int(first.records[-1].sequence) + 1


def test_the_end_of_a_closed_shard_has_no_next_iterator(fake: Fake, streams: StreamClient) -> None:
    arn = fake.control.create_table("t", view="KEYS_ONLY") or ""
    fake.control.fill("t", 3)
    shard = fake.control.close_shard("t")
    page = streams.get_records(streams.shard_iterator(arn, shard, "TRIM_HORIZON"))
    assert (len(page.records), page.next_iterator) == (3, None)


def test_the_latest_stream_is_the_newest_of_all_pages(fake: Fake, streams: StreamClient) -> None:
    fake.world.list_streams_page = 1
    fake.control.create_table("t", view="KEYS_ONLY")
    fake.control.disable_stream("t")
    newest = fake.control.enable_stream("t")
    fake.control.create_table("other", view="KEYS_ONLY")
    assert streams.latest_stream("t") == newest
    assert streams.latest_stream("never-streamed") is None


def test_a_listing_of_streams_goes_on_after_the_page_that_came_last(
    fake: Fake, streams: StreamClient
) -> None:
    fake.world.list_streams_page = 1
    fake.control.create_table("t", view="KEYS_ONLY")
    for _ in range(7):
        fake.control.disable_stream("t")
        newest = fake.control.enable_stream("t")
    fake.control.limit_rate("ListStreams", 2)
    found: list[str | None] = []

    def listed() -> bool:
        with contextlib.suppress(Throttled):
            found.append(streams.latest_stream("t"))
        return bool(found)

    eventually(listed)
    assert found == [newest]
    assert fake.received["ListStreams"].count(b"ExclusiveStartStreamArn")
    fake.control.clear_faults()
    assert streams.latest_stream("t") == newest, "and begins anew once it is whole"


@pytest.mark.parametrize("fault", ["truncate", "empty", "bad_crc"])
def test_a_broken_page_of_records_is_an_error_not_an_empty_page(
    fake: Fake, streams: StreamClient, fault: str
) -> None:
    arn = fake.control.create_table("t", view="KEYS_ONLY") or ""
    fake.control.fill("t", 3)
    iterator = streams.shard_iterator(arn, only_shard(streams, arn), "TRIM_HORIZON")
    fake.control.fail(fault, "GetRecords")
    with pytest.raises(MalformedResponse, match="GetRecords"):
        streams.get_records(iterator)


def test_an_expired_iterator_is_named(fake: Fake, streams: StreamClient) -> None:
    arn = fake.control.create_table("t", view="KEYS_ONLY") or ""
    iterator = streams.shard_iterator(arn, only_shard(streams, arn), "TRIM_HORIZON")
    fake.control.expire_iterators("t")
    with pytest.raises(IteratorExpired):
        streams.get_records(iterator)


@pytest.mark.parametrize(
    ("shows", "error"), [("at_iterator", Trimmed), ("at_records", Trimmed), ("as_not_found", NotFound)]
)
def test_trimmed_records_are_named_wherever_the_trim_shows(
    fake: Fake, streams: StreamClient, shows: str, error: type[AwsError]
) -> None:
    arn = fake.control.create_table("t", view="KEYS_ONLY") or ""
    fake.control.fill("t", 5)
    shard = only_shard(streams, arn)
    first = streams.get_records(streams.shard_iterator(arn, shard, "TRIM_HORIZON")).records[0]
    fake.control.trim("t", records=3, shows=shows)
    with pytest.raises(error):
        streams.get_records(streams.shard_iterator(arn, shard, "AFTER_SEQUENCE_NUMBER", first.sequence))


# Failures


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        ("throttle", Throttled, "ProvisionedThroughputExceededException"),
        ("internal_error", AwsUnavailable, "InternalServerError"),
        ("bad_gateway", AwsUnavailable, "Unavailable"),
        ("hang_up", AwsUnavailable, "Unavailable"),
        ("expired_token", CredentialsExpired, "ExpiredTokenException"),
        ("access_denied", AccessDenied, "AccessDeniedException"),
        ("truncate", MalformedResponse, "Malformed"),
    ],
)
def test_a_failure_is_one_request_and_one_named_error(
    fake: Fake, connect: Connect, fault: str, error: type[MonitorError], code: str
) -> None:
    recorder = Recorder()
    connection = connect(recorder)
    fake.control.create_table("t")
    fake.control.fail(fault, calls=None)
    with pytest.raises(error, match="DescribeTable"):
        describe_table(connection, "t")
    assert (fake.control.calls("DescribeTable"), recorder.requests) == (1, [("DescribeTable", code)])


def test_a_throttled_stream_is_throttled_too(fake: Fake, streams: StreamClient) -> None:
    fake.control.fail("throttle", "ListStreams")
    with pytest.raises(Throttled, match="LimitExceededException"):
        streams.latest_stream("t")


def test_a_table_that_does_not_exist_is_not_found(connect: Connect) -> None:
    with pytest.raises(NotFound, match=r"source: DescribeTable.*check the name, the region"):
        describe_table(connect(), "nowhere")


def test_a_stalled_answer_ends_at_the_read_timeout(
    fake: Fake, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.aws.access.READ_TIMEOUT_SECONDS", 0.2)
    fake.control.fail("stall", "DescribeTable")
    with pytest.raises(AwsUnavailable, match="timeout"):
        describe_table(connect(), "t")


def test_a_port_where_nobody_listens_is_unavailable(fake: Fake, connect: Connect) -> None:
    connection = connect()
    fake.close()
    with pytest.raises(AwsUnavailable):
        describe_table(connection, "t")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"profile": "nobody"}, "nobody"),
        ({"profile": "nobody", "role_arn": "arn:aws:iam::1:role/r"}, "nobody"),
        ({"region": "not a region", "role_arn": "arn:aws:iam::1:role/r", "endpoint_url": None}, "region"),
        ({"region": None}, "no region is given: give --region"),
        ({"endpoint_url": "not a url"}, "Invalid endpoint"),
        ({"endpoint_url": "http://host:99999"}, "port"),
        ({"endpoint_url": "http://host:x"}, "port"),
    ],
)
def test_a_side_that_cannot_be_configured_says_which_and_why(
    connect: Connect, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"source: .*{said}"):
        connect(**settings)


@pytest.mark.parametrize(
    "endpoint", ["u:SECRET@h", "http://h/#SECRET", "http://h:SECRET", "http://h b/SECRET", "ftp://u:SECRET@h"]
)
def test_no_refusal_of_an_endpoint_repeats_what_may_be_secret(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", endpoint)
    with pytest.raises(ConfigurationError) as refused:
        connect(endpoint_url=None)
    assert "SECRET" not in str(refused.value) and refused.value.remedy


@pytest.mark.parametrize(
    "proxy", ["http://u:SECRET", "http://u:SECRET@h:99999", "u:SECRET@127.0.0.1:9", "http://h:SECRET"]
)
def test_no_refusal_of_a_proxy_repeats_its_password(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(AwsError) as refused:
        describe_table(connect(endpoint_url="http://192.0.2.1"), "t")
    assert "SECRET" not in str(refused.value)


def test_no_credentials_at_all_is_a_configuration_error(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(ConfigurationError, match="credentials"):
        describe_table(connect(), "t")


# Credentials


def test_refused_credentials_lead_to_a_new_session_after_a_backoff(
    fake: Fake, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    connection = connect(clock=lambda: now[0])
    fake.control.create_table("t")
    fake.control.fail("expired_token", "DescribeTable", calls=2)
    for wait_seconds in (1, 2):
        with pytest.raises(CredentialsExpired, match="ExpiredTokenException"):
            describe_table(connection, "t")
        asked = fake.control.calls("DescribeTable")
        with pytest.raises(CredentialsExpired, match="new session in"):
            describe_table(connection, "t")
        assert fake.control.calls("DescribeTable") == asked, "AWS is not asked while waiting"
        now[0] += wait_seconds
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASECOND")
    assert describe_table(connection, "t").name == "t"
    assert b"AKIASECOND" in fake.headers["DescribeTable"]


def test_an_expired_token_is_no_unknown_account(
    fake: Fake, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", fake.url)
    connection = connect()
    body = "<Error><Code>ExpiredToken</Code><Message>old</Message></Error>"
    page = http(403, f"<ErrorResponse>{body}</ErrorResponse>", "text/xml")
    fake.control.say("GetCallerIdentity", page)
    with pytest.raises(CredentialsExpired, match="source: GetCallerIdentity: ExpiredToken: old"):
        connection.identity()


def test_who_we_are_is_asked_with_the_new_session_as_well(
    fake: Fake, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked at the start is all that is asked until it is answered."""
    now = [0.0]
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", fake.url)
    connection = connect(clock=lambda: now[0])
    fake.control.fail("expired_token", "DescribeTable")
    with pytest.raises(CredentialsExpired):
        describe_table(connection, "t")
    with pytest.raises(CredentialsExpired, match="new session in"):
        connection.identity()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASECOND")
    now[0] += 1.5
    connection.identity()
    assert b"AKIASECOND" in fake.headers["GetCallerIdentity"]


def test_many_threads_with_refused_credentials_make_one_new_session(fake: Fake, connect: Connect) -> None:
    now = [1000.0]
    connection = connect(clock=lambda: now[0])
    fake.control.create_table("t")
    fake.control.fail("slow", "DescribeTable", calls=8, detail=0.2)
    fake.control.fail("expired_token", "DescribeTable", calls=8)

    def ask() -> None:
        with pytest.raises(CredentialsExpired):
            describe_table(connection, "t")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now[0] += 1
    assert describe_table(connection, "t").name == "t"


def test_a_profile_whose_credentials_cannot_be_fetched_is_tried_again_after_a_backoff(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, fake: Fake
) -> None:
    """A sign-in that has run out is renewed by the operator while the monitor runs."""
    now = [1000.0]
    fetch = tmp_path / "fetch"
    config = f"[profile signed-in]\ncredential_process = /bin/sh {fetch}\n"
    (tmp_path / "config").write_text(config)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    fetch.write_text("exit 1")
    with pytest.raises(CredentialsExpired, match="source"):
        connect(profile="signed-in")
    fetch.write_text("""echo '{"Version": 1, "AccessKeyId": "AKIAFETCHED", "SecretAccessKey": "s"}'""")
    connection = connect(profile="signed-in", clock=lambda: now[0])
    fetch.write_text("exit 1")
    fake.control.create_table("t")
    fake.control.fail("expired_token", "DescribeTable")
    for _ in range(2):  # refused by AWS, then not to be had
        with pytest.raises(CredentialsExpired):
            describe_table(connection, "t")
        now[0] += 2
    fetch.write_text("""echo '{"Version": 1, "AccessKeyId": "AKIARENEWED", "SecretAccessKey": "s"}'""")
    assert describe_table(connection, "t").name == "t"
    assert b"AKIARENEWED" in fake.headers["DescribeTable"]


ODD_SOURCES = {
    "a notice instead of JSON": "credential_process = /bin/echo Please sign in",
    "JSON that is none of it": """credential_process = /bin/echo '[1]'""",
    "half of it": """credential_process = /bin/echo '{"Version": 1, "AccessKeyId": "A"}'""",
    "an end that is no date": (
        """credential_process = /bin/echo '{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s",\
"SessionToken":"t","Expiration":"soon"}'"""
    ),
    "a program that is not there": "credential_process = /nowhere/at-all",
    "text that is not UTF-8": "credential_process = /usr/bin/printf '\\\\xff'",
    "a token file that is not there": (
        "role_arn = arn:aws:iam::1:role/r\nweb_identity_token_file = /nowhere/token"
    ),
    "a role of itself": "role_arn = arn:aws:iam::1:role/r\nsource_profile = odd",
    "a role of nobody": "role_arn = arn:aws:iam::1:role/r\nsource_profile = nobody",
    "a code from a device": (
        "role_arn = arn:aws:iam::1:role/r\nsource_profile = keys\nmfa_serial = arn:aws:iam::1:mfa/me"
    ),
    "a sign-in that never was": "sso_start_url = https://x\nsso_region = us-east-1\nsso_account_id = 1\n"
    "sso_role_name = r",
    "half a sign-in": "sso_session = none\nsso_account_id = 1\nsso_role_name = r",
}


@pytest.mark.parametrize("source", ODD_SOURCES.values(), ids=ODD_SOURCES.keys())
def test_a_source_of_credentials_that_fails_oddly_is_an_error_of_ours(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, source: str
) -> None:
    """Files, other programs and prompts raise what they like; with it an operator could do nothing."""
    keys = "[profile keys]\naws_access_key_id = A\naws_secret_access_key = s\n"
    (tmp_path / "config").write_text(f"{keys}[profile odd]\n{source}\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises((CredentialsExpired, ConfigurationError), match="source: ") as refused:
        describe_table(connect(profile="odd"), "t")
    assert refused.value.remedy


REWRITTEN = {
    "a profile that is missing": "[profile other]\nregion = us-east-1\n",
    "half a profile": "[profile rewritten]\naws_access_key_id = AKIA\n",
    "an empty file": "",
    "no file": None,
    "no configuration at all": "[profile rewritten\naws_acc",
}


@pytest.mark.parametrize("content", REWRITTEN.values(), ids=REWRITTEN.keys())
def test_a_profile_that_is_being_rewritten_is_waited_for_by_who_had_it(
    fake: Fake, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, content: str | None
) -> None:
    """At the start it would be a mistake in the configuration; here it is away for a moment."""
    now = [1000.0]
    config = tmp_path / "config"
    good = "[profile rewritten]\naws_access_key_id = AKIAGOOD\naws_secret_access_key = s\n"
    config.write_text(good)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    fake.control.create_table("t")
    connection = connect(profile="rewritten", clock=lambda: now[0])
    assert describe_table(connection, "t").name == "t"
    config.unlink() if content is None else config.write_text(content)
    fake.control.fail("expired_token", "DescribeTable")
    for _ in range(4):
        with pytest.raises(CredentialsExpired):
            describe_table(connection, "t")
        now[0] += 70
    config.write_text(good.replace("GOOD", "NEW"))
    assert describe_table(connection, "t").name == "t"
    assert b"AKIANEW" in fake.headers["DescribeTable"]


_ROLE = "role_arn = arn:aws:iam::1:role/r\nsource_profile = {}\n"
_CODE = "mfa_serial = arn:aws:iam::1:mfa/me\n"
CODES = {
    "itself": f"[profile p]\n{_ROLE.format('keys')}{_CODE}",
    "the one it goes through": f"[profile p]\n{_ROLE.format('q')}[profile q]\n{_ROLE.format('keys')}{_CODE}",
}


@pytest.mark.parametrize("role", [None, "arn:aws:iam::2:role/more"], ids=["its own", "and another role"])
@pytest.mark.parametrize("config", CODES.values(), ids=CODES.keys())
def test_a_profile_that_asks_for_a_code_is_refused_without_asking(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, config: str, role: str | None
) -> None:
    keys = "[profile keys]\naws_access_key_id = A\naws_secret_access_key = s\n"
    (tmp_path / "config").write_text(keys + config)
    monkeypatch.setattr("getpass.getpass", lambda *_: pytest.fail("asked for a code"))
    with pytest.raises(ConfigurationError, match=r"profile [pq] asks for an MFA code") as refused:
        connect(profile="p", role_arn=role)
    assert "token-code" in refused.value.remedy


def test_a_default_profile_with_a_code_does_not_matter_where_the_environment_has_keys(
    fake: Fake, connect: Connect, tmp_path: Any
) -> None:
    (tmp_path / "config").write_text(
        CODES["itself"].replace("profile p", "default").replace("keys", "default")
    )
    fake.control.create_table("t")
    assert describe_table(connect(), "t").name == "t"


def test_a_profile_of_aws_login_names_the_extra_that_it_needs(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setattr("botocore.credentials.EC", None)  # as where awscrt is not installed
    (tmp_path / "config").write_text("[profile p]\nlogin_session = arn:aws:sts::1:me\n")
    with pytest.raises(ConfigurationError, match=r"source: .*") as refused:
        describe_table(connect(profile="p"), "t")
    assert "dynamodb-migration-monitor[login]" in refused.value.remedy


@pytest.mark.parametrize(
    "url", ["http://u:HUNTER2@{host}", "http://{host}/?token=HUNTER2", "http://u:HUN@TER2"]
)
def test_an_endpoint_s_password_is_refused_and_not_repeated_wherever_it_came_from(
    fake: Fake, url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url.format(host=fake.url.removeprefix("http://")))
    with structlog.testing.capture_logs() as logs, pytest.raises(ConfigurationError) as refused:
        Connection(SideConfig("source", region="us-east-1"))
    assert "HUN" not in f"{refused.value}{logs}"


def test_what_a_credential_process_says_is_not_repeated(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    (tmp_path / "tell").write_text("echo token=HUNTER2 >&2; exit 1")
    (tmp_path / "config").write_text(f"[profile p]\ncredential_process = /bin/sh {tmp_path}/tell\n")
    with pytest.raises(CredentialsExpired, match="credential_process failed") as refused:
        describe_table(connect(profile="p"), "t")
    assert "HUNTER2" not in str(refused.value)


def test_streams_that_an_endpoint_does_not_serve_have_endpoints_of_their_own(fake: Fake) -> None:
    """A VPC endpoint of DynamoDB, or an emulator without streams."""
    body = '{"__type": "com.amazon.coral.service#UnknownOperationException"}'
    fake.control.say("DescribeStream", http(400, body, "application/x-amz-json-1.0"))
    connection = Connection(SideConfig("stream", region="us-east-1", endpoint_url=fake.url))
    with pytest.raises(NotServed, match="DescribeStream: UnknownOperationException") as refused:
        StreamClient(connection).describe_stream("arn")
    assert "--stream-endpoint-url" in refused.value.remedy


def test_a_role_is_assumed_with_its_external_id(
    fake: Fake, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", fake.url)
    fake.control.create_table("t")
    connection = connect(role_arn="arn:aws:iam::210987654321:role/monitor", external_id="e-1")
    assert connection.credentials_expire_at_seconds is None, "not asked for before it is needed"
    assert describe_table(connection, "t").name == "t"
    assert b"ExternalId=e-1" in fake.received["AssumeRole"]
    assert b"AKIAFIRST" in fake.headers["AssumeRole"]
    assert b"ASIAROLE" in fake.headers["DescribeTable"]
    assert connection.credentials_expire_at_seconds is not None


def test_a_role_that_may_not_be_assumed_is_named(
    fake: Fake, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", fake.url)
    fake.control.fail("access_denied", "AssumeRole")
    with pytest.raises(AccessDenied, match="source: AssumeRole"):
        describe_table(connect(role_arn="arn:aws:iam::210987654321:role/monitor"), "t")


# Endpoint, identity, clock


def test_an_ambient_endpoint_is_what_is_told_and_an_explicit_one_wins(
    fake: Fake, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert connect(endpoint_url=None).endpoint == "http://127.0.0.1:9"
    assert connect().endpoint == fake.url


def test_the_identity_of_an_emulator_is_unknown_and_the_real_sts_is_not_asked(
    fake: Fake, connect: Connect
) -> None:
    recorder = Recorder()
    identity = connect(recorder).identity()
    assert (identity.account, identity.arn, identity.endpoint) == (None, None, fake.url)
    assert recorder.requests == []


def test_the_identity_comes_from_sts_when_it_belongs_to_the_same_aws(
    fake: Fake, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", fake.url)
    assert connect().identity().account == "123456789012"
    fake.control.fail("access_denied", "GetCallerIdentity")
    assert connect().identity().account is None


def test_an_answer_taken_up_late_is_no_skew(fake: Fake, connect: Connect) -> None:
    """A process that stood still (a paused VM, SIGSTOP) finds an old Date: taken for a skew, it made changes
    younger than they were and the watermark run ahead of what was read.
    """
    fake.control.create_table("t")
    instant = 0.0

    class StandsStill(Silent):
        def request(self, operation: str, seconds: float, code: str | None) -> None:
            nonlocal instant
            instant += 40.0

    connection = connect(StandsStill(), clock=lambda: instant)
    connection.call(DESCRIBE_TABLE, {"TableName": "t"})
    assert connection.skew_ms is None


@pytest.mark.parametrize("skew_seconds", [-600, 0, 600])
def test_the_clock_skew_is_read_from_the_date_header(fake: Fake, connect: Connect, skew_seconds: int) -> None:
    fake.control.skew(skew_seconds)
    connection = connect()
    unknown = connection.skew_ms
    with pytest.raises(NotFound):
        describe_table(connection, "t")
    measured = connection.skew_ms
    assert unknown is None
    assert measured is not None and abs(measured - skew_seconds * 1000) < 5000


# Pace


class Stop:
    """A stop event whose waiting moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        self.is_stopping = False

    def wait(self, timeout: float) -> bool:
        self.waits.append(timeout)
        self.now += timeout
        return self.is_stopping


def test_reading_waits_until_its_debt_is_paid() -> None:
    stop = Stop()
    limiter = RateLimiter(100, clock=lambda: stop.now)
    assert limiter.acquire(stop)
    limiter.charge(350)  # one second's worth was saved: 250 units of debt
    assert limiter.acquire(stop)
    assert stop.waits == [2.5]


def test_a_stop_ends_the_wait_for_the_budget() -> None:
    stop = Stop()
    limiter = RateLimiter(1, clock=lambda: stop.now)
    limiter.charge(100)
    stop.is_stopping = True
    assert not limiter.acquire(stop)


def test_who_has_read_much_pays_while_the_others_go_on() -> None:
    """And all of them together spend what is allowed."""
    stop = Stop()
    limiter = RateLimiter(10, clock=lambda: stop.now)
    limiter.charge(10 + 1000, lane=1)  # what was saved, and 100 s' worth
    limiter.charge(5, lane=2)
    assert [limiter.debt_seconds(lane) for lane in (1, 2, 3)] == [100, 0.5, 0]
    stop.now += 1
    assert [limiter.debt_seconds(lane) for lane in (1, 2)] == [pytest.approx(99.5), 0]
    spent, began = 1010.0 + 5.0, 1.0
    while stop.now < 1000:
        if not limiter.debt_seconds(2):
            limiter.charge(7, lane=2)
            spent += 7
        stop.now += 0.25
    assert limiter.debt_seconds(1) == 0
    assert spent <= 10 + 10 * (stop.now + began) + 7


@pytest.mark.parametrize("units", [0.0, 1e-300, 0.5, 1e6])
def test_every_debt_ends(units: float) -> None:
    stop = Stop()
    limiter = RateLimiter(5, clock=lambda: stop.now)
    for lane in range(8):
        limiter.charge(units, lane)
    assert all(limiter.acquire(stop, lane) for lane in range(8))


def test_no_budget_is_no_limit() -> None:
    stop = Stop()
    limiter = RateLimiter(0, clock=lambda: stop.now)
    limiter.charge(1_000_000)
    assert limiter.acquire(stop)
    assert stop.waits == []


# Another emulator


def test_moto_answers_in_the_same_shapes(connect: Connect) -> None:
    """The demo's emulator, whose answers differ from AWS's in detail, passes the same contract."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        boto3.client("dynamodb", "us-east-1", endpoint_url=url).create_table(
            TableName="t",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "N"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        )
        boto3.resource("dynamodb", "us-east-1", endpoint_url=url).Table("t").put_item(Item={"pk": 7})
        connection = connect(endpoint_url=url)
        info = describe_table(connection, "t")
        found = TableReader(connection, "t", info.schema).batch_get([b'"7"', b'"8"'], whole)
        assert (set(found.items), found.absent) == ({b'"7"'}, {b'"8"'})
        streams = StreamClient(connection)
        arn = streams.latest_stream("t")
        assert arn is not None and arn == info.stream_arn
        iterator = streams.shard_iterator(arn, streams.describe_stream(arn)[1][0].id, "TRIM_HORIZON")
        assert [each.event for each in streams.get_records(iterator).records] == [ChangeType.INSERT]
    finally:
        server.stop()

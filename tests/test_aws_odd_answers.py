"""What stands between here and AWS may answer anything: it is an error of ours each time, and no verdict."""

from collections.abc import Iterator

import pytest

from pipeline.aws import Connection, SideConfig, StreamClient, TableReader, describe_table
from pipeline.core.canonical import Item, KeySchema
from pipeline.errors import AwsError, AwsUnavailable, MalformedResponse
from tests import odd_answers
from tests.fake import Fake
from tests.odd_answers import PAGES, READS, RECORDS, REFUSALS, http

KEYS = [b'"item-00000001"', b'"item-00000002"']


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        one.control.create_table("t", view="NEW_AND_OLD_IMAGES")
        one.control.fill("t", 10)
        yield one


@pytest.fixture
def connection(fake: Fake) -> Connection:
    return Connection(SideConfig("source", region="us-east-1", endpoint_url=fake.url))


@pytest.fixture
def reader(connection: Connection) -> TableReader:
    return TableReader(connection, "t", KeySchema("pk", "S"))


def whole(_key: bytes, item: Item) -> Item:
    return item


def assert_reads(reader: TableReader) -> None:
    assert len(reader.batch_get(KEYS, whole).items) == 2


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_that_is_not_aws_s_is_unavailable(fake: Fake, reader: TableReader, case: str) -> None:
    fake.control.say("BatchGetItem", REFUSALS[case])
    with pytest.raises(AwsUnavailable, match="source: BatchGetItem") as caught:
        reader.batch_get(KEYS, whole)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()
    assert_reads(reader)


@pytest.mark.parametrize("case", PAGES)
def test_a_success_that_cannot_be_read_is_an_error(fake: Fake, reader: TableReader, case: str) -> None:
    fake.control.say("BatchGetItem", PAGES[case])
    with pytest.raises((AwsUnavailable, MalformedResponse), match="BatchGetItem") as caught:
        reader.batch_get(KEYS, whole)
    assert len(str(caught.value)) < 500
    assert_reads(reader)


@pytest.mark.parametrize("case", PAGES | REFUSALS)
def test_no_odd_answer_to_any_operation_is_anything_but_an_error(
    fake: Fake, connection: Connection, case: str
) -> None:
    streams = StreamClient(connection)
    arn = streams.latest_stream("t") or ""
    questions = {
        "DescribeTable": lambda: describe_table(connection, "t"),
        "DescribeTimeToLive": lambda: describe_table(connection, "t"),
        "ListStreams": lambda: streams.latest_stream("t"),
        "DescribeStream": lambda: streams.describe_stream(arn),
        "GetShardIterator": lambda: streams.shard_iterator(arn, "shard", "LATEST"),
        "GetRecords": lambda: streams.get_records("iterator"),
    }
    for operation, ask in questions.items():
        fake.control.say(operation, (PAGES | REFUSALS)[case])
        with pytest.raises((AwsUnavailable, MalformedResponse), match=operation):
            ask()


@pytest.mark.parametrize("case", READS)
def test_an_answer_that_does_not_account_for_every_key_is_an_error(
    fake: Fake, reader: TableReader, case: str
) -> None:
    fake.control.say("BatchGetItem", http(200, READS[case]))
    with pytest.raises(MalformedResponse, match="BatchGetItem"):
        reader.batch_get(KEYS, whole)
    assert_reads(reader)


def test_a_table_that_is_not_listed_has_no_absent_keys_where_all_are_unprocessed(
    fake: Fake, reader: TableReader
) -> None:
    """Nothing is left out of such an answer."""
    keys = '{"pk":{"S":"item-00000001"}},{"pk":{"S":"item-00000002"}}'
    body = f'{{"Responses":{{}},"UnprocessedKeys":{{"t":{{"Keys":[{keys}]}}}}}}'
    fake.control.say("BatchGetItem", http(200, body))
    found = reader.batch_get(KEYS, whole)
    assert (found.items, found.absent, sorted(found.unprocessed)) == ({}, set(), KEYS)


def test_a_wrong_content_type_alone_spoils_no_answer(fake: Fake, reader: TableReader) -> None:
    body = '{"Responses":{"t":[{"pk":{"S":"item-00000001"}}]},"UnprocessedKeys":{}}'
    fake.control.say("BatchGetItem", http(200, body, "text/html"))
    assert reader.batch_get(KEYS, whole).absent == {KEYS[1]}


@pytest.mark.parametrize("case", RECORDS)
def test_a_page_of_records_that_is_odd_is_an_error(fake: Fake, connection: Connection, case: str) -> None:
    fake.control.say("GetRecords", http(200, RECORDS[case]))
    with pytest.raises(MalformedResponse, match="GetRecords") as caught:
        StreamClient(connection).get_records("iterator")
    assert len(str(caught.value)) < 300


DESCRIPTION = (
    '{"Table":{"TableName":"t","TableArn":"arn:aws:dynamodb:r:1:table/t","TableStatus":"ACTIVE",'
    '"KeySchema":[{"AttributeName":"pk","KeyType":"HASH"}],'
    '"AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"}]}}'
)


@pytest.mark.parametrize(
    ("was", "odd"),
    [
        ("arn:aws:dynamodb:r:1:table/t", "no arn"),
        ("HASH", "RANGE"),
        ('"AttributeName":"pk","AttributeType"', '"AttributeName":"other","AttributeType"'),
        ('"TableStatus"', '"StreamSpecification":{"StreamViewType":"ALL"},"TableStatus"'),
        ('"AttributeType":"S"', '"AttributeType":"SS"'),
    ],
)
def test_a_table_s_description_that_contradicts_itself_is_an_error(
    fake: Fake, connection: Connection, was: str, odd: str
) -> None:
    assert was in DESCRIPTION
    fake.control.say("DescribeTable", http(200, DESCRIPTION.replace(was, odd)))
    with pytest.raises(MalformedResponse, match="DescribeTable"):
        describe_table(connection, "t")


def test_a_stream_s_description_with_an_unknown_view_is_an_error(fake: Fake, connection: Connection) -> None:
    streams = StreamClient(connection)
    arn = streams.latest_stream("t") or ""
    fake.control.say(
        "DescribeStream",
        http(
            200,
            '{"StreamDescription":{"StreamArn":"a","StreamStatus":"ENABLED","TableName":"t",'
            '"StreamViewType":"ALL","Shards":[]}}',
        ),
    )
    with pytest.raises(MalformedResponse, match="DescribeStream"):
        streams.describe_stream(arn)


def test_a_page_that_goes_on_where_it_began_is_an_error(fake: Fake, connection: Connection) -> None:
    """It would be asked for for ever."""
    streams = StreamClient(connection)
    arn = streams.latest_stream("t") or ""
    page = '{"Streams":[],"LastEvaluatedStreamArn":"again"}'
    fake.control.say("ListStreams", http(200, page), calls=None)
    with pytest.raises(MalformedResponse, match="ListStreams"):
        streams.latest_stream("t")
    description = '"StreamArn":"a","StreamStatus":"ENABLED","TableName":"t","StreamViewType":"NEW_IMAGE"'
    page = f'{{"StreamDescription":{{{description},"Shards":[],"LastEvaluatedShardId":"again"}}}}'
    fake.control.say("DescribeStream", http(200, page), calls=None)
    assert streams.describe_stream(arn)[2] == "again"
    with pytest.raises(MalformedResponse, match="DescribeStream"):
        streams.describe_stream(arn, "again")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("com.amazon.coral.service#ThrottlingException", "ThrottlingException"),
        ("ThrottlingException:http://internal.amazon.com/coral/", "ThrottlingException"),
        ("a#ThrottlingException:b#c", "ThrottlingException"),
    ],
)
def test_aws_s_code_is_found_in_every_form_it_has(
    fake: Fake, reader: TableReader, kind: str, says: str
) -> None:
    fake.control.say("BatchGetItem", http(400, f'{{"__type":"{kind}","Message":"slow down"}}'))
    with pytest.raises(AwsError, match=f"BatchGetItem: {says}: slow down"):
        reader.batch_get(KEYS, whole)


@pytest.mark.parametrize("message", ["5", "null", '{"a": 1}', '["a"]'])
def test_a_message_that_is_no_text_is_left_out(fake: Fake, reader: TableReader, message: str) -> None:
    fake.control.say("BatchGetItem", http(400, f'{{"__type":"a#ValidationException","message":{message}}}'))
    with pytest.raises(AwsError, match=r"BatchGetItem: ValidationException$"):
        reader.batch_get(KEYS, whole)


def test_what_comes_from_outside_is_cut_and_escaped(fake: Fake, reader: TableReader) -> None:
    message = "\\u001b[2J\\u202e" + "x" * 60_000
    fake.control.say("BatchGetItem", http(400, f'{{"__type":"a#ValidationException","message":"{message}"}}'))
    with pytest.raises(AwsError, match=r"ValidationException: \\x1b\[2J\\u202exxx") as caught:
        reader.batch_get(KEYS, whole)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("body", "date"),
    [
        *(('{"__type":"a#ValidationException"}', date) for date in ("yesterday", "\xff", "", "0 0 0 0")),
        (odd_answers.HTML, "Mon, 01 Jan 2001 00:00:00 GMT"),
    ],
)
def test_a_date_that_is_none_or_not_aws_s_tells_no_clock(
    fake: Fake, connection: Connection, reader: TableReader, body: str, date: str
) -> None:
    fake.control.say("BatchGetItem", http(400, body, "text/html", f"Date: {date}"))
    with pytest.raises(AwsError):
        reader.batch_get(KEYS, whole)
    assert connection.skew_ms is None


# STS, which speaks XML, through boto3's own client


@pytest.mark.parametrize(
    "page",
    [
        *(http(status, odd_answers.HTML, "text/html") for status in (200, 502)),
        *(
            http(status, body, "text/xml")
            for status in (200, 403, 500)
            for body in ("", "<a/>", "<Error>no</Error>")
        ),
        http(403, "<ErrorResponse><Error><Error/><Code><x/></Code></Error></ErrorResponse>", "text/xml"),
        http(200, "\xff", "text/xml"),
    ],
)
def test_an_odd_answer_of_sts_leaves_the_account_unknown_and_gives_no_credentials(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", fake.url)
    side = SideConfig("source", region="us-east-1", endpoint_url=fake.url)
    fake.control.say("GetCallerIdentity", page)
    assert Connection(side).identity().account is None
    fake.control.say("AssumeRole", page, calls=None)
    role = SideConfig(
        "source", region="us-east-1", endpoint_url=fake.url, role_arn="arn:aws:iam::1:role/monitor"
    )
    with pytest.raises(AwsError, match="source: "):
        describe_table(Connection(role), "t")

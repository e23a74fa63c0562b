"""What proxies, gateways and portals answer in AWS's place: never a result, never the end of a process."""

import gzip
import json
import socketserver
import threading
from collections.abc import Callable, Iterator

import pytest

from pipeline.aws import Connection, SideConfig, StreamClient, TableReader, answers
from pipeline.core.canonical import KeySchema
from pipeline.errors import AwsError, AwsUnavailable, MalformedResponse, NotFound, Throttled
from tests.servers import eventually

SCHEMA = KeySchema("pk", "S")
KEY = SCHEMA.compact_of({"pk": {"S": "a"}})
FOUND = b'{"Responses":{"t":[]},"UnprocessedKeys":{}}'
PAGE = b"<!DOCTYPE html><h1>Sign in to the network</h1>"
DEEP = b'{"a":' * 5_000 + b"1" + b"}" * 5_000

Send = Callable[[bytes], object]


class Gateway:
    """Reads requests, and answers each with whatever bytes `answer` sends; then hangs up."""

    def __init__(self) -> None:
        self.answer: Callable[[Send], object] = lambda send: send(http(200, FOUND))
        self.requests = 0
        self.ended = threading.Event()
        gateway = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                length = 0
                while (line := self.rfile.readline().strip()) != b"":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                self.rfile.read(length)
                gateway.requests += 1
                try:
                    gateway.answer(self.wfile.write)
                except OSError:  # the other side had enough
                    gateway.ended.set()

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def http(status: int, body: bytes, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    gateway = Gateway()
    yield gateway
    gateway.close()


@pytest.fixture
def connection(gateway: Gateway) -> Connection:
    return Connection(SideConfig("source", region="us-east-1", endpoint_url=gateway.url))


def read(connection: Connection) -> object:
    return TableReader(connection, "t", SCHEMA).batch_get([KEY], lambda _key, item: item)


def poll(connection: Connection) -> object:
    return StreamClient(connection).get_records("iterator")


def refused(gateway: Gateway, connection: Connection, answer: bytes) -> AwsError:
    gateway.answer = lambda send: send(answer)
    with pytest.raises(AwsError) as first:
        read(connection)
    with pytest.raises(type(first.value)):
        poll(connection)
    return first.value


NOT_AWS = {
    "text": b'"bad gateway"',
    "null": b"null",
    "list": b"[]",
    "number": b"502",
    "object": b'{"error":"no healthy upstream"}',
    "latin-1": b"<!DOCTYPE html>\xe9",
    "UTF-16": "<html>".encode("utf-16"),
    "gzip": gzip.compress(PAGE),
    "truncated gzip": gzip.compress(PAGE)[:20],
    "page": PAGE,
    "nothing": b"",
    "cut JSON": b'{"__type":"com.amazonaws#Thr',
    "type: number": b'{"__type": 5}',
    "type: null": b'{"__type": null}',
    "type: nothing": b'{"__type": ""}',
    "type: object": b'{"__type": {"a": 1}}',
    "type: list": b'{"__type": ["ThrottlingException"]}',
    "type: markup": b'{"__type": "<b>no</b>"}',
    "type: sentence": b'{"__type": "you shall not pass"}',
    "type: lone surrogate": b'{"__type": "\\ud800"}',
    "deep": DEEP,
    "1 MB": b"x" * 2**20,
    "3 MB": b"[" + b"1," * 3 * 2**19 + b"1]",
}


@pytest.mark.parametrize("body", NOT_AWS.values(), ids=NOT_AWS.keys())
@pytest.mark.parametrize("status", [400, 403, 502])
def test_an_error_that_is_not_aws_s_is_unavailable(
    gateway: Gateway, connection: Connection, status: int, body: bytes
) -> None:
    error = refused(gateway, connection, http(status, body, "Content-Type: text/html"))
    assert type(error) is AwsUnavailable
    assert f"HTTP {status}" in error.problem and "proxy" in error.remedy
    assert len(error.problem) < 300


@pytest.mark.parametrize(
    "status", [100, 204, 206, 301, 302, 304, 307, 308, 407, 418, 429, 500, 503, 599, 999]
)
def test_a_status_without_sense_is_unavailable(gateway: Gateway, connection: Connection, status: int) -> None:
    answer = http(status, PAGE, f"Location: {gateway.url}/elsewhere")
    assert type(refused(gateway, connection, answer)) is AwsUnavailable
    assert gateway.requests == 2, "a redirect was followed"


@pytest.mark.parametrize("said", [5, None, True, ["a"], {"deep": {"a": 1}}], ids=repr)
def test_a_message_that_is_not_text_hides_no_code(
    gateway: Gateway, connection: Connection, said: object
) -> None:
    body = json.dumps({"__type": "com.amazonaws#ResourceNotFoundException", "message": said}).encode()
    error = refused(gateway, connection, http(400, body))
    assert isinstance(error, NotFound)
    assert error.problem == "source: BatchGetItem: ResourceNotFoundException"


@pytest.mark.parametrize("name", ["message", "Message"])
def test_aws_s_own_error_is_named_whatever_its_status(
    gateway: Gateway, connection: Connection, name: str
) -> None:
    body = json.dumps({"__type": "ThrottlingException:http://internal.amazon.com/", name: "slow"}).encode()
    error = refused(gateway, connection, http(503, body))
    assert isinstance(error, Throttled) and error.problem.endswith("ThrottlingException: slow")


def test_a_message_is_cut_and_harmless_to_a_terminal(gateway: Gateway, connection: Connection) -> None:
    evil = "\x1b[2J\r\n\u202e\u2028\x9b\x7f" + "é" * 20_000
    body = json.dumps({"__type": "ValidationException", "message": evil}).encode()
    problem = refused(gateway, connection, http(400, body)).problem
    assert problem.isprintable() and "\\x1b[2J" in problem
    assert len(problem) < 300


def test_an_error_without_end_is_left_where_it_is(
    gateway: Gateway, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pour(send: Send) -> None:
        send(b"HTTP/1.1 502 X\r\nContent-Type: text/html\r\n\r\n")
        while True:
            send(b"x" * 65536)

    gateway.answer = pour
    with pytest.raises(AwsUnavailable, match="HTTP 502"):
        read(connection)
    eventually(gateway.ended.is_set, 10, "the connection is given up")


BROKEN = {
    "half a head": b"HTTP/1.1 200 X\r\nContent-Le",
    "page": http(200, PAGE, "Content-Type: text/html"),
    "nothing": http(200, b""),
    "gzip": http(200, gzip.compress(FOUND), "Content-Encoding: gzip"),
    "truncated gzip": http(200, gzip.compress(FOUND)[:20], "Content-Encoding: gzip"),
    "null": http(200, b"null"),
    "list": http(200, b"[]"),
    "not UTF-8": http(200, b'{"Responses":{"\xe9":[]},"UnprocessedKeys":{}}'),
    "deep": http(200, DEEP),
    "deep item": http(200, b'{"Responses":{"t":[' + DEEP + b']},"UnprocessedKeys":{}}'),
    "two objects": http(200, FOUND + FOUND),
    "cut by its length": b"HTTP/1.1 200 X\r\nContent-Length: 20\r\nConnection: close\r\n\r\n" + FOUND,
}
CUT = {
    "cut in a chunk": b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + FOUND,
    "cut between chunks": b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n" + FOUND[:4] + b"\r\n",
    "chunk of no size": b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + FOUND,
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing": b"",
    "lengths that differ": b"HTTP/1.1 200 X\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n" + FOUND,
    "200 headers": http(200, FOUND, *(f"X-{number}: y" for number in range(200))),
    "a header without end": http(200, FOUND, "X-Long: " + "y" * 100_000),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_a_body_that_breaks_the_contract_is_malformed(
    gateway: Gateway, connection: Connection, answer: bytes
) -> None:
    assert isinstance(refused(gateway, connection, answer), MalformedResponse)


@pytest.mark.parametrize("answer", CUT.values(), ids=CUT.keys())
def test_an_answer_that_breaks_off_is_unavailable(
    gateway: Gateway, connection: Connection, answer: bytes
) -> None:
    assert type(refused(gateway, connection, answer)) is AwsUnavailable


def test_a_body_is_not_read_beyond_any_size(
    gateway: Gateway, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "BODY_BYTES", 2**20)
    gateway.answer = lambda send: send(http(200, FOUND + b" " * 2**22))
    with pytest.raises(AwsUnavailable, match="longer than 1,048,576 bytes"):
        read(connection)


@pytest.mark.parametrize("head", [b"", b"Transfer-Encoding: chunked\r\n"], ids=["plain", "chunked"])
def test_a_body_that_drips_is_given_up(
    gateway: Gateway, connection: Connection, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(answers, "BODY_SECONDS", 0.3)
    drops = threading.Event()

    def drip(send: Send) -> None:
        send(b"HTTP/1.1 200 X\r\n" + head + b"\r\n" + (b"ffff\r\n" if head else b""))
        while not drops.wait(0.02):
            send(b" ")

    gateway.answer = drip
    with pytest.raises(AwsUnavailable, match=r"took longer than 0\.3 s"):
        read(connection)
    drops.set()


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Type: text/html"],
        ["Date: yesterday"],
        ["Date: Mon, 99 Foo 99999 99:99:99 GMT"],
        ["Date: Mon, 01 Jan 0001 00:00:00 -0000"],
        ["Date: Fri, 31 Dec 9999 23:59:59 -2359"],
        ["Date: "],
        ["Date: Mon, 01 Jan 2024 00:00:00 GMT", "Date: Tue, 02 Jan 2024 00:00:00 GMT"],
        ["X-Odd: \xff\xfe"],
    ],
    ids=str,
)
def test_odd_headers_do_not_spoil_an_answer(
    gateway: Gateway, connection: Connection, headers: list[str]
) -> None:
    gateway.answer = lambda send: send(http(200, FOUND, *headers))
    assert read(connection) is not None


def test_an_answer_in_chunks_is_whole(gateway: Gateway, connection: Connection) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (FOUND[:7], FOUND[7:]))
    head = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    gateway.answer = lambda send: send(head + chunks + b"0\r\n\r\n")
    assert read(connection) is not None


@pytest.mark.parametrize("seconds", ["1e308", "-5", "1e999", "5e11", '"1700000000"', "null"])
def test_a_creation_time_beyond_any_clock_is_malformed(
    gateway: Gateway, connection: Connection, seconds: str
) -> None:
    change = f'{{"Keys":{{}},"SequenceNumber":"1","ApproximateCreationDateTime":{seconds}}}'
    body = f'{{"Records":[{{"eventName":"INSERT","dynamodb":{change}}}]}}'.encode()
    gateway.answer = lambda send: send(http(200, body))
    with pytest.raises(MalformedResponse):
        poll(connection)


@pytest.mark.parametrize("units", ["1e308", "-1e300", "1e999", "-1"])
def test_units_that_no_read_costs_are_malformed(gateway: Gateway, connection: Connection, units: str) -> None:
    body = FOUND[:-1] + f',"ConsumedCapacity":[{{"TableName":"t","CapacityUnits":{units}}}]}}'.encode()
    gateway.answer = lambda send: send(http(200, body))
    with pytest.raises(MalformedResponse):
        read(connection)


OTHER = b'{"Keys":[{"pk":{"S":"b"}}]}'
ASKED = b'{"Keys":[{"pk":{"S":"a"}}]}'
INCOMPLETE = {
    "nothing at all": b'{"Responses":{},"UnprocessedKeys":{}}',
    "another table": b'{"Responses":{"u":[]},"UnprocessedKeys":{}}',
    "another table too": b'{"Responses":{"t":[],"u":[]},"UnprocessedKeys":{}}',
    "the table's name in other letters": b'{"Responses":{"T":[]},"UnprocessedKeys":{}}',
    "the table as null": b'{"Responses":{"t":null},"UnprocessedKeys":{}}',
    "the table as an object": b'{"Responses":{"t":{}},"UnprocessedKeys":{}}',
    "an item as null": b'{"Responses":{"t":[null]},"UnprocessedKeys":{}}',
    "no responses": b'{"UnprocessedKeys":{}}',
    "responses as null": b'{"Responses":null,"UnprocessedKeys":{}}',
    "no unprocessed keys": b'{"Responses":{"t":[]}}',
    "unprocessed keys as null": b'{"Responses":{"t":[]},"UnprocessedKeys":null}',
    "no keys unprocessed, no table": b'{"Responses":{},"UnprocessedKeys":{"t":{"Keys":[]}}}',
    "unprocessed keys of another table": b'{"Responses":{"t":[]},"UnprocessedKeys":{"u":' + ASKED + b"}}",
    "unprocessed of another table alone": b'{"Responses":{},"UnprocessedKeys":{"u":' + ASKED + b"}}",
    "a key nobody asked for": b'{"Responses":{"t":[{"pk":{"S":"b"}}]},"UnprocessedKeys":{}}',
    "put off what nobody asked for": b'{"Responses":{"t":[]},"UnprocessedKeys":{"t":' + OTHER + b"}}",
    "an item and its key put off": b'{"Responses":{"t":[{"pk":{"S":"a"}}]},"UnprocessedKeys":{"t":'
    + ASKED
    + b"}}",
    "an item without its key": b'{"Responses":{"t":[{"v":{"S":"a"}}]},"UnprocessedKeys":{}}',
    "another operation's": b'{"Item":{"pk":{"S":"a"}}}',
    "a page of a scan": b'{"Items":[],"Count":0,"ScannedCount":0}',
}


@pytest.mark.parametrize("body", INCOMPLETE.values(), ids=INCOMPLETE.keys())
def test_an_incomplete_answer_makes_no_key_absent(
    gateway: Gateway, connection: Connection, body: bytes
) -> None:
    gateway.answer = lambda send: send(http(200, body))
    with pytest.raises(MalformedResponse):
        read(connection)


@pytest.mark.parametrize("responses", [b"{}", b'{"t":[]}'], ids=["left out", "listed"])
def test_a_table_of_which_nothing_was_read_may_be_left_out(
    gateway: Gateway, connection: Connection, responses: bytes
) -> None:
    """All that was asked is put off: there is no key of which the answer would have to say anything."""
    body = b'{"Responses":' + responses + b',"UnprocessedKeys":{"t":' + ASKED + b"}}"
    gateway.answer = lambda send: send(http(200, body))
    result = TableReader(connection, "t", SCHEMA).batch_get([KEY], lambda _key, item: item)
    assert (result.items, result.absent, result.unprocessed) == ({}, set(), [KEY])

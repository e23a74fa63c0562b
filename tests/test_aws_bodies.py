"""Answers that do not end, break off, or are odd around their bodies: the rest is in test_aws_odd_answers."""

import socketserver
import threading
from collections.abc import Callable, Iterator

import pytest

from pipeline.aws import Connection, SideConfig, StreamClient, TableReader, bodies
from pipeline.core.canonical import KeySchema
from pipeline.errors import AwsError, AwsUnavailable
from tests.servers import eventually

SCHEMA = KeySchema("pk", "S")
KEY = SCHEMA.compact_of({"pk": {"S": "a"}})
FOUND = b'{"Responses":{"t":[]},"UnprocessedKeys":{}}'
PAGE = b"<!DOCTYPE html><h1>Sign in to the network</h1>"

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


@pytest.mark.parametrize(
    "status", [100, 204, 206, 301, 302, 304, 307, 308, 407, 418, 429, 500, 503, 599, 999]
)
def test_a_status_without_sense_is_unavailable(gateway: Gateway, connection: Connection, status: int) -> None:
    answer = http(status, PAGE, f"Location: {gateway.url}/elsewhere")
    assert type(refused(gateway, connection, answer)) is AwsUnavailable
    assert gateway.requests == 2, "a redirect was followed"


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


@pytest.mark.parametrize("answer", CUT.values(), ids=CUT.keys())
def test_an_answer_that_breaks_off_is_unavailable(
    gateway: Gateway, connection: Connection, answer: bytes
) -> None:
    assert type(refused(gateway, connection, answer)) is AwsUnavailable


def test_a_body_is_not_read_beyond_any_size(
    gateway: Gateway, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_BYTES", 2**20)
    gateway.answer = lambda send: send(http(200, FOUND + b" " * 2**22))
    with pytest.raises(AwsUnavailable, match="is too long"):
        read(connection)


@pytest.mark.parametrize("head", [b"", b"Transfer-Encoding: chunked\r\n"], ids=["plain", "chunked"])
def test_a_body_that_drips_is_given_up(
    gateway: Gateway, connection: Connection, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.3)
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


@pytest.mark.parametrize("pages", [1, 50_000], ids=["a page", "2 MB"])
def test_a_page_stands_in_no_message(gateway: Gateway, connection: Connection, pages: int) -> None:
    """It may repeat the request, keys included."""
    error = refused(gateway, connection, http(502, PAGE * pages, "Content-Type: text/html"))
    assert "text/html" in error.problem
    assert "Sign in" not in str(error)
    assert "proxy" in error.remedy

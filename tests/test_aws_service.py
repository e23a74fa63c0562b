"""Requests as they arrive: signed, with the bytes that were given, over TLS as configured."""

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pipeline.aws import Connection, SideConfig, StreamClient, TableReader, describe_table
from pipeline.aws.operations import BATCH_GET_ITEM
from pipeline.core.canonical import KeySchema
from pipeline.errors import AwsUnavailable, NotFound
from tests import servers
from tests.fake import Fake
from tests.fake.wire import Request


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAONE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    with Fake() as fake:
        fake.control.create_table("t", view="KEYS_ONLY")
        yield fake


@pytest.fixture
def connection(fake: Fake) -> Connection:
    return Connection(SideConfig("source", region="eu-west-1", endpoint_url=fake.url))


def signature_of(request: Request, url: str) -> str:
    """What the signature has to be, by the headers that it says it signs and the body that arrived."""
    signed = request.header("authorization").partition("SignedHeaders=")[2].partition(",")[0].split(";")
    again = AWSRequest("POST", url, {name: request.header(name) for name in signed}, request.body)
    again.context["timestamp"] = request.header("x-amz-date")
    auth = SigV4Auth(Credentials("AKIAONE", "secret", "token"), "dynamodb", "eu-west-1")
    return auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)


@pytest.mark.parametrize(
    ("operation", "target"),
    [
        ("DescribeTable", "DynamoDB_20120810.DescribeTable"),
        ("ListStreams", "DynamoDBStreams_20120810.ListStreams"),
    ],
)
def test_what_arrives_is_what_was_signed(
    fake: Fake, connection: Connection, operation: str, target: str
) -> None:
    describe_table(connection, "t")
    StreamClient(connection).latest_stream("t")
    request = Request("/", fake.headers[operation], fake.received[operation])
    signature = request.header("authorization").partition("Signature=")[2]
    assert signature == signature_of(request, fake.url)
    assert "/eu-west-1/dynamodb/aws4_request" in request.header("authorization")
    assert request.header("x-amz-security-token") == "token"
    assert request.header("x-amz-target") == target
    assert request.header("content-type") == "application/x-amz-json-1.0"


def test_a_ready_body_is_sent_byte_for_byte(fake: Fake, connection: Connection) -> None:
    body = b'{"RequestItems":{"t":{"Keys":[{"pk":{"S":"a"}}] }}}'
    connection.call(BATCH_GET_ITEM, body)
    assert fake.received["BatchGetItem"] == body


def test_an_error_keeps_its_code_and_message(fake: Fake, connection: Connection) -> None:
    with pytest.raises(NotFound, match="DescribeTable: ResourceNotFoundException: "):
        describe_table(connection, "nowhere")


def test_every_session_signs_with_credentials_of_its_own(
    fake: Fake, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATWO")
    connection.rebuild()
    TableReader(connection, "t", KeySchema("pk", "S")).batch_get([b'"a"'], lambda _key, item: item)
    assert b"Credential=AKIATWO/" in fake.headers["BatchGetItem"]


class _Refuses(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException"}'
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_certificates_are_checked_against_the_ones_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAONE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    certificate, key = servers.certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refuses) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        side = SideConfig(
            "source", region="eu-west-1", endpoint_url=f"https://127.0.0.1:{server.server_port}"
        )
        with pytest.raises(AwsUnavailable, match=r"(?i)certificate"):
            describe_table(Connection(side), "t")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        with pytest.raises(NotFound):
            describe_table(Connection(side), "t")
        server.shutdown()

"""The fake AWS: DynamoDB, DynamoDB Streams and a little STS on one port, and the handles to misuse it.

Reads: HTTP on 127.0.0.1. Writes: its own memory. Never: other addresses, signature checks.

`Fake` runs in this process, `FakeProcess` (process.py) in its own; both are steered by the same `Control`.
"""

import threading
import time
import urllib.parse
from collections import Counter
from typing import Any, Self

import msgspec

from tests.fake import errors
from tests.fake.control import VERBS, Control
from tests.fake.faults import Faults, Kind
from tests.fake.service import World
from tests.fake.wire import Hangup, Request, Response, Server

_REFUSALS: dict[Kind, type[errors.Refused]] = {
    Kind.INTERNAL_ERROR: errors.InternalError,
    Kind.EXPIRED_TOKEN: errors.ExpiredToken,
    Kind.ACCESS_DENIED: errors.Denied,
    Kind.EXPIRED_ITERATOR: errors.ExpiredIterator,
}
_HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
#: What others answer in AWS's place.
_OTHERS: dict[Kind, Response] = {
    Kind.BAD_GATEWAY: Response(502, _HTML, "text/html"),
    Kind.NO_OBJECT: Response(502, b'"bad gateway"', "application/json"),
    Kind.NOT_UTF8: Response(403, b"<!DOCTYPE html>\xe9", "text/html"),
    Kind.NO_TYPE: Response(400, b'{"__type": 5}', "application/json"),
    Kind.PORTAL: Response(200, _HTML, "text/html"),
}
_STS = "https://sts.amazonaws.com/doc/2011-06-15/"


class Fake:
    """Use as a context manager: `with Fake() as fake: ... fake.url ... fake.control.split(...)`."""

    def __init__(
        self,
        port: int = 0,
        *,
        account: str = "123456789012",
        region: str = "us-east-1",
        floor_creation: bool = True,
    ) -> None:
        self.world = World(account, region, floor_creation)
        self.faults = Faults()
        #: Calls per operation, refused ones included.
        self.calls: Counter[str] = Counter()
        #: The last request body per operation, as it was received.
        self.received: dict[str, bytes] = {}
        #: The last request headers per operation.
        self.headers: dict[str, bytes] = {}
        self.lock = threading.RLock()
        self.server = Server(self._handle, port)
        self.control = Control(self)

    @property
    def url(self) -> str:
        return self.server.url

    def steer(self, verb: str, **arguments: Any) -> Any:
        """As FakeProcess does."""
        return getattr(self.control, verb)(**arguments)

    def close(self) -> None:
        self.server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _handle(self, request: Request) -> Response:
        if request.path == "/_control":
            return self._steer(request.body)
        service, _, operation = request.header("x-amz-target").partition(".")
        if not operation:
            return self._sts(request)
        with self.lock:
            self.calls[operation] += 1
            self.received[operation] = request.body
            self.headers[operation] = request.headers
        if said := self.faults.said(operation):
            return Response(0, b"", raw=said)
        faults = self.faults.take(operation)
        for kind in faults.keys() & _OTHERS.keys():
            return _OTHERS[kind]
        try:
            self._fail_first(faults, "Streams" in service)
            with self.lock:
                self.world.put_off = int(faults.get(Kind.UNPROCESSED, 0))
                body = self.world.run(operation, request.body)
        except errors.Refused as refused:
            answer = {"__type": f"com.amazonaws.dynamodb.v20120810#{refused.code}", "message": str(refused)}
            return Response(refused.status, msgspec.json.encode(answer))
        return self._spoil(faults, body)

    def _fail_first(self, faults: dict[Kind, float], stream: bool) -> None:
        """Faults that keep the operation from being carried out, or from being carried out at once."""
        if Kind.SLOW in faults:
            self.server.closing.wait(faults[Kind.SLOW])
        if Kind.STALL in faults:
            self.server.closing.wait()
            raise Hangup
        if Kind.THROTTLE in faults:
            raise errors.ThrottledStream if stream else errors.ThrottledTable
        for kind, refusal in _REFUSALS.items():
            if kind in faults:
                raise refusal

    def _spoil(self, faults: dict[Kind, float], body: bytes) -> Response:
        """Faults of an answer to an operation that was carried out."""
        if Kind.HANG_UP in faults:
            raise Hangup
        if Kind.EMPTY in faults:
            body = b"{}"
        if Kind.NO_TABLE in faults:
            body = b'{"Responses":{},"UnprocessedKeys":{}}'
        if Kind.UNKNOWN_TAG in faults:
            body = body.replace(b'{"S":', b'{"Z":')
        if faults.keys() & {Kind.EXTRA_KEY, Kind.DUPLICATE_KEY, Kind.DROP_KEY}:
            body = _other_items(faults, body)
        if Kind.TRUNCATE in faults:
            body = body[: len(body) // 2]
        return Response(200, body, crc32=1 if Kind.BAD_CRC in faults else None)

    def _steer(self, body: bytes) -> Response:
        """`{"verb": …, "arguments": {…}}` → `{"result": …}`, or 400 with what was wrong."""
        order = msgspec.json.decode(body)
        if order["verb"] not in VERBS:
            return Response(400, b"no such verb")
        try:
            result = self.steer(order["verb"], **order["arguments"])
        except (LookupError, TypeError, ValueError, errors.Refused) as error:
            return Response(400, repr(error).encode())
        return Response(200, msgspec.json.encode({"result": result}))

    def _sts(self, request: Request) -> Response:
        """AssumeRole and GetCallerIdentity; STS speaks forms and XML."""
        form = {name: values[0] for name, values in urllib.parse.parse_qs(request.body.decode()).items()}
        action = form.get("Action", "")
        with self.lock:
            self.calls[action] += 1
            self.received[action] = request.body
            self.headers[action] = request.headers
        if said := self.faults.said(action):
            return Response(0, b"", raw=said)
        faults = self.faults.take(action)
        if Kind.ACCESS_DENIED in faults:
            error = "<Error><Code>AccessDenied</Code><Message>not authorized</Message></Error>"
            return Response(
                403, f'<ErrorResponse xmlns="{_STS}">{error}</ErrorResponse>'.encode(), "text/xml"
            )
        account = self.world.account
        if action == "AssumeRole":
            expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
            inside = (
                "<Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
                f"<SessionToken>t</SessionToken><Expiration>{expires}</Expiration></Credentials>"
                f"<AssumedRoleUser><Arn>{form['RoleArn']}</Arn><AssumedRoleId>R:s</AssumedRoleId></AssumedRoleUser>"
            )
        else:
            inside = (
                f"<Arn>arn:aws:iam::{account}:user/fake</Arn><UserId>U</UserId><Account>{account}</Account>"
            )
        answer = (
            f'<{action}Response xmlns="{_STS}"><{action}Result>{inside}</{action}Result></{action}Response>'
        )
        return Response(200, answer.encode(), "text/xml")


def _other_items(faults: dict[Kind, float], body: bytes) -> bytes:
    """A BatchGetItem answer with an item too many, twice, or too few."""
    answer: dict[str, Any] = msgspec.json.decode(body)
    for items in answer["Responses"].values():
        if Kind.DROP_KEY in faults:
            del items[: int(faults[Kind.DROP_KEY])]
        if Kind.DUPLICATE_KEY in faults:
            items.append(items[0])
        if Kind.EXTRA_KEY in faults:
            stranger = {"S": "a-key-nobody-asked-for"}
            items.append({name: stranger if "S" in value else value for name, value in items[0].items()})
    return msgspec.json.encode(answer)

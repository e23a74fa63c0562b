"""An answer that is an error: what AWS says of it, or that something on the way to AWS answered.

Reads: status, headers and body of an answer. Writes: nothing. Never: sockets. Whatever stands there raises
nothing: a gateway's page may be HTML, text that is not UTF-8, compressed, or JSON of any shape.
"""

import re
from collections.abc import Mapping

import msgspec

from pipeline.aws.wire import UNREADABLE
from pipeline.core.quoting import quoted

#: `com.amazonaws.dynamodb.v20120810#ThrottlingException:http://…`: the code is what stands in the middle.
_CODE = re.compile(r"(?:[^#:]*#)?([A-Za-z][A-Za-z0-9.]{0,99})(?::.*)?", re.DOTALL)
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


class Refusal(Exception):
    """code: AWS's, "" where its answer has none, so that it cannot be AWS's. says: for people."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        fields = _fields(body)
        named = _CODE.fullmatch(_text(fields, "__type"))
        message = quoted(_text(fields, "message") or _text(fields, "Message"))
        self.status = status
        self.headers = headers
        self.code = named[1] if named else ""
        if self.code:
            self.says = f"{self.code}: {message}" if message else self.code
        else:
            # What stands in a page is left out: a gateway may repeat the request in it, keys and all.
            kind = quoted(headers.get("content-type", "no content type"), 60)
            self.says = f"HTTP {status} and no error of AWS ({kind}, {len(body):,} bytes)"
        super().__init__(self.says)


def _fields(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _decode_fields(body)
    except UNREADABLE:
        return {}


def _text(fields: Mapping[str, msgspec.Raw], name: str) -> str:
    try:
        return _decode_text(fields[name])
    except (KeyError, *UNREADABLE):
        return ""

"""What came back over the wire, read within bounds; and whether an error is AWS's or somebody else's.

Reads: one answer of an HTTP connection. Writes: nothing. Never: an answer without end, what a body means.

Between this host and AWS stand proxies, gateways and portals. They answer in AWS's place with pages, with
JSON of their own, with bodies that are cut, compressed or endless; none of that may end a process.
"""

import re
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import msgspec
from botocore.exceptions import HTTPClientError

#: BatchGetItem gives 16 MB of items; written as JSON, escapes and base64 make them longer.
BODY_BYTES = 128 * 2**20
#: AWS's errors are a few hundred bytes; of a page that is longer nothing is of use.
ERROR_BYTES = 2**20
#: For a body in all: 16 MB need 20 s at 7 Mbit/s, and SIGTERM has to be through in 30.
BODY_SECONDS = 20.0
_CHUNK_BYTES = 64 * 2**10
#: A code of AWS's, behind its namespace: `com.amazonaws.dynamodb.v20120810#ResourceNotFoundException`.
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9.]{0,99}")


class Answer(NamedTuple):
    """A complete answer. headers: by name, in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Raw(Protocol):
    """urllib3's response."""

    def read1(self, amount: int, /) -> bytes: ...

    def close(self) -> None: ...


class Unreadable(HTTPClientError):  # type: ignore[misc]
    """A body that does not end, in bytes or in time, or that breaks off."""

    fmt = "the answer {error}"


def read(raw: Raw, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> bytes:
    """The whole body. Raises Unreadable, and gives the connection up then."""
    parts: list[bytes] = []
    left = most_bytes
    deadline = clock() + BODY_SECONDS
    try:
        while part := raw.read1(_CHUNK_BYTES):
            parts.append(part)
            left -= len(part)
            if left < 0:
                raise Unreadable(error=f"is longer than {most_bytes:,} bytes")
            if clock() > deadline:
                raise Unreadable(error=f"took longer than {BODY_SECONDS:g} s")
    except Unreadable:
        raw.close()
        raise
    except (
        Exception
    ) as error:  # as botocore does: urllib3's, http.client's and the socket's, by no common name
        raw.close()
        raise Unreadable(error=f"breaks off ({type(error).__name__})") from error
    return b"".join(parts)


class Refusal(NamedTuple):
    """An error: AWS's code and message; the status and the shape of what came, where it is not AWS's."""

    code: str
    message: str


def refusal(answer: Answer) -> Refusal:
    """Who refused, and why."""
    try:
        told = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = None
    kind = told.get("__type") if isinstance(told, dict) else None
    code = kind.rpartition("#")[2].partition(":")[0] if isinstance(kind, str) else ""
    if not _CODE.fullmatch(code):
        shape = f"{answer.headers.get('content-type', 'no content type')}, {len(answer.body):,} bytes"
        return Refusal(str(answer.status), f"HTTP {answer.status}, not an answer of AWS's ({shape})")
    message = told.get("message", told.get("Message"))
    return Refusal(code, message if isinstance(message, str) else "")

"""The body of an answer, read within bounds of size and time; what it means is for others.

Reads: one answer of an HTTP connection. Writes: nothing.
"""

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from botocore.exceptions import HTTPClientError

#: BatchGetItem gives 16 MB of items; written as JSON, escapes and base64 make them longer.
BODY_BYTES = 128 * 2**20
#: AWS's errors are a few hundred bytes; of a page that is longer nothing is of use.
ERROR_BYTES = 64 * 2**10
#: For a body in all: 16 MB need 20 s at 7 Mbit/s, and SIGTERM has to be through in 30.
BODY_SECONDS = 20.0
_CHUNK_BYTES = 64 * 2**10


class Raw(Protocol):
    """urllib3's response."""

    def read1(self, amount: int, /) -> bytes: ...

    def close(self) -> None: ...


class Unreadable(HTTPClientError):  # type: ignore[misc]
    """A body that does not end, in bytes or in time, or that breaks off."""

    fmt = "the answer {error}"


def read(raw: Raw, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> bytes:
    """The whole body. Raises Unreadable, and gives the connection up then."""
    try:
        return b"".join(_parts(raw, most_bytes, clock))
    except Unreadable:
        raw.close()
        raise
    except Exception as error:  # urllib3's, http.client's, the socket's: as botocore does where it reads
        raw.close()
        raise Unreadable(error=f"breaks off ({type(error).__name__})") from error


def _parts(raw: Raw, most_bytes: int, clock: Callable[[], float]) -> Iterator[bytes]:
    deadline = clock() + BODY_SECONDS
    while part := raw.read1(_CHUNK_BYTES):
        most_bytes -= len(part)
        if most_bytes < 0:
            raise Unreadable(error="is too long")
        if clock() > deadline:
            raise Unreadable(error=f"took longer than {BODY_SECONDS:g} s")
        yield part

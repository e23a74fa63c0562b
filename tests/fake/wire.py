"""A small, fast HTTP/1.1 server: one thread per connection, one `recv` and one `sendall` per request.

Reads: sockets on 127.0.0.1. Writes: the same. Never: protocol meaning, other addresses.

`http.server` costs ~ 150 µs a request; this one ~ 30, so that it can stand beside a benchmark.
"""

import contextlib
import email.utils
import socket
import threading
import time
import zlib
from collections.abc import Callable
from typing import NamedTuple


class Request(NamedTuple):
    path: str
    headers: bytes  # raw, without the request line; `header` finds one
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header, "" when absent."""
        mark = b"\r\n" + name.lower().encode() + b":"
        at = self.headers.lower().find(mark)
        if at < 0:
            return ""
        start = at + len(mark)
        return self.headers[start : self.headers.index(b"\r\n", start)].strip().decode("latin-1")


class Response(NamedTuple):
    status: int
    body: bytes
    content_type: str = "application/x-amz-json-1.0"
    crc32: int | None = None  # None: the right one
    raw: bytes = b""  # sent instead of all that, and then the connection is closed


class Hangup(Exception):
    """Close the connection without an answer."""


class Server:
    """Listens as soon as it is made. `handle` runs on the connection's thread."""

    def __init__(self, handle: Callable[[Request], Response], port: int = 0) -> None:
        self.date_skew_seconds = 0.0
        self._handle = handle
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.closing = threading.Event()
        self._connections: set[socket.socket] = set()
        threading.Thread(target=self._accept, name="fake-accept", daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.closing.set()
        # close() alone does not wake a thread that is blocked in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Cut every open connection, as a failing load balancer does."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="fake-serve", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        pending = b""
        try:
            while True:
                request, pending = _receive(connection, pending)
                if request is None:
                    return
                response = self._handle(request)
                if response.raw:
                    connection.sendall(response.raw)
                    return
                connection.sendall(self._encode(response))
        except (Hangup, OSError):
            return
        finally:
            self._connections.discard(connection)
            connection.close()

    def _encode(self, response: Response) -> bytes:
        crc32 = zlib.crc32(response.body) if response.crc32 is None else response.crc32
        date = email.utils.formatdate(time.time() + self.date_skew_seconds, usegmt=True)
        head = (
            f"HTTP/1.1 {response.status} Fake\r\nDate: {date}\r\nContent-Type: {response.content_type}\r\n"
            f"Content-Length: {len(response.body)}\r\nx-amz-crc32: {crc32}\r\n"
            "x-amzn-RequestId: FAKE\r\nConnection: keep-alive\r\n\r\n"
        )
        return head.encode() + response.body


def _receive(connection: socket.socket, pending: bytes) -> tuple[Request | None, bytes]:
    """The next request and the bytes that came after it; None when the client is gone."""
    while (end := pending.find(b"\r\n\r\n")) < 0:
        if not (chunk := connection.recv(262144)):
            return None, b""
        pending += chunk
    line, _, rest = pending[: end + 2].partition(b"\r\n")
    request = Request(line.split(b" ")[1].decode(), b"\r\n" + rest, b"")
    body_end = end + 4 + int(request.header("content-length") or 0)
    parts, have = [pending], len(pending)
    while have < body_end:
        if not (chunk := connection.recv(262144)):
            return None, b""
        parts.append(chunk)
        have += len(chunk)
    whole = b"".join(parts)
    return request._replace(body=whole[end + 4 : body_end]), whole[body_end:]

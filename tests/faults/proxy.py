"""A TCP proxy between the program and a server: it loses replies, stands still, or tells when to kill.

Reads and writes: sockets on 127.0.0.1. Never: changes a byte of what it lets through.

It may also refuse requests in the server's stead, and lead new connections to another server (`port`).

A request is named by what it asks for: a Redis command or the script that it runs ("publish", "HGETALL"), or
an AWS operation ("GetRecords"). Both protocols are request and reply on one connection, so whatever comes
back after a request is its reply.
"""

import contextlib
import hashlib
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from pipeline.store import scripts

_COMMAND = re.compile(rb"\*\d+\r\n\$\d+\r\n([A-Z]+)\r\n(?:\$40\r\n([0-9a-f]{40})\r\n)?")
_OPERATION = re.compile(rb"X-Amz-Target: *\w+\.(\w+)", re.IGNORECASE)
_CHUNK = 1 << 18


def _scripts() -> dict[bytes, str]:
    return {
        hashlib.sha1(scripts.source(name).encode()).hexdigest().encode(): name for name in scripts.names()
    }


_SCRIPTS = _scripts()


def names(chunk: bytes) -> list[str]:
    """What a piece of a request's beginning asks for."""
    redis = [_SCRIPTS.get(sha, word.decode()) for word, sha in _COMMAND.findall(chunk)]
    return redis or [word.decode() for word in _OPERATION.findall(chunk)]


class _Line:
    """One connection: the program's end, the server's end."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far
        self.lose_reply = False
        self.still = False
        self.refusing = ""

    def cut(self) -> None:
        for end in (self.near, self.far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Use as a context manager. Faults hold for requests that begin after they were set.

    on_request: called with a request's names and its connection's local port at the program; what it returns
    says what becomes of the request: "pass", "lose" (never sent), "lose reply" (carried out, then cut),
    "still" (neither this request nor the connection ever goes on), or the line that is answered in the
    server's stead ("-LOADING …").
    server_port: where new connections lead; those that are open stay where they are.
    """

    def __init__(self, port: int) -> None:
        self.server_port = port
        self._lines: set[_Line] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.seen: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.on_request: Callable[[list[str], int], str] = lambda _names, _port: "pass"
        #: Called with the connection's local port at the program when a reply is lost.
        self.on_lost_reply: Callable[[int], None] = lambda _port: None
        self._still = False
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End every connection."""
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            line.cut()

    def stand_still(self, still: bool = True) -> None:
        """Half-open: connections stay, new ones are accepted, nothing goes through. False: go on, anew."""
        self._still = still
        if not still:
            self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, (_, port) = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self.server_port))
            except OSError:
                if self._listener.fileno() < 0:
                    return
                with contextlib.suppress(UnboundLocalError, OSError):
                    near.close()  # the server is down: so are we
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = _Line(near, far)
            with self._lock:
                self._lines.add(line)
            threading.Thread(target=self._ask, args=(line, port), daemon=True).start()
            threading.Thread(target=self._answer, args=(line, port), daemon=True).start()

    def _ask(self, line: _Line, port: int) -> None:
        with contextlib.suppress(OSError):
            while chunk := line.near.recv(_CHUNK):
                asked = names(chunk)
                self.seen.update(asked)
                fate = self.on_request(asked, port) if asked else "pass"
                line.still = line.still or self._still or fate == "still"
                if line.still:
                    continue
                known = fate in {"pass", "lose", "lose reply"}
                line.refusing = fate if not known else "" if asked else line.refusing
                if line.refusing:
                    self.refused.update(asked)
                    line.near.sendall(f"{line.refusing}\r\n".encode() * len(asked))
                    continue
                if fate == "lose":
                    break
                line.lose_reply = line.lose_reply or fate == "lose reply"  # a long request has several pieces
                line.far.sendall(chunk)
        self._end(line)

    def _answer(self, line: _Line, port: int) -> None:
        with contextlib.suppress(OSError):
            while chunk := line.far.recv(_CHUNK):
                if line.lose_reply:
                    self.on_lost_reply(port)
                    break
                if not (line.still or self._still):
                    line.near.sendall(chunk)
        self._end(line)

    def _end(self, line: _Line) -> None:
        line.cut()
        with self._lock:
            if line in self._lines:
                self._lines.discard(line)
                return
        line.near.close()
        line.far.close()


class LoseReplies:
    """`on_request` that loses the first reply to every kind of request, and every so many after it."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._seen: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()

    def __call__(self, asked: Iterable[str], _port: int) -> str:
        fate = "pass"
        for name in asked:
            if self._seen[name] % self._every == 0:
                self.lost[name] += 1
                fate = "lose reply"
            self._seen[name] += 1
        return fate

"""How metrics leave the process: slot files shared by a process group, and one HTTP port.

Reads: slot files. Writes: HTTP answers. Never: the store. What is measured is declared by the neighbours;
beside /metrics and /healthz, the pages that the caller hands in are served.
"""

import errno
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import NamedTuple

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from pipeline.errors import ConfigurationError, PortTaken
from pipeline.metrics.declared import PREFIX, Declared

log = structlog.get_logger(__name__)

#: What prometheus_client raises for a slot file that is empty, cut short, overwritten or just gone.
_UNREADABLE = (OSError, ValueError, RuntimeError, struct.error)
UNREADABLE_FILES = Declared(
    PREFIX + "metrics_unreadable_files",
    "gauge",
    "Slot files that had to be left out of this scrape.",
    {},
    "supervisor",
)

#: Of every answer: its type is not guessed, and it stands in no frame.
SAFE_HEADERS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}
#: Seconds after which a client that does not finish its request is dropped.
CLIENT_TIMEOUT_SECONDS = 10.0


class SlotFilesCollector(Collector):
    """The sum over the slot files; a file that cannot be read is left out and counted, not fatal.

    prometheus_client fails the whole scrape for one file of length 0, which a process killed at the
    wrong moment or a full disk leaves behind.
    """

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def collect(self) -> Iterator[Metric]:
        files = [str(file) for file in self._directory.glob("*.db")]
        readable = files
        try:
            merged = list(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]
        except _UNREADABLE:
            readable = [file for file in files if _is_readable(file)]
            merged = list(MultiProcessCollector.merge(readable))  # type: ignore[no-untyped-call]
        yield from merged
        yield GaugeMetricFamily(
            UNREADABLE_FILES.name, UNREADABLE_FILES.help, value=len(files) - len(readable)
        )


def _is_readable(file: str) -> bool:
    try:
        for _ in MmapedDict.read_all_values_from_file(file):  # type: ignore[no-untyped-call]
            pass
    except _UNREADABLE:
        return False
    return True


class MetricsServer:
    """A running /metrics and /healthz port. `port` is the one that was taken when 0 was asked for."""

    def __init__(self, server: socketserver.TCPServer) -> None:
        self._server = server
        self.port: int = server.server_address[1]
        self._thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Served(NamedTuple):
    """An answer of a page."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = {}


#: What answers a path, given the question behind it ("" = none).
Page = Callable[[str], Served]


class _Listener(socketserver.ThreadingTCPServer):
    # http.server.HTTPServer would look the host up in DNS at start, which may take seconds.
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news, and nothing goes to standard error but log lines."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("a request for metrics failed", exc_info=error)


class _Listener6(_Listener):
    address_family = socket.AF_INET6


def serve(
    bind: str,
    port: int,
    registry: CollectorRegistry,
    health: Callable[[], tuple[bool, str]],
    pages: Mapping[str, Page] | None = None,
) -> MetricsServer:
    """Serve `registry` at /metrics, `health` (fine?, one line why) at /healthz: 200, or 503 if not fine; and
    `pages`, by their paths.

    port 0 takes any free one. Raises PortTaken, or ConfigurationError when the address cannot be used.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_TIMEOUT_SECONDS

        def do_GET(self) -> None:
            path, _, question = self.path.partition("?")
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, content_type, encode(registry))
            elif path == "/healthz":
                fine, why = health()
                self._answer(200 if fine else 503, "text/plain; charset=utf-8", f"{why}\n".encode())
            elif page := (pages or {}).get(path):
                served = page(question)
                self._answer(served.status, served.content_type, served.body, served.headers)
            else:
                self._answer(404, "text/plain; charset=utf-8", b"see /metrics and /healthz\n")

        def _answer(
            self, status: int, content_type: str, body: bytes, headers: Mapping[str, str] | None = None
        ) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": content_type, **SAFE_HEADERS, **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - as http.server names it

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as http.server names it
            """A line for every scrape says nothing."""

    return MetricsServer(_listening(bind, port, Handler))


def check_port(bind: str, port: int) -> None:
    """Raises what `serve` would: to be asked before anything is begun."""
    _listening(bind, port, BaseHTTPRequestHandler).server_close()


def _listening(bind: str, port: int, handler: type[BaseHTTPRequestHandler]) -> _Listener:
    try:
        return (_Listener6 if ":" in bind else _Listener)((bind, port), handler)
    except (OSError, OverflowError) as error:
        is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise (PortTaken if is_taken else ConfigurationError)(
            f"cannot serve metrics on {bind}:{port} ({error})",
            "choose another --metrics-port or --bind-address",
        ) from error

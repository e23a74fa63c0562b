"""One emulated AWS account with DynamoDB and DynamoDB Streams, as a process of its own.

Reads: HTTP on a free port of 127.0.0.1, or where it is told. Writes: nothing outside its memory.

Run as `python -m pipeline.demo.emulator ACCOUNT [HOST:PORT]`; says `{"url": …}` when it listens. Source and
target are two such processes with two account numbers: one process of moto serves about 60 BatchGetItem of
100 keys a second, and a monitor that mixed up its sides would find no table there.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from pipeline.demo.processes import say

#: Port 0: any free one.
ANYWHERE = "127.0.0.1:0"


class _Handler(MotoRequestHandler):
    #: Keep connections open: werkzeug's default closes after every answer.
    protocol_version = "HTTP/1.1"
    #: Head and body are two small writes: without this, Nagle and delayed ACK cost 40 ms a request.
    disable_nagle_algorithm = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def one_at_a_time(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """moto's tables are plain dicts that requests change while others iterate over them."""
    lock = threading.Lock()

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with lock:
            return application(environ, start_response)

    return serve


def main(argv: list[str]) -> None:
    """Serve account `argv[0]` at `argv[1]` (host:port) until the process is ended."""
    os.environ["MOTO_ACCOUNT_ID"] = argv[0]
    application = one_at_a_time(DomainDispatcherApplication(create_backend_app))
    host, _, port = (argv[1] if len(argv) > 1 else ANYWHERE).partition(":")
    server = make_server(host, int(port), application, threaded=True, request_handler=_Handler)
    say(url=f"http://{host}:{server.server_address[1]}")
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])

"""One emulated AWS account with DynamoDB and DynamoDB Streams, as a process of its own.

Reads: HTTP on a free port of 127.0.0.1. Writes: nothing outside its memory. Never: any other address.

Run as `python -m pipeline.demo.emulator ACCOUNT`; says `{"url": …}` when it listens. Source and target are
two such processes with two account numbers: one process of moto serves about 60 BatchGetItem of 100 keys a
second, and a monitor that mixed up its sides would find no table there.
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

HOST = "127.0.0.1"


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
    os.environ["MOTO_ACCOUNT_ID"] = argv[0]
    application = one_at_a_time(DomainDispatcherApplication(create_backend_app))
    server = make_server(HOST, 0, application, threaded=True, request_handler=_Handler)
    say(url=f"http://{HOST}:{server.server_address[1]}")
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])

"""Who is told by Alertmanager: a web server that keeps what each receiver is sent, and when.

Reads: requests on a port of 127.0.0.1. Writes: nothing.
"""

import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

Labels = dict[str, str]


class Told(NamedTuple):
    """One alert of a notification. at_seconds: monotonic. began: when it began to fire, RFC 3339."""

    receiver: str
    labels: Labels
    firing: bool
    began: str
    at_seconds: float


class Receivers:
    """Takes what Alertmanager sends to <url>/<receiver>."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        taken = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                taken.extend(_alerts(self.path.strip("/"), sent))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as http.server names it
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def switched_on(self, configuration: dict[str, Any]) -> None:
        """Give every receiver of an Alertmanager's configuration a webhook that leads here."""
        for one in configuration["receivers"]:
            one["webhook_configs"] = [{"url": f"{self.url}/{one['name']}"}]


def _alerts(receiver: str, sent: Mapping[str, Any]) -> list[Told]:
    now = time.monotonic()
    return [
        Told(receiver, alert["labels"], alert["status"] == "firing", alert["startsAt"], now)
        for alert in sent["alerts"]
    ]

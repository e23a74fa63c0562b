"""A headless Chromium, driven over its pipe: what a page says on the console, asks for, and looks like.

Reads: a page. Writes: a profile in a directory of its own. Never: a port, the network beyond the page itself.
The DevTools protocol (https://chromedevtools.github.io/devtools-protocol/) over --remote-debugging-pipe: one
JSON text after the other, each ended by a zero byte.
"""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

from tests.servers import PATIENCE, ROOT, needed

ANSWER_SECONDS = PATIENCE * 60.0


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


class Browser:
    """One Chromium with one page at a time."""

    def __init__(self, profile: Path) -> None:
        binary = needed("chromium", shutil.which("chromium"), "apt-get install chromium")
        # Chromium reads descriptor 3 and writes 4: ours must lie beyond them.
        (theirs_in, self._out), (self._in, theirs_out) = _pipe(), _pipe()
        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
        quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
        self._process = subprocess.Popen(
            (
                *(
                    "bash",
                    "-c",
                    f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}',
                    binary,
                    *options,
                    *quiet,
                ),
                *(f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"),
            ),
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number = 0
        self._answers: dict[int, Queue[dict[str, Any]]] = {}
        self.events: Queue[dict[str, Any]] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with os.fdopen(self._in, "rb") as pipe:
            rest = b""
            while chunk := pipe.read1(1 << 20):
                *messages, rest = (rest + chunk).split(b"\0")
                for message in map(json.loads, messages):
                    if "id" in message:
                        self._answers[message["id"]].put(message)
                    else:
                        self.events.put(message)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        answers = self._answers[self._number] = Queue()
        said = {"id": self._number, "method": method, "params": parameters}
        if session:
            said["sessionId"] = session
        os.write(self._out, json.dumps(said).encode() + b"\0")
        try:
            answer = answers.get(timeout=ANSWER_SECONDS)
        except Empty:
            pytest.fail(f"Chromium did not answer {method}")
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._out)
        self._process.terminate()
        self._process.wait(120)


class Page:
    """One page: opened, looked at, closed."""

    def __init__(
        self, browser: Browser, width: int, height: int, *, dark: bool = False, media: str = ""
    ) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._target = target
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.requests: list[str] = []
        self.said: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

    def wait_for(self, event: str, deadline_seconds: float = ANSWER_SECONDS) -> None:
        """Take in what happens until `event` does."""
        while True:
            try:
                seen = self._browser.events.get(timeout=deadline_seconds)
            except Empty:
                pytest.fail(f"no {event}")
            if seen.get("sessionId") != self._session:
                continue
            self._note(seen["method"], seen["params"])
            if seen["method"] == event:
                return

    def _note(self, method: str, told: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.said.append(json.dumps(told))

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text_after_load(self) -> str:
        """What can be read once the page has been loaded the next time."""
        self.wait_for("Page.loadEventFired")
        return str(self.evaluate("document.body.innerText"))

    def accessibility(self) -> list[str]:
        """What axe-core finds wrong, in words."""
        axe = ROOT / ".tools" / "axe-core" / "axe.min.js"
        script = Path(needed("axe-core", axe if axe.exists() else None, ".ci/run shows how to unpack it"))
        self.evaluate(script.read_text(encoding="utf-8"))
        found = self.evaluate("axe.run().then(r => JSON.stringify(r.violations))")
        return [
            f"{one['id']}: {node['html'][:200]} {node['failureSummary']}"
            for one in json.loads(found)
            for node in one["nodes"]
        ]

    def picture(self) -> bytes:
        """The whole page as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that ends with the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(Path(profile))
        try:
            yield browser
        finally:
            browser.close()

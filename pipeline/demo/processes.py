"""The demo's processes: started tied to the demo, listened to, and all of them ended again.

Reads: JSON lines from the children's standard output. Writes: one log file per child. No process is left
behind, whether the demo ends by itself, by Ctrl-C or by kill -9 (see `tether`).
"""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from pipeline.process.tether import tied

#: How long a child may take to end after SIGTERM before it is killed; the monitor's own grace is 25 s.
GRACE_SECONDS = 28.0
POLL_SECONDS = 0.05


class ChildFailed(Exception):
    """A process of the demo ended or hung; the message names its log and shows the end of it."""


class Child:
    """One process. What it says as JSON objects, one a line, is merged into `said`, newest last."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str], talks: bool
    ) -> None:
        self.name, self.log = name, log
        self.said: dict[str, Any] = {}
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                tied([*command]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else sink,
                stderr=subprocess.STDOUT if not talks else sink,
                env=dict(env),
                start_new_session=True,  # Ctrl-C is for the demo alone: it ends the others in order
            )
        self._listener = threading.Thread(target=self._listen, args=(self.process.stdout,), daemon=True)
        if talks:
            self._listener.start()

    def _listen(self, stdout: IO[bytes]) -> None:
        with stdout:
            for line in stdout:
                self.said = {**self.said, **json.loads(line)}

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def failed(self, why: str) -> ChildFailed:
        tail = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        return ChildFailed("\n".join([f"{self.name} {why}; the end of its log {self.log}:", *tail]))

    def wait_until_said(self, name: str, seconds: float) -> Any:
        """What the child says under that name. Raises ChildFailed when it ends or `seconds` pass first."""
        wait_until(lambda: name in self.said or not self.alive, seconds, lambda: self.failed("says nothing"))
        if name not in self.said:
            raise self.failed(f"ended with code {self.process.returncode}")
        return self.said[name]

    def finish(self, seconds: float) -> None:
        """Wait for a successful end. Raises ChildFailed."""
        wait_until(lambda: not self.alive, seconds, lambda: self.failed("does not end"))
        if self.process.returncode != 0:
            raise self.failed(f"ended with code {self.process.returncode}")
        if self._listener.is_alive():
            self._listener.join()

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


class Crew:
    """All processes of one demo; leaving the context ends them, last started first."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        self._directory, self.env = directory, env
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # One by one, so that the monitor stops in order while its tables and its state still answer.
        for child in reversed(self._children):
            child.signal(signal.SIGTERM)
            try:
                child.process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                child.signal(signal.SIGKILL)
                child.process.wait()

    def start(self, name: str, *command: str, talks: bool = True) -> Child:
        """Start `python COMMAND…`. talks: its standard output is JSON lines; else it goes to the log."""
        child = Child(
            name,
            [sys.executable, *command],
            self._directory / f"{name}.log",
            self.env,
            talks,
        )
        self._children.append(child)
        return child

    def check(self, *needed: Child) -> None:
        """Raises ChildFailed when one of these is not running any more."""
        for child in needed:
            if not child.alive:
                raise child.failed(f"ended with code {child.process.returncode}")


def wait_until(done: Callable[[], bool], seconds: float, failure: Callable[[], Exception]) -> None:
    """Poll until `done`, at most `seconds`; then raise what `failure` makes."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= deadline:
            raise failure()
        time.sleep(POLL_SECONDS)


def say(**facts: object) -> None:
    """What a child tells the demo: one JSON object on one line."""
    print(json.dumps(facts), flush=True)

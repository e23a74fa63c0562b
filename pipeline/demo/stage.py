"""The demo's stage: starts emulators, state, monitor, replicator and traffic, and says what they do.

Reads: the store, what the processes say. Writes: both emulated tables' first contents. The monitor's figures
come from where an operator gets them: the store's ledger and `findings --json`.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.core.canonical import KeySchema
from pipeline.core.figures import Figures
from pipeline.demo import tables, traffic
from pipeline.demo.processes import Child, ChildFailed, Crew, wait_until
from pipeline.errors import StoreError
from pipeline.store import StoreView

TABLE, MIGRATION = "orders", "demo"
SOURCE_REGION, TARGET_REGION = "eu-west-1", "us-east-1"
SOURCE_ACCOUNT, TARGET_ACCOUNT = "111111111111", "222222222222"
CONVERGE_SECONDS, STABLE_SECONDS = 8, 5
BOOT_SECONDS = 40.0
SCHEMA = KeySchema("pk", "S", "sk", "N")
COMMAND = ("-m", "pipeline.cli")


class Stage:
    """Everything the demo runs, in the order in which it has to start. Any method raises ChildFailed."""

    def __init__(self, crew: Crew, directory: Path, redis_url: str, seed: int) -> None:
        self._crew, self._redis_url, self._seed = crew, redis_url, seed
        self._store: StoreView | None = None  # once the migration has begun
        self._truth = directory / "truth.json"
        #: Keys that had an open finding at any look.
        self.accused: set[str] = set()

    def build(self) -> None:
        """Tables with their first contents, a stream, and a monitor that reads it."""
        source = self._crew.start("source-emulator", "-m", "pipeline.demo.emulator", SOURCE_ACCOUNT)
        target = self._crew.start("target-emulator", "-m", "pipeline.demo.emulator", TARGET_ACCOUNT)
        self._urls = {
            "source": source.wait_until_said("url", BOOT_SECONDS),
            "target": target.wait_until_said("url", BOOT_SECONDS),
        }
        self._fill()
        self.monitor = self._start_monitor()

    def _fill(self) -> None:
        clients = (
            tables.client(self._urls["source"], SOURCE_REGION),
            tables.client(self._urls["target"], TARGET_REGION),
        )
        for dynamodb in clients:
            tables.create(dynamodb, TABLE)
            for item in traffic.baseline(self._seed):
                dynamodb.put_item(TableName=TABLE, Item=item)
        self._stream_arn = tables.enable_stream(clients[0], TABLE)

    def _start_monitor(self) -> Child:
        options = ["--target-table", TABLE, "--iterator-type", "TRIM_HORIZON", "--metrics-port", "0"]
        options += ["--converge-within", f"{CONVERGE_SECONDS}s", "--stable-for", f"{STABLE_SECONDS}s"]
        for side, region in (("source", SOURCE_REGION), ("target", TARGET_REGION)):
            options += [f"--{side}-region", region, f"--{side}-endpoint-url", self._urls[side]]
        made = self._crew.start("monitor", *COMMAND, "run", *self._state(), *options, talks=False)
        wait_until(
            lambda: self._reads() or not made.alive, BOOT_SECONDS, lambda: made.failed("does not read")
        )
        self._crew.check(made)
        return made

    def _state(self) -> list[str]:
        return ["--redis-url", self._redis_url, "--migration", MIGRATION]

    def _reads(self) -> bool:
        try:
            self._store = self._store or StoreView.open(self._redis_url, MIGRATION)
            return self._store is not None and self._store.reader_state().readers > 0
        except StoreError:
            return False

    def start_traffic(self, plan: Path, changes: int, seconds: float) -> None:
        shared = ["--table", TABLE, "--seed", str(self._seed)]
        options = [
            *shared,
            "--stream-arn",
            self._stream_arn,
            "--plan",
            str(plan),
            "--truth",
            str(self._truth),
        ]
        for side, region in (("source", SOURCE_REGION), ("target", TARGET_REGION)):
            options += [f"--{side}-region", region, f"--{side}-endpoint-url", self._urls[side]]
        self.replicator = self._crew.start("replicator", "-m", "pipeline.demo.replicator", *options)
        self.replicator.wait_until_said("read", BOOT_SECONDS)
        where = ["--endpoint-url", self._urls["source"], "--region", SOURCE_REGION]
        amount = ["--changes", str(changes), "--seconds", str(seconds)]
        self.traffic = self._crew.start("traffic", "-m", "pipeline.demo.traffic", *where, *shared, *amount)

    def end_traffic(self) -> None:
        """The source is at rest: let the replicator finish."""
        self.traffic.finish(1)
        self.replicator.signal(signal.SIGUSR1)

    def truth(self) -> dict[str, Any]:
        """What the replicator wrote down when it had finished."""
        self.replicator.finish(1)
        written: dict[str, Any] = json.loads(self._truth.read_text(encoding="utf-8"))
        return written

    def figures(self) -> Figures | None:
        """What the monitor knows now; None while its state cannot be read."""
        self._crew.check(self.monitor)
        if self._store is None:
            return None
        try:
            self.accused.update(_text(finding.key) for finding in self._store.findings())
            return self._store.figures()
        except StoreError:
            return None

    def findings(self) -> dict[str, str]:
        """The open findings' kind by key text, as an operator gets them."""
        command = [sys.executable, *COMMAND, "findings", *self._state(), "--json", "--show-keys"]
        ended = subprocess.run(command, capture_output=True, text=True, env=self._crew.env, check=False)
        if ended.returncode not in (0, 1):
            raise ChildFailed(f"`findings` ended with code {ended.returncode}: {ended.stderr.strip()}")
        lines = map(json.loads, ended.stdout.splitlines())
        return {tables.as_text(line["key"]): line["kind"] for line in lines}


def _text(key: bytes) -> str:
    """A compact key of the store as this table's key text."""
    return tables.as_text(json.loads(SCHEMA.wire(key)))

"""The demo's stage: starts emulators, monitor, replicator, traffic and comparison, and says what they do.

Reads: the store, what the processes say. Writes: both emulated tables' first contents. The monitor's figures
come from where an operator gets them: the store's ledger and `findings --json`.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline import exit_codes
from pipeline.core.canonical import KeySchema
from pipeline.core.figures import Figures
from pipeline.demo import imported, tables
from pipeline.demo import plan as plans
from pipeline.demo.processes import Child, ChildFailed, Crew, wait_until
from pipeline.errors import StoreError
from pipeline.store import StoreView

TABLE, MIGRATION = "orders", "demo"
SOURCE_REGION, TARGET_REGION = "eu-west-1", "us-east-1"
SOURCE_ACCOUNT, TARGET_ACCOUNT = "111111111111", "222222222222"
CONVERGE_SECONDS, STABLE_SECONDS = 8, 5
BOOT_SECONDS = 40.0
#: A few hundred items are one segment; several show more.
SEGMENTS = 4
SCHEMA = KeySchema("pk", "S", "sk", "N")
COMMAND = ("-m", "pipeline.cli")


class Stage:
    """Everything the demo runs, in the order in which it has to start. Any method raises ChildFailed."""

    def __init__(self, crew: Crew, directory: Path, redis_url: str, plan: Path, seed: int) -> None:
        self._crew, self._redis_url, self._plan, self._seed = crew, redis_url, plan, seed
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
        held = imported.contents(plans.load(self._plan).imported, self._seed)
        for dynamodb, items in zip(clients, held, strict=True):
            tables.create(dynamodb, TABLE)
            tables.fill(dynamodb, TABLE, items)
        self._stream_arn = tables.enable_stream(clients[0], TABLE)

    def _start_monitor(self) -> Child:
        options = ["--iterator-type", "TRIM_HORIZON"]
        made = self._crew.start("monitor", *COMMAND, "run", *self._options(), *options, talks=False)
        wait_until(
            lambda: self._reads() or not made.alive, BOOT_SECONDS, lambda: made.failed("does not read")
        )
        self._crew.check(made)
        return made

    def _options(self) -> list[str]:
        """What `run` and `compare` are told."""
        options = [*self._state(), "--target-table", TABLE, "--metrics-port", "0"]
        options += ["--converge-within", f"{CONVERGE_SECONDS}s", "--stable-for", f"{STABLE_SECONDS}s"]
        for side, region in (("source", SOURCE_REGION), ("target", TARGET_REGION)):
            options += [f"--{side}-region", region, f"--{side}-endpoint-url", self._urls[side]]
        return options

    def _state(self) -> list[str]:
        return ["--redis-url", self._redis_url, "--migration", MIGRATION]

    def _reads(self) -> bool:
        try:
            self._store = self._store or StoreView.open(self._redis_url, MIGRATION)
            return self._store is not None and self._store.reader_state().readers > 0
        except StoreError:
            return False

    def start_traffic(self, changes: int, seconds: float) -> None:
        shared = ["--table", TABLE, "--seed", str(self._seed)]
        options = [
            *shared,
            "--stream-arn",
            self._stream_arn,
            "--plan",
            str(self._plan),
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

    def start_comparison(self) -> None:
        """Compare the whole tables, beside the monitor."""
        options = ["--segments", str(SEGMENTS), "--workers", "1", "--json"]
        self.comparison = self._crew.start("comparison", *COMMAND, "compare", *self._options(), *options)

    def compared(self) -> dict[str, Any]:
        """What `compare --json` said, once it has ended."""
        code = self.comparison.process.returncode
        if code not in (exit_codes.FINE, exit_codes.FAILED):
            raise self.comparison.failed(f"ended with code {code}")
        self.comparison.wait_until_said("answer", 1)
        return self.comparison.said

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

    def gate(self) -> dict[str, str]:
        """Each check's result by its name, as an operator gets it."""
        return {check["name"]: check["result"] for check in json.loads(self._ask("gate", "--json"))["checks"]}

    def findings(self) -> dict[str, str]:
        """The open findings' kind by key text, as an operator gets them."""
        lines = map(json.loads, self._ask("findings", "--json", "--show-keys").splitlines())
        return {tables.as_text(line["key"]): line["kind"] for line in lines}

    def _ask(self, command: str, *options: str) -> str:
        """What a command that looks once prints."""
        line = [sys.executable, *COMMAND, command, *self._state(), *options]
        ended = subprocess.run(
            line, capture_output=True, text=True, encoding="utf-8", env=self._crew.env, check=False
        )
        if ended.returncode not in (exit_codes.FINE, exit_codes.FAILED, exit_codes.INCONCLUSIVE):
            raise ChildFailed(f"`{command}` ended with code {ended.returncode}: {ended.stderr.strip()}")
        return ended.stdout


def _text(key: bytes) -> str:
    """A compact key of the store as this table's key text."""
    return tables.as_text(json.loads(SCHEMA.wire(key)))

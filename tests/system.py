"""The whole program from outside: real processes, a real server, a fake DynamoDB, steered by a test.

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests import servers
from tests.fake import FakeProcess

#: Quick enough for a test, slow enough for a replica that is a second behind.
CONVERGE, STABLE = "3s", "1s"


class System:
    """A migration from `source` to `target`. The test plays writer and replicator through `write`."""

    def __init__(
        self, directory: Path, redis_url: str, fake: FakeProcess, migration: str, *options: str
    ) -> None:
        self.directory, self.fake = directory, fake
        self.log = directory / f"{migration}.log"
        self._state = [
            *("--migration", migration, "--redis-url", redis_url, "--target-table", "target"),
            *("--log-format", "json"),
        ]
        self._options = [
            *("--source-table", "source", "--region", "us-east-1"),
            *("--source-endpoint-url", fake.url + "/", "--target-endpoint-url", fake.url),
            *("--converge-within", CONVERGE, "--stable-for", STABLE, "--iterator-type", "TRIM_HORIZON"),
            *("--reclaim-after", "2s", "--statistics-every", "1s", "--metrics-port", "0", *options),
        ]
        self.source: dict[str, str | None] = {}
        self.target: dict[str, str | None] = {}
        self.older: dict[str, set[str]] = {}
        self.writes = 0

    # --- the world -----------------------------------------------------------------------------------------

    def write(self, key: str, value: str | None, replica: str | None = "same") -> None:
        """Write `value` (None: delete) to the source, `replica` to the target ("none" = nothing)."""
        before = self.source.get(key)
        self._put("source", key, value)
        if before != value:
            self.writes += 1
        if before is not None:
            self.older.setdefault(key, set()).add(before)
        self.source[key] = value
        if replica == "none":
            return
        replicated = value if replica == "same" else replica
        self._put("target", key, replicated)
        self.target[key] = replicated

    def _put(self, table: str, key: str, value: str | None) -> None:
        item = {"pk": {"S": key}}
        if value is None:
            self.fake.steer("delete", table=table, key=item)
        else:
            self.fake.steer("put", table=table, item={**item, "value": {"S": value}})

    def truth(self) -> dict[str, str]:
        """Every key that diverges now, and how."""
        return {key: kind for key in self.source if (kind := self._kind(key)) is not None}

    def _kind(self, key: str) -> str | None:
        source, target = self.source[key], self.target.get(key)
        if source == target:
            return None
        if target is None:
            return "missing"
        if source is None:
            return "extra"
        return "stale" if target in self.older.get(key, ()) else "different"

    # --- the program ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        command = [sys.executable, "-m", "pipeline.cli", "run", *self._state, *self._options]
        with servers.process(command, log=self.log, env=dict(os.environ)) as child:
            yield child

    def pids(self, slot: str) -> list[int]:
        """Every process that has played `slot`, oldest first."""
        started = [line for line in self._lines() if line.get("event") == "process started"]
        return [line["pid"] for line in started if line["slot"] == slot]

    def _lines(self) -> Iterator[dict[str, Any]]:
        for line in self.log.read_text().splitlines() if self.log.exists() else ():
            with contextlib.suppress(ValueError):
                yield json.loads(line)

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "pipeline.cli", *words, *self._state]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.command("status", "--json").stdout))

    def findings(self) -> dict[str, str]:
        """key → kind, of every open finding."""
        lines = self.command("findings", "--json", "--show-keys").stdout.splitlines()
        return {one["key"]["pk"]["S"]: one["kind"] for one in map(json.loads, lines)}

    def at_rest(self) -> dict[str, Any] | None:
        """The status once every change written is judged, else None."""
        with contextlib.suppress(ValueError):
            status = self.status()
            ledger = status["ledger"]
            if ledger["records_read"] == self.writes and ledger["outstanding"] == 0:
                return status
        return None


def balanced(status: dict[str, Any]) -> bool:
    """The accounting identity, from what `status --json` shows."""
    ledger = status["ledger"]
    accounted = sum(
        ledger[term] for term in ("reached", "alarmed", "expired", "indeterminate", "dead", "outstanding")
    )
    return (
        ledger["records_read"] == ledger["not_sampled"] + ledger["versions_published"]
        and ledger["versions_published"] == accounted
    )

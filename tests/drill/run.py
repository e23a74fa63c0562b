"""One scenario run: world and program side by side, an outage when it is time, then findings against truth.

Reads: the program's findings by its own command, its ledger and log of findings in the store, the world's
truth. Writes: the report. Never: the truth before everything is at rest.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import redis

from pipeline.core.canonical import KeySchema
from pipeline.core.comparing.state import Comparison
from pipeline.core.ledger import Ledger
from pipeline.core.model import Side
from pipeline.core.sampling import Sampler
from pipeline.demo.score import Score
from pipeline.process.tether import tied
from pipeline.store import FiguresView
from tests.drill.imported import EXCUSED, FOUND, case_of
from tests.drill.replicator import Truth
from tests.drill.scenarios import Scenario
from tests.drill.traffic import text_of
from tests.fake import FakeProcess
from tests.system import FakeTable, System
from tests.whole_store import watch

SCHEMA = KeySchema("pk", "S", "sk", "N")
WORKERS = 2
#: Beyond converge and stable: until every proof has arrived and late changes are found to have recovered.
PATIENCE_SECONDS = 240.0
POLL_SECONDS = 0.5


class WorldProcess(FakeProcess):
    """The world as its own process; it is steered by lines."""

    def __init__(self, scenario: Scenario) -> None:
        command = [sys.executable, "-m", "tests.drill.world", msgspec.json.encode(scenario).decode()]
        self._process = subprocess.Popen(
            tied(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = int(self.line())

    def begin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("begin\n")
        self._process.stdin.flush()

    def line(self) -> str:
        """The next line. Raises RuntimeError when the world ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the world ended with {self._process.wait()}")
        return line.strip()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        super().close()


class Report(msgspec.Struct, frozen=True):
    """What a scenario came to. faults: done to the replica. opened: findings ever opened.

    score: of the sampled keys. excused: so many keys should be. detection_ms: of each planted key found, from
    fault to finding (of a cold one: from the beginning). comparison: of the whole tables, where one was made.
    """

    scenario: Scenario
    score: Score
    faults: int
    opened: int
    detection_ms: list[float]
    ledger: Ledger
    excused: int
    lag_ms: dict[str, float]
    seconds: float
    comparison: Comparison | None = None

    @property
    def perfect(self) -> bool:
        ledger = self.ledger
        at_rest = ledger.balanced and not (ledger.dead or ledger.gaps) and ledger.excused == self.excused
        return self.score.perfect and at_rest and self.compared_all

    @property
    def compared_all(self) -> bool:
        """A comparison has read and counted everything once, and took no other spelling for a difference."""
        if not self.scenario.cold_items:
            return True
        found, items = self.comparison, self.scenario.cold_items
        if found is None or found.finished_ms is None or found.tally.imbalance or found.done < found.planned:
            return False
        wrong = sum(case_of(number, items) in (*FOUND, *EXCUSED) for number in range(items))
        return found.tally.equal >= items - wrong


def drill(scenario: Scenario, redis_url: str, directory: Path) -> Report:
    """Run a scenario under a migration name of its own on that server."""
    began = time.monotonic()
    name = f"drill-{os.getpid()}-{time.monotonic_ns()}"
    options = [
        *("--sample-rate", f"{scenario.sample_rate:g}"),
        *("--converge-within", "auto" if scenario.auto else f"{scenario.converge_seconds}s"),
        *("--converge-at-most", f"{scenario.converge_seconds}s"),
        *("--stable-for", f"{scenario.stable_seconds}s"),
        *("--workers", str(WORKERS), "--statistics-every", "10s"),
    ]
    with WorldProcess(scenario) as world, contextlib.closing(watch(redis_url, name)) as store:
        source, target = (FakeTable(world, side) for side in (Side.SOURCE, Side.TARGET))
        system = System(directory, redis_url, source, target, name, *options, verify_on=scenario.verify_on)
        with system.running():
            _until(lambda: store.reader_state().watermark_ms > 0, 60)
            world.begin()
            with _comparing(system, scenario) as comparison:
                truth = _watch(world, system, scenario)
                if comparison:
                    _until(lambda: comparison.poll() is not None, PATIENCE_SECONDS)
            seen = _Watch(scenario, truth, system, store, redis_url)
            _until(seen.agrees, scenario.converge_seconds + scenario.stable_seconds + PATIENCE_SECONDS)
            return seen.report(time.monotonic() - began)


@contextlib.contextmanager
def _comparing(system: System, scenario: Scenario) -> Iterator["subprocess.Popen[bytes] | None"]:
    """The whole tables are compared meanwhile, where the scenario has cold items."""
    if not scenario.cold_items:
        yield None
        return
    segments = ("--segments", str(scenario.segments)) if scenario.segments else ()
    with system.running("compare", "--json", *segments) as comparison:
        yield comparison


def _watch(world: WorldProcess, system: System, scenario: Scenario) -> Truth:
    """Follow the world to its end, with the reader's outage on the way."""
    while (line := world.line()) != "at rest":
        assert line == "outage"
        reader = system.pids("reader-0")[-1]
        if scenario.outage == "kill":
            os.kill(reader, signal.SIGKILL)  # the supervisor starts another one
        else:
            os.kill(reader, signal.SIGSTOP)
            time.sleep(scenario.outage_seconds)
            os.kill(reader, signal.SIGCONT)
    return msgspec.json.decode(world.line(), type=Truth)


def _until(done: Any, seconds: float) -> None:
    """Wait for it, but not for ever: what is wrong then shows in the report."""
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


class _Watch:
    """The program's findings beside the truth, as far as its sample goes."""

    def __init__(
        self, scenario: Scenario, truth: Truth, system: System, store: FiguresView, redis_url: str
    ) -> None:
        self._scenario, self._truth, self._system, self._store = scenario, truth, system, store
        self._redis = redis.Redis.from_url(redis_url)
        keeps = Sampler(scenario.sample_rate).keeps
        kinds = truth.divergent
        self._planted = {text: kind for text, kind in kinds.items() if keeps(SCHEMA.compact_of(_wire(text)))}
        self._excused = sum(keeps(SCHEMA.compact_of(_wire(text))) for text in truth.ttl_removes)

    def agrees(self) -> bool:
        """All is judged, nothing is under way, and the open findings are the truth."""
        ledger, queue = self._store.ledger(), self._store.queue()
        open_findings = {text_of(_decode(SCHEMA.wire(f.key))): str(f.kind) for f in self._store.findings()}
        open_findings = self._known(open_findings)
        return (
            ledger.records_read == self._truth.records
            and ledger.outstanding == 0
            and ledger.excused == self._excused
            and queue.outstanding == len(open_findings) + self._excused
            and open_findings == self._planted
        )

    def _known(self, found: dict[str, str]) -> dict[str, str]:
        """Of a version that it cannot know the monitor may say either: stale or different."""
        either = {key for key in self._truth.unknowable if found.get(key) == "different"}
        return {key: "stale" if key in either else kind for key, kind in found.items()}

    def report(self, seconds: float) -> Report:
        """By what the program says with its own command."""
        said = self._system.command("findings", "--json", "--show-keys")
        if said.returncode not in (0, 1):
            raise RuntimeError(said.stderr)
        lines = [json.loads(line) for line in said.stdout.splitlines()]
        found = self._known({text_of(line["key"]): line["kind"] for line in lines})
        opened = [(text_of(line["key"]), _ms(line["first_seen"])) for line in lines]
        ledger = self._store.ledger()
        recovered = self._recovered(ledger.recovered + ledger.findings_excused)
        groundless = {key for key, at_ms in opened + recovered if at_ms < self._grounds_from(key)}
        damaged_at = self._truth.damaged_at
        return Report(
            scenario=self._scenario,
            score=Score(self._planted, found, groundless),
            faults=sum(self._truth.faults.values()),
            opened=len(opened) + len(recovered),
            detection_ms=sorted(
                # A finding that an earlier fault has opened was there at once.
                max(0.0, at_ms - damaged_at[key])
                for key, at_ms in opened
                if key in self._planted
            ),
            ledger=ledger,
            excused=self._excused,
            lag_ms=self._truth.lag_ms,
            seconds=seconds,
            comparison=self._store.figures().comparison,
        )

    def _grounds_from(self, key: str) -> float:
        return self._truth.grounds_from.get(key, float("inf"))

    def _recovered(self, count: int) -> list[tuple[str, float]]:
        """Key and opening of every finding that recovered. Raises RuntimeError when the log is cut off."""
        log: Any = self._redis.xrange(f"ddbmm:{{{self._store.migration}}}:findings-log")
        if len(log) != count:
            raise RuntimeError(f"{count} findings recovered, {len(log)} are in the log: plant fewer")
        return [(text_of(_decode(SCHEMA.wire(one[b"k"]))), float(one[b"since"])) for _, one in log]


def _wire(text: str) -> dict[str, Any]:
    partition, _, sort = text.rpartition("/")
    return {"pk": {"S": partition}, "sk": {"N": sort}}


def _decode(body: bytes) -> dict[str, Any]:
    return msgspec.json.decode(body, type=dict[str, Any])


def _ms(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp() * 1000

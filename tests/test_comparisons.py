"""`compare` and `comparer` of many migrations: real processes, one after the other, one is refused."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from pipeline import exit_codes
from pipeline.commands import comparisons
from pipeline.commands.comparison import Ended, Say
from pipeline.comparer import role
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.errors import ConfigurationError
from tests import servers
from tests.comparing import arn_of
from tests.fake import FakeProcess
from tests.servers import eventually
from tests.system import CONVERGE, REGION, STABLE, FakeTable
from tests.whole_store import watch

EQUAL = {"answer": "equal", "dollars": 0.5}


@pytest.fixture
def fake() -> Iterator[FakeProcess]:
    with FakeProcess() as one:
        yield one


class Pairs:
    """Tables of the same name on both sides, and a file that names their migrations."""

    def __init__(self, folder: Path, fake: FakeProcess, redis_url: str) -> None:
        self.folder, self.fake, self.redis_url = folder, fake, redis_url
        self.mark = uuid.uuid4().hex[:6]
        self.lines: list[str] = []

    def add(self, name: str, *, items: int = 5, missing: int = 0) -> str:
        """A migration whose target lacks the last items."""
        for side, kept in (("source", items), ("target", items - missing)):
            self.fake.steer("create_table", name=f"{name}-{side}", view="NEW_AND_OLD_IMAGES")
            table = FakeTable(self.fake, f"{name}-{side}")
            for number in range(kept):
                table.put({"pk": {"S": f"k{number}"}})
        return self.name(name, f"{name}-source", f"{name}-target")

    def name(self, name: str, source: str, target: str) -> str:
        named = f"{name}-{self.mark}"
        self.lines.append(f"  {named}: {{source-table: {source}, target-table: {target}}}")
        return named

    def command(self, *words: str) -> list[str]:
        url = FakeTable(self.fake, "any").url
        file = self.folder / "pairs.yml"
        everywhere = {
            "redis-url": self.redis_url,
            "region": REGION,
            "metrics-port": 0,
            "log-format": "json",
            "source-endpoint-url": url,
            "target-endpoint-url": f"{url}/",
            "converge-within": CONVERGE,
            "stable-for": STABLE,
            "workers": 1,
        }
        file.write_text(
            "\n".join(
                [*(f"{name}: {value}" for name, value in everywhere.items()), "migrations:", *self.lines]
            )
        )
        return [sys.executable, "-m", "pipeline.cli", words[0], "--config", str(file), *words[1:]]

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=240, check=False)


def test_each_is_compared_and_one_that_is_refused_stops_no_other(
    tmp_path: Path, fake: FakeProcess, store_url: str
) -> None:
    pairs = Pairs(tmp_path, fake, store_url)
    equal, gone, lacks = (
        pairs.add("one"),
        pairs.name("gone", "nowhere", "nowhere-else"),
        pairs.add("two", missing=2),
    )
    done = pairs.run("compare")
    assert done.returncode == exit_codes.FAILED, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if not line.startswith("{")]
    assert f"{equal}: EQUAL" in lines and f"{lacks}: DIFFERENT" in lines
    table = lines[next(at for at, line in enumerate(lines) if line.startswith("MIGRATION")) :]
    assert [line.split()[:2] for line in table[1:4]] == [
        [equal, "EQUAL"],
        [gone, "NOT"],
        [lacks, "DIFFERENT"],
    ]
    said = " ".join(table)
    assert "2 of 3 migrations compared" in said and f"{gone}: " in said
    assert f"{lacks}: comparing (3 of 3)" in done.stderr
    notes = [line for line in done.stderr.splitlines() if "one segment: " in line]
    assert [line.partition(": one segment")[0] for line in notes] == [f"{equal}, {lacks}"]
    again = pairs.run("compare", "--json", "--migration", equal)
    assert (again.returncode, json.loads(again.stdout.splitlines()[-1])["answer"]) == (0, "equal")


def test_plans_of_all_and_one_object_of_many(tmp_path: Path, fake: FakeProcess, store_url: str) -> None:
    pairs = Pairs(tmp_path, fake, store_url)
    one, gone = pairs.add("one"), pairs.name("gone", "nowhere", "nowhere-else")
    done = pairs.run("compare", "--dry-run", "--json")
    told = json.loads(done.stdout)["migrations"]
    assert done.returncode == exit_codes.CONFIGURATION
    assert told[one]["dollars"] >= 0 and "nowhere" in told[gone]["problem"]
    done = pairs.run("compare", "--json", "--stop-after", "200s")
    told = json.loads(done.stdout.splitlines()[-1])["migrations"]
    assert (told[one]["answer"], told[gone]["answer"]) == ("equal", None)
    assert done.returncode == exit_codes.CONFIGURATION


def test_a_comparer_goes_round_and_joins_what_is_begun_again(
    tmp_path: Path, fake: FakeProcess, store_url: str
) -> None:
    pairs = Pairs(tmp_path, fake, store_url)
    names = [pairs.add("one"), pairs.name("gone", "nowhere", "nowhere-else"), pairs.add("two")]
    views = {name: watch(store_url, name) for name in names if not name.startswith("gone")}

    def finished() -> dict[str, Any]:
        found = {name: view.figures().comparison for name, view in views.items()}
        return {name: one.id for name, one in found.items() if one and one.finished_ms is not None}

    log = tmp_path / "log"
    with servers.process(pairs.command("comparer"), log=log, env=dict(os.environ)) as child:
        eventually(lambda: finished().keys() == views.keys(), 120, "both are compared")
        before = finished()
        assert "left out" in log.read_text()
        restarted = pairs.run("compare", "--restart", "--migration", names[2], "--stop-after", "1s")
        assert restarted.returncode in (exit_codes.FINE, exit_codes.INCONCLUSIVE)
        eventually(lambda: finished().keys() == views.keys(), 120, "the comparer joins it")
        assert finished()[names[0]] == before[names[0]] and finished()[names[2]] != before[names[2]]
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
    for view in views.values():
        view.close()


def test_a_comparer_of_one_joins_what_is_begun_anew_and_calls_that_no_error(
    tmp_path: Path, fake: FakeProcess, store_url: str
) -> None:
    pairs = Pairs(tmp_path, fake, store_url)
    name = pairs.add("one")
    log = tmp_path / "log"
    with (
        contextlib.closing(watch(store_url, name)) as view,
        servers.process(pairs.command("comparer"), log=log, env=dict(os.environ)) as child,
    ):

        def finished() -> str:
            found = view.figures().comparison
            return found.id if found and found.finished_ms is not None else ""

        first = eventually(finished, 120, "it is compared")
        restarted = pairs.run("compare", "--restart", "--stop-after", "1s")
        assert restarted.returncode in (exit_codes.FINE, exit_codes.INCONCLUSIVE)
        eventually(lambda: finished() not in ("", first), 120, "the comparer joins it")
        eventually(lambda: "what stands is joined" in log.read_text(), 30, "it says so")
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
    assert '"level": "error"' not in log.read_text(), log.read_text()[-3000:]


def test_a_table_is_not_compared_in_place_of_another(
    tmp_path: Path, fake: FakeProcess, store_url: str
) -> None:
    """Named by its ARN a second time: the table that was meant there was compared by nobody."""
    pairs = Pairs(tmp_path, fake, store_url)
    one = pairs.add("one")
    again = pairs.name("again", arn_of(FakeTable(fake, "one-source")), "one-target")
    for words in (["compare", "--dry-run"], ["compare"]):
        done = pairs.run(*words)
        assert done.returncode == exit_codes.CONFIGURATION, done.stderr[-3000:]
        assert f"{again}: migrations {one} and {again} watch the same tables" in done.stderr
    assert f"{one}: EQUAL" in done.stdout and f"{again}: EQUAL" not in done.stdout


# --- what becomes of the rest ------------------------------------------------------------------------------


def many(*names: str) -> list[MigrationConfig]:
    return [MigrationConfig(name=name) for name in names]


def test_a_signal_ends_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    """While its processes run: the supervisor's; in between: ours."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def killed(_process: ProcessConfig, _migration: MigrationConfig, _say: Say) -> Ended:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it goes on")

    assert comparisons.run(ProcessConfig(), many("a", "b"), killed) == exit_codes.INTERRUPTED
    assert "b: a signal had ended the command" in capsys.readouterr().out
    stopped = [Ended(3, EQUAL | {"answer": "inconclusive"}, "INCONCLUSIVE", stopped=True)]
    assert (
        comparisons.run(ProcessConfig(json=True), many("a", "b"), lambda *_: stopped.pop())
        == exit_codes.INCONCLUSIVE
    )
    assert json.loads(capsys.readouterr().out)["migrations"]["b"]["answer"] is None
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_stop_after_is_of_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("pipeline.commands.comparisons.time.monotonic", lambda: now[0])
    left = []

    def takes_six_seconds(process: ProcessConfig, _migration: MigrationConfig, _say: Say) -> Ended:
        left.append(process.stop_after_ms)
        now[0] += 6
        return Ended(0, EQUAL, "EQUAL")

    process = ProcessConfig(stop_after_ms=10_000, json=True)
    assert comparisons.run(process, many("a", "b", "c"), takes_six_seconds) == exit_codes.INCONCLUSIVE
    assert left == [10_000, 4_000]


def test_only_refused_ones_keep_a_comparer_from_starting(capsys: pytest.CaptureFixture[str]) -> None:
    def join(migration: MigrationConfig, _say: Say) -> MigrationConfig:
        if migration.name != "good":
            raise ConfigurationError(f"{migration.name} is gone", "make it")
        return migration

    assert [one.name for one in comparisons.joined(many("bad", "good"), join)] == ["good"]
    assert "bad: left out: bad is gone: make it" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="bad is gone"):
        comparisons.joined(many("bad", "worse"), join)
    with pytest.raises(ConfigurationError, match="bad is gone"):
        comparisons.joined(many("bad"), join)
    assert [one.name for one in comparisons.joined(many("good"), join)] == ["good"]


def test_plans_of_all_are_texts_too(capsys: pytest.CaptureFixture[str]) -> None:
    def plan(_process: ProcessConfig, migration: MigrationConfig) -> str:
        if migration.name == "bad":
            raise ConfigurationError("bad is gone")
        return f"the plan of {migration.name}"

    assert comparisons.plans(ProcessConfig(), many("one", "bad"), plan) == exit_codes.CONFIGURATION
    told = capsys.readouterr()
    assert (told.out, told.err) == ("migration one\nthe plan of one\n\n", "bad: bad is gone\n")
    assert comparisons.plans(ProcessConfig(), many("one"), plan) == exit_codes.FINE


def test_a_comparer_says_once_why_one_fails_and_goes_on() -> None:
    class Fails:
        migration, is_over = "bad", False
        problem = ""

        def compare(self, *_: object) -> None:
            if self.problem:
                raise ConfigurationError(self.problem)

    one, stop, failures = Fails(), threading.Event(), dict[str, str]()
    with structlog.testing.capture_logs() as lines:
        for problem in ("gone", "gone", "other", "", "gone"):
            one.problem = problem
            role._compare_in_turn(cast(Any, one), stop, lambda: None, failures)
    assert [line["error"] for line in lines] == ["gone", "other", "gone"]

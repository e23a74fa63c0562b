"""The whole demo, as a user starts it: real processes, planted against found, nothing left behind."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.demo.score import Row, Score
from tests.servers import ROOT, eventually

COMMAND = [sys.executable, "-m", "pipeline.cli", "demo"]


def children(temporary: Path) -> list[str]:
    """The command lines of living processes whose environment names this temporary directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(temporary) in (process / "environ").read_bytes():
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found += [command] if command else []  # a zombie has none
        except OSError:
            continue  # ended meanwhile
    return found


def table(said: str) -> dict[tuple[str, str], list[int]]:
    """(keys, kind) → planted, found, missed, false alarms."""
    rows = re.findall(r"│ (\w+) +│ (\w*) +│ +(\d+) │ +(\d+) │ +(\d+) │ +(\d+) │", said)
    return {(keys, kind): [*map(int, numbers)] for keys, kind, *numbers in rows}


def start(temporary: Path, *options: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, *options],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_demo_finds_every_planted_fault_and_nothing_else(tmp_path: Path):
    with start(tmp_path, "--duration", "12", "--seed", "1") as demo:
        said, _ = demo.communicate(timeout=90)
    assert demo.returncode == 0, said
    rows = table(said)
    changed = {("changed", kind) for kind in ("missing", "stale", "different", "extra")}
    cold = {("cold", kind) for kind in ("missing", "different", "extra")}
    assert set(rows) == changed | cold | {("all", "")}, said
    for planted, found, missed, false_alarms in rows.values():
        assert (found, missed, false_alarms) == (planted, 0, 0)
        assert planted > 0
    assert "PASS" in said
    assert "whole table: passed" in said
    assert "\x1b" not in said  # no terminal, no escape codes
    assert children(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_demo_whose_comparison_is_blind_fails(tmp_path: Path):
    """What both tables hold is equal to it: it misses what the import spoiled, and the demo says so."""
    blind, scratch = tmp_path / "b", tmp_path / "s"  # short: a socket of the demo lies below it
    blind.mkdir()
    scratch.mkdir()
    (blind / "sitecustomize.py").write_text(
        "from pipeline.core.comparing.pairs import PairComparer\n"
        "PairComparer.equal = lambda self, one, other: True\n"
    )
    path = {"PYTHONPATH": f"{blind}{os.pathsep}{ROOT}"}
    with start(scratch, "--duration", "2", "--seed", "1", **path) as demo:
        said, _ = demo.communicate(timeout=150)
    assert demo.returncode == 1 and "FAIL" in said, said
    rows = table(said)
    planted, found, missed, _ = rows["cold", "different"]
    assert planted == missed > found == 0, said
    assert rows["cold", "missing"][2] == 0, said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_a_signal_ends_every_process_and_leaves_no_file(tmp_path: Path, number: int, code: int):
    with start(tmp_path, "--duration", "600") as demo:
        eventually(lambda: any("pipeline.demo.traffic" in each for each in children(tmp_path)), 60, "traffic")
        demo.send_signal(number)
        said, _ = demo.communicate(timeout=60)
    assert demo.returncode == code, said
    assert "Traceback" not in said
    assert children(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_killed_demo_takes_every_process_with_it(tmp_path: Path):
    with start(tmp_path, "--duration", "600") as demo:
        eventually(lambda: any("pipeline.demo.traffic" in each for each in children(tmp_path)), 60, "traffic")
        demo.kill()
        demo.wait()
        eventually(lambda: not children(tmp_path), 30, "the end of all processes")


def test_a_wrong_plan_is_refused_before_anything_starts(tmp_path: Path):
    plan = tmp_path / "plan.yaml"
    plan.write_text("faults: [{fault: explode}]")
    ended = subprocess.run(
        [*COMMAND, "--plan", str(plan)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: the plan {plan} does not fit")
    assert len(ended.stderr.splitlines()) == 1


def test_a_key_found_as_another_kind_is_missed_and_a_false_alarm():
    score = Score({"a": "stale", "b": "extra"}, {"a": "different", "b": "extra", "c": "missing"}, set())
    assert score.rows() == [
        Row("missing", planted=0, found=1, missed=0, false_alarms=1),
        Row("stale", planted=1, found=0, missed=1, false_alarms=0),
        Row("different", planted=0, found=1, missed=0, false_alarms=1),
        Row("extra", planted=1, found=1, missed=0, false_alarms=0),
    ]
    assert not score.perfect


def test_a_score_can_be_told_of_some_keys_and_of_the_others():
    score = Score({"a": "stale", "b": "extra"}, {"a": "stale", "c": "missing"}, {"d"})
    part, others = score.of({"a", "d"}), score.of({"a", "d"}, others=True)
    assert part == Score({"a": "stale"}, {"a": "stale"}, {"d"})
    assert others == Score({"b": "extra"}, {"c": "missing"}, set())


def test_a_passing_alarm_about_an_untouched_key_is_not_perfect():
    assert Score({"a": "stale"}, {"a": "stale"}, set()).perfect
    assert not Score({"a": "stale"}, {"a": "stale"}, {"b"}).perfect

"""`demo`: a made-up migration with planted faults, watched by the real monitor; did it find exactly them?

Reads: the plan file. Writes: a temporary directory, removed unless the demo fails. Never: boto3. No process
is left behind, no address but 127.0.0.1 is used, no real AWS account is asked.

Source and target are two emulated accounts, the state is in an embedded Valkey, and the monitor is the
command `dynamodb-migration-monitor run` in a process of its own. In order: start all, write traffic, let the
replicator finish and compare the whole tables meanwhile, let everything come to rest, then hold what
`findings --json` says against the planted truth, key by key.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from rich.console import Console

from pipeline import exit_codes
from pipeline.core.model import MISMATCHES
from pipeline.demo import plan as plans
from pipeline.demo import tables
from pipeline.demo.processes import ChildFailed, Crew
from pipeline.demo.score import Score
from pipeline.demo.stage import BOOT_SECONDS, CONVERGE_SECONDS, Stage
from pipeline.demo.view import Result, Scene, View, show_result
from pipeline.errors import MonitorError
from pipeline.process import logs
from pipeline.store import embedded

Truth = dict[str, Any]

CHANGES_PER_SECOND = 30
DRAIN_SECONDS, SETTLE_SECONDS = 40.0, 45.0
FRAME_SECONDS = 0.25
#: About how long the phases take, for the progress bar; traffic takes as long as it is told.
USUAL_SECONDS = {"starting": 6.0, "writing": 0.0, "replicating": 6.0, "comparing": 16.0}


def main(argv: list[str]) -> int:
    """Exit code 0: found exactly what was planted; 1: not, or a process failed; 2: usage; 130: Ctrl-C."""
    args = _parse(argv)
    # Left to itself SIGTERM would skip the cleaning up.
    before = signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        return _demo(args)
    except MonitorError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ChildFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; every process of the demo has ended", file=sys.stderr)
        return exit_codes.INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise_interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "dynamodb-migration-monitor demo",
        description="Watch a made-up migration with planted faults, on embedded servers.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--plan",
        type=Path,
        default=plans.DEFAULT_PLAN,
        metavar="FILE",
        help=f"what the replicator gets wrong (default: {plans.DEFAULT_PLAN})",
    )
    parser.add_argument("--seed", type=int, default=1, help="of traffic and faults (default: 1)")
    parser.add_argument(
        "--duration", type=_duration, default=25.0, metavar="SECONDS", help="of the traffic (default: 25)"
    )
    return parser.parse_args(argv)


def _duration(text: str) -> float:
    seconds = float(text.removesuffix("s"))
    if not 1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("must be 1 to 3600 seconds")
    return seconds


def _demo(args: argparse.Namespace) -> int:
    plans.load(args.plan)  # refuse a wrong plan before anything starts
    logs.configure("console", "warning")
    started = time.monotonic()
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="ddbmm-demo-"))
    passed = False
    try:
        changes = round(args.duration * CHANGES_PER_SECOND)
        with (
            embedded.running(str(directory / "state")) as redis_url,
            Crew(directory, _environment()) as crew,
            View(console) as view,
        ):
            stage = Stage(crew, directory, redis_url, args.plan, args.seed)
            scenes = Scenes(stage, view, changes, args.duration)
            result = _play(stage, scenes, changes, args.duration)
        passed = result.score.perfect and _sound(result)
        show_result(console, result, time.monotonic() - started)
        console.print("PASS: found every planted fault and nothing else" if passed else "FAIL", style="bold")
        return 0 if passed else 1
    finally:
        if passed or isinstance(sys.exc_info()[1], KeyboardInterrupt):
            shutil.rmtree(directory, ignore_errors=True)
        else:
            console.print(f"logs are in {directory}")


def _environment() -> dict[str, str]:
    """This one, without what AWS's tools or the monitor would take from it."""
    ours = {name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "DDBMM_"))}
    return {**ours, **tables.EMULATED_AWS}


def _sound(result: Result) -> bool:
    """Nothing compared, nothing lost and nothing unaccounted for are three different things."""
    figures, ledger = result.figures, result.figures.ledger
    lost = figures.reader.gaps + figures.queue.dead + ledger.outstanding + ledger.indeterminate
    whole = result.gate["whole-table"] == "passed" and result.compared["equal"] > 0
    return ledger.keys_judged > 0 and ledger.balanced and lost == 0 and whole


class Scenes:
    """Phases, their estimated times, and the picture of now."""

    def __init__(self, stage: Stage, view: View, changes: int, seconds: float) -> None:
        self._stage, self._view = stage, view
        self._usual = {**USUAL_SECONDS, "writing": seconds}
        self._since = time.monotonic()
        self._scene = Scene(planned_changes=changes)
        self.enter("starting")

    def enter(self, phase: str) -> None:
        self._scene.phase, self._since = phase, time.monotonic()
        self.show()

    def show(self) -> None:
        """Show what is known now. Raises ChildFailed when a process that is needed has ended."""
        scene, total = self._scene, sum(self._usual.values())
        names = list(self._usual)
        before = sum(self._usual[name] for name in names[: names.index(scene.phase)])
        spent = before + min(time.monotonic() - self._since, self._usual[scene.phase])
        scene.done, scene.remaining_seconds = spent / total, total - spent
        if scene.phase != "starting":
            scene.figures = self._stage.figures() or scene.figures
            scene.changes = self._stage.traffic.said.get("sent", 0)
            scene.faults = self._stage.replicator.said.get("faults", {})
            scene.divergent = self._stage.replicator.said.get("divergent", {})
        self._view.show(scene)

    def show_until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Show every FRAME_SECONDS until `done` or until the time is up; which of the two."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                return False
            self.show()
            time.sleep(FRAME_SECONDS)
        return True


def _play(stage: Stage, scenes: Scenes, changes: int, seconds: float) -> Result:
    stage.build()
    stage.start_traffic(changes, seconds)
    scenes.enter("writing")
    if not scenes.show_until(lambda: not stage.traffic.alive, 2 * seconds + BOOT_SECONDS):
        raise stage.traffic.failed("does not end")
    stage.end_traffic()
    stage.start_comparison()
    scenes.enter("replicating")
    if not scenes.show_until(lambda: not stage.replicator.alive, DRAIN_SECONDS):
        raise stage.replicator.failed("does not end")
    truth = stage.truth()
    scenes.enter("comparing")
    scenes.show_until(lambda: not stage.comparison.alive and _settled(stage, truth), SETTLE_SECONDS)
    if stage.comparison.alive:
        raise stage.comparison.failed("does not end")
    figures = stage.figures()
    if figures is None:
        raise ChildFailed("the state cannot be read any more")
    score = Score(truth["divergent"], stage.findings(), _groundless(stage.accused, truth))
    return Result(score, figures, truth, stage.compared(), stage.gate())


def _groundless(accused: set[str], truth: Truth) -> set[str]:
    """The accused keys that no fault was done to and that were never late."""
    late = {key for key, ms in truth["slowest_ms"].items() if ms > CONVERGE_SECONDS * 1000}
    return accused - set(truth["faulted"]) - late


def _settled(stage: Stage, truth: Truth) -> bool:
    """All changes were read, every key is closed or alarmed, and the open findings are the planted ones.

    A finding's kind follows at the next look at its key, so the kinds may be right a little later.
    """
    figures = stage.figures()
    if figures is None or figures.ledger.records_read < truth["changes"]:
        return False
    planted = Counter(truth["divergent"].values())
    same = all(figures.ledger.open[kind] == planted[kind] for kind in MISMATCHES)
    return same and figures.ledger.outstanding == 0 and figures.queue.outstanding == figures.open_total

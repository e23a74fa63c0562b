"""The demo's outside world for the compose stack: tables, traffic, and a replicator that plants faults.

Reads: the plan file, both emulated tables. Writes: both tables; in its directory logs, `ready` once the
tables stand and the stream is on, and `truth.json` once all traffic has arrived. Never: the store. What the
monitor finds is compared with `truth.json` by others.

Run as `python -m pipeline.demo.cutover …`; ends with SIGTERM, or when a process of it fails.
"""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from pipeline.demo import imported, tables
from pipeline.demo import plan as plans
from pipeline.demo.processes import Child, ChildFailed, Crew, say
from pipeline.demo.stage import SOURCE_REGION, TABLE, TARGET_REGION

CHANGES_PER_SECOND = 20
#: The replicator has to read the rest of the stream and apply what is late, and compare both tables.
FINISH_SECONDS = 120.0
TICK_SECONDS = 0.5


def main(argv: list[str]) -> int:
    """Exit code 0 after SIGTERM, 1 when a process of the demo failed."""
    args = _parse(argv)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    args.directory.mkdir(parents=True, exist_ok=True)
    stream_arn = _build(args)
    (args.directory / "ready").touch()
    try:
        with Crew(args.directory, {**os.environ, **tables.EMULATED_AWS}) as crew:
            _play(crew, args, stream_arn, stop)
    except ChildFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for side in ("source", "target"):
        parser.add_argument(f"--{side}-endpoint-url", required=True)
    parser.add_argument("--seconds", type=float, required=True, help="how long traffic goes on")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--plan", type=Path, default=plans.DEFAULT_PLAN)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(argv)


def _build(args: argparse.Namespace) -> str:
    """Both tables with their first items, as the import left them; the ARN of the source's stream."""
    clients = (
        tables.client(args.source_endpoint_url, SOURCE_REGION),
        tables.client(args.target_endpoint_url, TARGET_REGION),
    )
    held = imported.contents(plans.load(args.plan).imported, args.seed)
    for dynamodb, items in zip(clients, held, strict=True):
        tables.create(dynamodb, TABLE)
        tables.fill(dynamodb, TABLE, items)
    return tables.enable_stream(clients[0], TABLE)


def _play(crew: Crew, args: argparse.Namespace, stream_arn: str, stop: threading.Event) -> None:
    """Write until the time is over, let the replicator finish, write the truth, and wait for `stop`."""
    truth = args.directory / "truth.json"
    replicator = crew.start("replicator", "-m", "pipeline.demo.replicator", *_replicator(args, stream_arn))
    replicator.wait_until_said("read", FINISH_SECONDS)
    writer = crew.start("traffic", "-m", "pipeline.demo.traffic", *_traffic(args))
    say(traffic="begun", seconds=args.seconds)
    if not _wait(crew, stop, running=replicator, until_ended=writer):
        return
    writer.finish(1)
    replicator.signal(signal.SIGUSR1)
    replicator.finish(FINISH_SECONDS)
    say(traffic="ended", truth=str(truth))
    stop.wait()


def _wait(crew: Crew, stop: threading.Event, *, running: Child, until_ended: Child) -> bool:
    """True when a process has ended by itself, False when we shall stop before. Raises ChildFailed."""
    while until_ended.alive:
        crew.check(running)
        if stop.wait(TICK_SECONDS):
            return False
    return True


def _replicator(args: argparse.Namespace, stream_arn: str) -> list[str]:
    return [
        *("--source-endpoint-url", args.source_endpoint_url, "--source-region", SOURCE_REGION),
        *("--target-endpoint-url", args.target_endpoint_url, "--target-region", TARGET_REGION),
        *("--table", TABLE, "--stream-arn", stream_arn, "--seed", str(args.seed)),
        *("--plan", str(args.plan), "--truth", str(args.directory / "truth.json")),
    ]


def _traffic(args: argparse.Namespace) -> list[str]:
    return [
        *("--endpoint-url", args.source_endpoint_url, "--region", SOURCE_REGION),
        *("--table", TABLE, "--seed", str(args.seed)),
        *("--changes", str(round(args.seconds * CHANGES_PER_SECOND)), "--seconds", str(args.seconds)),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

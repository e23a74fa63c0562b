"""The replicator under suspicion: carries the source's stream to the target, and gets it wrong as planned.

Reads: the source's stream, the plan file; at the end both tables. Writes: the target table, the truth file.
Never: the monitor's code.

Run as `python -m pipeline.demo.replicator …`; says how far it is. SIGUSR1 means that the source is at rest:
it reads what is left, applies what is due, compares the tables, writes the planted truth and ends. The truth
file is one JSON object: `divergent` (kind by key text), `changes` (how many), `changed` (keys), `faults`
(how many of each), `faulted` (keys, the import's among them), `lag_ms` {p50, p99} and `slowest_ms` (by key)
of what was not faulted.
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import quantiles
from typing import Any

from pipeline.core.model import ChangeType
from pipeline.demo import plan as plans
from pipeline.demo import tables, truth
from pipeline.demo.processes import say
from pipeline.demo.schedule import Application, Schedule, Seen
from pipeline.demo.tables import Item

POLL_SECONDS = 0.2
PROGRESS_SECONDS = 0.25
TICK_SECONDS = 0.02
#: How long what is left in the stream may take to show up after the source came to rest.
DRAIN_SECONDS = 30.0


class Stream:
    """Follows every shard of a stream from its beginning, parents before children as listed."""

    def __init__(self, client: Any, arn: str) -> None:
        self._client, self._arn = client, arn
        self._iterators: dict[str, str | None] = {}

    def read(self) -> list[Seen]:
        """The changes that came since the last call."""
        changes = []
        for shard in self._shards():
            if shard not in self._iterators:
                self._iterators[shard] = self._client.get_shard_iterator(
                    StreamArn=self._arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
                )["ShardIterator"]
            iterator = self._iterators[shard]
            if iterator is not None:
                page = self._client.get_records(ShardIterator=iterator)
                self._iterators[shard] = page.get("NextShardIterator")
                changes += [_seen(record) for record in page["Records"]]
        return changes

    def _shards(self) -> list[str]:
        listed: list[str] = []
        start: dict[str, str] = {}
        while True:
            answer = self._client.describe_stream(StreamArn=self._arn, **start)["StreamDescription"]
            listed += [shard["ShardId"] for shard in answer["Shards"]]
            if "LastEvaluatedShardId" not in answer:
                return listed
            start = {"ExclusiveStartShardId": answer["LastEvaluatedShardId"]}


def _seen(record: dict[str, Any]) -> Seen:
    change = record["dynamodb"]
    return Seen(
        ChangeType(record["eventName"]),
        tables.key_text(change["Keys"]),
        change["Keys"],
        change.get("NewImage"),
        change["ApproximateCreationDateTime"].timestamp() * 1000,
    )


class Replicator:
    """Carries changes from a stream to the target, as its schedule says, and remembers both sides."""

    def __init__(
        self, stream: Stream, target: Any, table: str, schedule: Schedule, start: truth.Start
    ) -> None:
        self._stream, self._target, self._table = stream, target, table
        self.schedule = schedule
        self.seen, self.applied = dict(start.source), dict(start.target)
        #: What was wrong before the first change: the import's work.
        self.imported_wrong = truth.divergent(self.seen, self.applied, {}).keys()
        self.versions: dict[str, list[Item | None]] = {key: [item] for key, item in self.seen.items()}
        self.changes = 0
        self.lags_ms: list[float] = []
        self.slowest_ms: dict[str, float] = {}
        self.changed: set[str] = set()

    def step(self) -> int:
        """Read what is new, apply what is due; how many changes were new."""
        changes = self._stream.read()
        for change in changes:
            _put(self.seen, change.key, change.image)
            self.changed.add(change.key)
            self.versions.setdefault(change.key, [None]).append(change.image)
            self.schedule.take(change, time.time() * 1000)
        self.changes += len(changes)
        self.apply_due()
        return len(changes)

    def apply_due(self) -> None:
        for application in self.schedule.due(time.time() * 1000):
            self._apply(application)

    def _apply(self, application: Application) -> None:
        if application.image is None:
            self._target.delete_item(TableName=self._table, Key=application.wire_key)
        else:
            self._target.put_item(TableName=self._table, Item=application.image)
        _put(self.applied, application.key, application.image)
        if not application.faulty:
            lag_ms = time.time() * 1000 - application.created_ms
            self.lags_ms.append(lag_ms)
            self.slowest_ms[application.key] = max(lag_ms, self.slowest_ms.get(application.key, 0.0))

    def progress(self) -> dict[str, Any]:
        faults = dict(self.schedule.faults)
        # What differs now, late changes included: the demo's live view shows it beside the open findings.
        divergent = Counter(truth.divergent(self.seen, self.applied, self.versions).values())
        return {
            "read": self.changes,
            "applied": len(self.lags_ms),
            "waiting": len(self.schedule),
            "faults": faults,
            "divergent": divergent,
        }

    def planted(self, source: truth.Contents, target: truth.Contents) -> dict[str, Any]:
        """The truth file's content. Raises RuntimeError when the tables contradict what was done to them."""
        faulted = self.schedule.faulted | self.imported_wrong
        wrong = truth.contradictions(source, target, self.seen, self.applied, faulted)
        if wrong:
            raise RuntimeError("; ".join(wrong))
        cuts = quantiles(self.lags_ms, n=100) if len(self.lags_ms) > 1 else [0.0] * 99
        return {
            "divergent": truth.divergent(source, target, self.versions),
            "changes": self.changes,
            "changed": sorted(self.changed),
            "faults": dict(self.schedule.faults),
            "faulted": sorted(faulted),
            "slowest_ms": self.slowest_ms,
            "lag_ms": {"p50": cuts[49], "p99": cuts[98]},
        }


def _put(table: dict[str, Item], key: str, image: Item | None) -> None:
    if image is None:
        table.pop(key, None)
    else:
        table[key] = image


def drain(replicator: Replicator, source: Any, table: str) -> None:
    """Carry everything that is left. Raises RuntimeError when the stream does not tell all of the source."""
    deadline = time.monotonic() + DRAIN_SECONDS
    at_rest = tables.contents(source, table)
    # What was inserted and deleted again is not in the table: so the stream must be at its end as well.
    while replicator.step() or truth.divergent(at_rest, replicator.seen, {}):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the stream did not tell all of the source within {DRAIN_SECONDS:.0f} s")
        time.sleep(TICK_SECONDS)
    replicator.schedule.release(time.time() * 1000)
    while len(replicator.schedule):
        replicator.apply_due()
        time.sleep(TICK_SECONDS)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for side in ("source", "target"):
        for name in ("endpoint-url", "region"):
            parser.add_argument(f"--{side}-{name}", required=True)
    for name in ("--table", "--stream-arn"):
        parser.add_argument(name, required=True)
    parser.add_argument("--seed", type=int, required=True)
    for name in ("--plan", "--truth"):
        parser.add_argument(name, type=Path, required=True)
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Carry changes over, with the plan's faults, until SIGTERM; then print the truth."""
    args = _parse(argv)
    at_rest = threading.Event()
    signal.signal(signal.SIGUSR1, lambda _number, _frame: at_rest.set())
    source = tables.client(args.source_endpoint_url, args.source_region)
    target = tables.client(args.target_endpoint_url, args.target_region)
    stream = Stream(tables.streams_client(args.source_endpoint_url, args.source_region), args.stream_arn)
    start = truth.Start(tables.contents(source, args.table), tables.contents(target, args.table))
    replicator = Replicator(stream, target, args.table, Schedule(plans.load(args.plan), args.seed), start)
    reported = 0.0
    while not at_rest.is_set():
        replicator.step()
        if time.monotonic() - reported > PROGRESS_SECONDS:
            reported = time.monotonic()
            say(**replicator.progress())
        at_rest.wait(POLL_SECONDS)
    drain(replicator, source, args.table)
    found = replicator.planted(tables.contents(source, args.table), tables.contents(target, args.table))
    args.truth.write_text(json.dumps(found), encoding="utf-8")
    say(**replicator.progress())


if __name__ == "__main__":
    main(sys.argv[1:])

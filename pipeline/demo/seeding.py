"""What `datagen` and `datadel` share: the table's keys, writes that are counted truly, CSV files, progress.

Reads and writes: DynamoDB through boto3. A write is counted when DynamoDB said that it is done.
"""

import argparse
import base64
import binascii
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import boto3
from botocore.config import Config
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline import exit_codes
from pipeline.aws.errors import FOREIGN, translate
from pipeline.backoff import Backoff
from pipeline.core.canonical import MalformedItem, canonical_number
from pipeline.demo.tables import Item, as_text
from pipeline.errors import AwsUnavailable, ConfigurationError, MonitorError, Throttled

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html
MAX_WRITES = 25
#: Between attempts of what DynamoDB put off. 12 attempts are about 30 s.
BACKOFF, ATTEMPTS = Backoff(0.1, 5.0, jittered=True), 12
LINE_EVERY_SECONDS = 5.0


# --- the command line ----------------------------------------------------------------------------------


def parser(command: str, what: str) -> argparse.ArgumentParser:
    """A parser with the options that both tools have."""
    made = argparse.ArgumentParser(
        f"dynamodb-migration-monitor {command}", description=what, allow_abbrev=False
    )
    made.add_argument("--table", required=True)
    made.add_argument("--profile", help="AWS profile (default: the standard credential chain)")
    made.add_argument("--region")
    made.add_argument("--endpoint-url", help="for example http://127.0.0.1:8000")
    made.add_argument("--partition-key", help="checked against the table (default: read from it)")
    made.add_argument(
        "--sort-key", help="checked against the table (default: read from it; it may have none)"
    )
    made.add_argument("--batch", action="store_true", help=f"BatchWriteItem, {MAX_WRITES} writes a request")
    made.add_argument(
        "--wait", type=_seconds, default=0.0, metavar="SECONDS", help="between requests (default: 0)"
    )
    return made


def count(text: str) -> int:
    """argparse type: a number of things."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be 0 or more seconds")
    return seconds


def ending(tool: Callable[[], int]) -> int:
    """Run a tool; its exit code, with what it raises on purpose said in one line."""
    try:
        return tool()
    except MonitorError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return exit_codes.INTERRUPTED


def connect(args: argparse.Namespace) -> "DynamoDBClient":
    """Raises ConfigurationError."""
    config = Config(connect_timeout=2, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
    try:
        session = boto3.Session(profile_name=args.profile, region_name=args.region)
        made: DynamoDBClient = session.client("dynamodb", endpoint_url=args.endpoint_url, config=config)
    except FOREIGN as error:
        raise translate(error, "table", "session") from error
    return made


# --- keys ----------------------------------------------------------------------------------------------


class KeyAttribute(NamedTuple):
    """name and type ("S", "N" or "B") of a key attribute; its text in a CSV file is base64 for "B"."""

    name: str
    type: str

    def from_text(self, text: str) -> Item:
        """Raises ValueError for text that is no value of this type."""
        if not text:
            raise ValueError(f"{self.name} is empty")
        if self.type == "N":
            try:
                return {"N": canonical_number(text)}
            except MalformedItem as error:
                raise ValueError(f"{self.name} is not a number: {text!r}") from error
        if self.type == "B":
            try:
                return {"B": base64.b64decode(text, validate=True)}
            except binascii.Error as error:
                raise ValueError(f"{self.name} is not base64: {text!r}") from error
        return {"S": text}

    def to_text(self, value: Item) -> str:
        raw = value[self.type]
        return base64.b64encode(raw).decode() if self.type == "B" else str(raw)


def keys_of(dynamodb: "DynamoDBClient", args: argparse.Namespace) -> list[KeyAttribute]:
    """The table's partition key and, if it has one, its sort key.

    Raises ConfigurationError when the command line names others, and AwsError.
    """
    try:
        table = dynamodb.describe_table(TableName=args.table)["Table"]
    except FOREIGN as error:
        raise translate(error, "table", "DescribeTable") from error
    types = {each["AttributeName"]: str(each["AttributeType"]) for each in table["AttributeDefinitions"]}
    names = {str(each["KeyType"]): each["AttributeName"] for each in table["KeySchema"]}
    for flag, said, real in (
        ("--partition-key", args.partition_key, names["HASH"]),
        ("--sort-key", args.sort_key, names.get("RANGE")),
    ):
        if said is not None and said != real:
            remedy = f"say {flag} {real} or leave it out" if real else "leave it out"
            raise ConfigurationError(
                f"{flag} {said}: the key of table {args.table} is {real or 'none'}; {remedy}"
            )
    return [KeyAttribute(names[kind], types[names[kind]]) for kind in ("HASH", "RANGE") if kind in names]


# --- writes --------------------------------------------------------------------------------------------


class Write(NamedTuple):
    """One write. label: what it is counted as. item None: delete the key."""

    label: str
    key: Item
    item: Item | None


@dataclass
class Tally:
    """What became of the writes, by label. put_off: how often one had to be repeated."""

    done: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    put_off: int = 0

    def add(self, to: dict[str, int], writes: Iterable[Write]) -> None:
        for write in writes:
            to[write.label] = to.get(write.label, 0) + 1

    @property
    def total(self) -> int:
        return sum(self.done.values()) + sum(self.failed.values())


class Writer:
    """Sends writes in order, in batches or one by one; repeats what DynamoDB puts off."""

    def __init__(self, dynamodb: "DynamoDBClient", table: str, batch: bool, wait_seconds: float) -> None:
        self._dynamodb, self._table = dynamodb, table
        self._size = MAX_WRITES if batch else 1
        self._wait_seconds = wait_seconds
        self._requests = 0
        self.tally = Tally()

    def batches(self, writes: Iterable[Write]) -> Iterable[list[Write]]:
        """Groups of at most one request each; a key comes only once in a group, as DynamoDB demands."""
        group: list[Write] = []
        keys: set[str] = set()
        for write in writes:
            key = as_text(write.key)
            if len(group) == self._size or key in keys:
                yield group
                group, keys = [], set()
            group.append(write)
            keys.add(key)
        if group:
            yield group

    def send(self, group: list[Write]) -> None:
        """Write one group. What is put off ATTEMPTS times is counted as failed.

        Raises AwsError for anything but throttling and outages: the rest would fail as well.
        """
        left = group
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(BACKOFF.after(attempt))
            elif self._requests:
                time.sleep(self._wait_seconds)
            again = self._request(left)
            self.tally.add(self.tally.done, (write for write in left if write not in again))
            left = again
            if not left:
                return
            self.tally.put_off += len(left)
        self.tally.add(self.tally.failed, left)

    def _request(self, group: list[Write]) -> list[Write]:
        """One request; the writes that were not done."""
        self._requests += 1
        operation = "BatchWriteItem" if self._size > 1 else ("PutItem" if group[0].item else "DeleteItem")
        try:
            return self._write_batch(group) if self._size > 1 else self._write_one(group[0])
        except FOREIGN as error:
            ours = translate(error, "table", operation)
            if isinstance(ours, Throttled | AwsUnavailable):
                return group
            raise ours from error

    def _write_one(self, write: Write) -> list[Write]:
        if write.item is None:
            self._dynamodb.delete_item(TableName=self._table, Key=write.key)
        else:
            self._dynamodb.put_item(TableName=self._table, Item=write.item)
        return []

    def _write_batch(self, group: list[Write]) -> list[Write]:
        answer = self._dynamodb.batch_write_item(RequestItems={self._table: [_request_of(w) for w in group]})
        put_off = answer.get("UnprocessedItems", {}).get(self._table, [])
        keys = {as_text(_key_of(request, group[0].key)) for request in put_off}
        return [write for write in group if as_text(write.key) in keys]


def _request_of(write: Write) -> Any:
    if write.item is None:
        return {"DeleteRequest": {"Key": write.key}}
    return {"PutRequest": {"Item": write.item}}


def _key_of(request: Any, like: Item) -> Item:
    """The key of a write that came back; `like`: any key of the table."""
    item = request["PutRequest"]["Item"] if "PutRequest" in request else request["DeleteRequest"]["Key"]
    return {name: item[name] for name in like}


# --- progress ------------------------------------------------------------------------------------------


class Meter:
    """Progress with the time remaining: a bar on a terminal, a line now and then elsewhere; on stderr."""

    def __init__(self, what: str, total: int) -> None:
        self._console = Console(stderr=True)
        self._what, self._total = what, total
        self._said = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def reach(self, done: int) -> None:
        self._bar.update(self._task, completed=done)
        if not self._console.is_terminal and time.monotonic() - self._said >= LINE_EVERY_SECONDS:
            self._said = time.monotonic()
            print(f"{self._what}: {done:,} of {self._total:,}", file=sys.stderr, flush=True)


def summary(tally: Tally, labels: Sequence[str]) -> str:
    """One line: what was done, what failed, what had to be repeated."""
    parts = [f"{tally.done.get(label, 0):,} {label}" for label in labels]
    failed = sum(tally.failed.values())
    parts.append(f"{failed:,} failed")
    if tally.put_off:
        parts.append(f"{tally.put_off:,} put off by DynamoDB and repeated")
    return ", ".join(parts)

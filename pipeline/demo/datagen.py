"""`datagen`: put test items into a table, then update and delete some of them.

Reads: the table's key schema. Writes: items, and a CSV file of their keys for `datadel`. An item that was
there before is left alone.

The CSV file has one column per key attribute (binary keys in base64). A key is in it, on disk, before it is
sent: whatever happens, no item is left that the file does not name. Deleting a key that never came to be is
harmless.
"""

import argparse
import csv
import os
import random
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO

from pipeline.demo.seeding import (
    KeyAttribute,
    Meter,
    Write,
    Writer,
    connect,
    count,
    ending,
    keys_of,
    parser,
    summary,
)
from pipeline.demo.tables import Item
from pipeline.errors import UsageError

LABELS = ("inserted", "updated", "deleted")


def main(argv: list[str]) -> int:
    """Exit code 0: all writes done; 1: some failed; 2: usage; 4: configuration or permissions."""
    args = _parse(argv)
    return ending(lambda: _generate(args))


def _parse(argv: list[str]) -> argparse.Namespace:
    made = parser("datagen", "Put test items into a table, then update and delete some of them.")
    made.add_argument("--count", type=count, default=10, help="items to insert (default: 10)")
    made.add_argument("--updates", type=count, default=0, help="updates of these items (default: 0)")
    made.add_argument(
        "--deletes", type=count, default=0, help="of these items to delete in the end (default: 0)"
    )
    made.add_argument("--output", type=Path, metavar="CSV", help="file for the keys, written as it goes")
    args = made.parse_args(argv)
    if args.deletes > args.count:
        made.error("--deletes cannot be more than --count: only inserted items are deleted")
    if args.updates and not args.count:
        made.error("--updates needs --count: only inserted items are updated")
    return args


def _generate(args: argparse.Namespace) -> int:
    dynamodb = connect(args)
    schema = keys_of(dynamodb, args)
    keys = [new_key(schema, number) for number in range(args.count)]
    writer = Writer(dynamodb, args.table, args.batch, args.wait)
    with _open(args.output) as output, Meter("writing", args.count + args.updates + args.deletes) as meter:
        rows = csv.writer(output) if output else None
        if rows:
            rows.writerow([attribute.name for attribute in schema])
        for group in writer.batches(_writes(keys, args.updates, args.deletes)):
            if rows and output:
                rows.writerows(_row(schema, write.key) for write in group if write.label == "inserted")
                output.flush()
                os.fsync(output.fileno())
            writer.send(group)
            meter.reach(writer.tally.total)
    print(f"{args.table}: {summary(writer.tally, LABELS)}")
    return 1 if writer.tally.failed else 0


def _open(path: Path | None) -> "IO[str] | nullcontext[None]":
    if path is None:
        return nullcontext()
    try:
        return path.open("x", newline="", encoding="utf-8")
    except FileExistsError as error:
        raise UsageError(f"--output {path} exists: its keys would be lost; name another file") from error
    except OSError as error:
        raise UsageError(f"--output {path}: {error.strerror}") from error


def _row(schema: list[KeyAttribute], key: Item) -> list[str]:
    return [attribute.to_text(key[attribute.name]) for attribute in schema]


def new_key(schema: list[KeyAttribute], number: int) -> Item:
    """A key that no other run makes: the partition key is random (128 bits), the sort key is `number`."""
    makers: tuple[dict[str, Callable[[], str | bytes]], ...] = (
        {
            "S": lambda: str(uuid.uuid4()),
            "N": lambda: str(secrets.randbits(124)),
            "B": lambda: uuid.uuid4().bytes,
        },
        {"S": lambda: f"{number:08}", "N": lambda: str(number), "B": lambda: number.to_bytes(4)},
    )
    return {
        attribute.name: {attribute.type: make[attribute.type]()}
        for attribute, make in zip(schema, makers, strict=False)
    }


def _writes(keys: list[Item], updates: int, deletes: int) -> Iterator[Write]:
    """Insert all, update them in turn, then delete the last ones."""
    rng = random.Random()
    for key in keys:
        yield Write("inserted", key, _item(rng, key, 1))
    for number in range(updates):
        key = keys[number % len(keys)]
        yield Write("updated", key, _item(rng, key, 2 + number // len(keys)))
    for key in keys[len(keys) - deletes :]:
        yield Write("deleted", key, None)


def _item(rng: random.Random, key: Item, revision: int) -> Item:
    """An item of about 200 bytes with the common types; two revisions of a key differ."""
    content = {
        "revision": {"N": str(revision)},
        "name": {"S": rng.choice(("Ann", "Bo", "Çağla", "Dee"))},
        "balance": {"N": f"{rng.randrange(1_000_000) / 100:.2f}"},
        "active": {"BOOL": rng.random() < 0.9},
        "tags": {"SS": sorted(rng.sample(("a", "b", "c", "d"), 2))},
        "address": {"M": {"city": {"S": "Oulu"}, "floor": {"N": str(rng.randrange(20))}}},
        "token": {"B": rng.randbytes(16)},
    }
    return {**content, **key}

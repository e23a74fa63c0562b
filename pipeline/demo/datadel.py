"""`datadel`: delete the items whose keys a CSV file names, as `datagen --output` writes it.

Reads: the CSV file, the table's key schema. Writes: deletions. Nothing is deleted when a line of the file is
wrong, or with --dry-run.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

from pipeline.demo.seeding import (
    KeyAttribute,
    Meter,
    Write,
    Writer,
    connect,
    ending,
    keys_of,
    parser,
    summary,
)
from pipeline.demo.tables import Item, as_text
from pipeline.errors import UsageError


def main(argv: list[str]) -> int:
    """Exit code 0: all deletions done; 1: some failed; 2: usage; 4: configuration or permissions."""
    args = _parse(argv)
    return ending(lambda: _delete(args))


def _parse(argv: list[str]) -> argparse.Namespace:
    made = parser("datadel", "Delete the items whose keys a CSV file names.")
    made.add_argument(
        "--input", type=Path, required=True, metavar="CSV", help="the first line names the key attributes"
    )
    made.add_argument("--dry-run", action="store_true", help="say what would be deleted, delete nothing")
    made.add_argument("--verbose", action="store_true", help="show every key")
    return made.parse_args(argv)


def _delete(args: argparse.Namespace) -> int:
    dynamodb = connect(args)
    keys = read_keys(args.input, keys_of(dynamodb, args))
    if args.dry_run:
        if args.verbose:
            print("\n".join(map(as_text, keys)))
        print(f"{args.table}: {len(keys):,} keys would be deleted; nothing was")
        return 0
    writer = Writer(dynamodb, args.table, args.batch, args.wait)
    with Meter("deleting", len(keys)) as meter:
        for group in writer.batches(Write("deleted", key, None) for key in keys):
            writer.send(group)
            meter.reach(writer.tally.total)
            if args.verbose:
                print("\n".join(as_text(write.key) for write in group), flush=True)
    print(f"{args.table}: {summary(writer.tally, ('deleted',))}")
    return 1 if writer.tally.failed else 0


def read_keys(path: Path, schema: list[KeyAttribute]) -> list[Item]:
    """The distinct keys of a file, in order. Raises UsageError naming the line and what is wrong with it."""
    try:
        with path.open(newline="", encoding="utf-8") as source:
            return _keys(csv.reader(source), path, schema)
    except OSError as error:
        raise UsageError(f"--input {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--input {path}: not UTF-8 text") from error


def _keys(lines: Iterator[list[str]], path: Path, schema: list[KeyAttribute]) -> list[Item]:
    names = [attribute.name for attribute in schema]
    header: list[str] = next(lines, [])
    missing = [name for name in names if name not in header]
    if missing:
        raise UsageError(f"--input {path}: the first line must name the key attributes {', '.join(names)}")
    columns = [header.index(name) for name in names]
    keys: dict[str, Item] = {}
    for number, line in enumerate(lines, start=2):
        try:
            pairs = zip(schema, columns, strict=True)
            key = {attribute.name: attribute.from_text(line[column]) for attribute, column in pairs}
        except (ValueError, IndexError) as error:
            reason = "too few columns" if isinstance(error, IndexError) else error
            raise UsageError(f"--input {path}, line {number}: {reason}; nothing was deleted") from error
        keys[as_text(key)] = key
    return list(keys.values())

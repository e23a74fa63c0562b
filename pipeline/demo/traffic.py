"""The application that writes to the source: hot and cold keys, inserts, updates, deletes, all from one seed.

Reads: nothing. Writes: the source table. Never: chance beyond a seed. No two versions of one item are equal,
so that "an older version" is never ambiguous.

Run as `python -m pipeline.demo.traffic --endpoint-url URL --region R --table T …`; says `{"sent": n}` as it
goes.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.demo import tables
from pipeline.demo.processes import say
from pipeline.demo.tables import Item

HOT_KEYS = 6
COLD_KEYS = 220
#: Of the changes: on hot keys; of a cold item's changes: deletions.
HOT_SHARE, DELETE_SHARE, HOT_DELETE_SHARE = 0.4, 0.18, 0.03
#: Every second cold key is in both tables before the stream begins, as after an export and import.
BASELINE_STEP = 2
PROGRESS_SECONDS = 0.25
CITIES = ("Bergen", "Curitiba", "Łódź", "Nagoya", "Oulu", "Tartu")


class Write(NamedTuple):
    """One write: `item` None deletes the key."""

    key: Item
    item: Item | None


def cold_key(number: int) -> Item:
    """The key of one of the many items that change seldom."""
    return {"pk": {"S": f"customer#{number:04}"}, "sk": {"N": str(number % 3)}}


def hot_key(number: int) -> Item:
    """The key of one of the few items that change all the time."""
    return {"pk": {"S": f"hot#{number}"}, "sk": {"N": "0"}}


def baseline(seed: int) -> list[Item]:
    """What both tables hold at the start."""
    rng = random.Random(f"baseline {seed}")
    return [item(rng, cold_key(number), 0) for number in range(0, COLD_KEYS, BASELINE_STEP)]


def script(seed: int, changes: int) -> Iterator[Write]:
    """The writes, in order; each one changes something."""
    rng = random.Random(f"traffic {seed}")
    existing = {tables.key_text(item) for item in baseline(seed)}
    for number in range(1, changes + 1):
        hot = rng.random() < HOT_SHARE
        key = hot_key(rng.randrange(HOT_KEYS)) if hot else cold_key(rng.randrange(COLD_KEYS))
        text = tables.key_text(key)
        if text in existing and rng.random() < (HOT_DELETE_SHARE if hot else DELETE_SHARE):
            existing.remove(text)
            yield Write(key, None)
        else:
            existing.add(text)
            yield Write(key, item(rng, key, number))


def item(rng: random.Random, key: Item, number: int) -> Item:
    """An item of every common type. `revision` is the write's number: no two versions are equal."""
    return {
        **key,
        "revision": {"N": str(number)},
        "balance": {"N": f"{rng.randrange(1_000_000) / 100:.2f}"},
        "name": {"S": rng.choice(("Ann", "Bo", "Çağla", "Dee"))},
        "active": {"BOOL": rng.random() < 0.9},
        "address": {"M": {"city": {"S": rng.choice(CITIES)}, "floor": {"N": str(rng.randrange(20))}}},
        "tags": {"SS": sorted(rng.sample(("a", "b", "c", "d", "e"), 2))},
        "avatar": {"B": rng.randbytes(24)},
        "orders": {"L": [{"N": str(rng.randrange(10_000))} for _ in range(3)]},
        "note": {"NULL": True},
    }


def main(argv: list[str]) -> None:
    """Write the changes of the schedule, spread over the time given."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--endpoint-url", "--region", "--table"):
        parser.add_argument(name, required=True)
    for name in ("--seed", "--changes"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="to spread them over")
    args = parser.parse_args(argv)
    dynamodb = tables.client(args.endpoint_url, args.region)
    started = reported = time.monotonic()
    sent = 0
    for sent, write in enumerate(script(args.seed, args.changes), start=1):
        time.sleep(max(0.0, started + (sent - 1) * args.seconds / args.changes - time.monotonic()))
        if write.item is None:
            dynamodb.delete_item(TableName=args.table, Key=write.key)
        else:
            dynamodb.put_item(TableName=args.table, Item=write.item)
        if time.monotonic() - reported > PROGRESS_SECONDS:
            reported = time.monotonic()
            say(sent=sent)
    say(sent=sent)


if __name__ == "__main__":
    main(sys.argv[1:])

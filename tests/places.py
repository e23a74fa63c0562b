"""Where a migration's keys stand: put there by hand, and looked for wherever a script could leave them.

Reads and writes: the migration's keys, as the scripts do. Never: the scripts.
"""

import struct
from collections import Counter
from typing import Any, cast

from pipeline.core.judging.history import History
from pipeline.store import FiguresView, codec
from pipeline.store.connection import GROUP
from pipeline.store.packing import unpacked_keys


def packed(*keys: bytes) -> bytes:
    """The keys of an entry, as the scripts keep them."""
    return struct.pack("<H", len(keys)) + b"".join(struct.pack("<H", len(key)) + key for key in keys)


def _numbered(store: FiguresView, *keys: bytes) -> bytes:
    number = int(store._redis.hincrby(store._key("meta"), "entry", 1)).to_bytes(8, "little")
    store._redis.hset(store._key("entries"), number, packed(*keys))
    return number


def wait(store: FiguresView, due_ms: int, histories: dict[bytes, History | bytes]) -> bytes:
    """These keys wait together for a look; the number of their entry. bytes: a history that is none."""
    number = _numbered(store, *histories)
    for key, history in histories.items():
        raw = number + codec.encode(history)[8:] if isinstance(history, History) else history
        store._redis.hset(store._key("history"), key, raw)
    store._redis.hset(store._key("due-left"), number, len(histories))
    store._redis.zadd(store._key("due"), {number: due_ms})
    return number


def queue(store: FiguresView, *keys: bytes) -> bytes:
    """An entry of `work` that lists these keys, whatever their histories say; its number."""
    number = _numbered(store, *keys)
    store._redis.xadd(store._key("work"), {b"e": number, b"t": b"1"})
    store._redis.hincrby(store._key("meta"), "queued", len(keys))
    return number


def hasten(store: FiguresView) -> None:
    """Whatever is due some time is due now."""
    due = store._key("due")
    if numbers := cast(list[bytes], store._redis.zrange(due, 0, -1)):
        store._redis.zadd(due, dict.fromkeys(numbers, 0))


def due_ms(store: FiguresView, key: bytes) -> int | None:
    """When a key is to be looked at; None: it is in work."""
    raw = cast(bytes, store._redis.hget(store._key("history"), key))
    score = store._redis.zscore(store._key("due"), raw[:8])
    return None if score is None else int(score)


class Places:
    """Everything that says where keys stand, of one instant."""

    def __init__(self, store: FiguresView) -> None:
        pipe = store._redis.pipeline(transaction=True)
        for name in ("history", "entries", "due-left"):
            pipe.hgetall(store._key(name))
        pipe.zrange(store._key("due"), 0, -1)
        pipe.xrange(store._key("work"))
        pipe.hmget(store._key("meta"), "queued", "handed_out")
        pipe.xpending_range(store._key("work"), GROUP, "-", "+", 1_000_000)
        answers: list[Any] = pipe.execute()
        histories, entries, self.left, self.due, self.work, counts, pending = answers
        self.histories = cast(dict[bytes, bytes], histories)
        self.entries = {number: unpacked_keys(raw) for number, raw in entries.items()}
        self.queued, self.handed_out = (int(one or 0) for one in counts)
        self.pending = {one["message_id"] for one in pending}

    def faults(self) -> list[str]:
        """What is not as the invariants have it; nothing of an entry that is none."""
        at_work = [fields[b"e"] for _, fields in self.work if fields.get(b"e") in self.entries]
        taken = [fields[b"e"] for at, fields in self.work if at in self.pending and b"e" in fields]
        numbers = Counter([*self.due, *at_work])
        listed = Counter((key, number) for number, keys in self.entries.items() for key in keys)
        standing = {(key, raw[:8]) for key, raw in self.histories.items()}
        told = {
            "an entry is not in one place": numbers != Counter(self.entries.keys()),
            "a key is listed twice in an entry": any(count > 1 for count in listed.values()),
            "a key stands in no entry that lists it": standing - listed.keys(),
            "an entry of work lists a key that is not there": {
                (key, number) for key, number in listed if number in at_work
            }
            - standing,
            "`due-left` is of other entries than `due`": set(self.left) != set(self.due),
            "`due-left` counts wrongly": {
                number: int(count)
                for number, count in self.left.items()
                if int(count) != sum(at == number for _, at in standing)
            },
            "`queued` counts wrongly": self.queued != sum(len(self.entries[one]) for one in at_work),
            "`handed_out` counts wrongly": self.handed_out != sum(len(self.entries[one]) for one in taken),
        }
        return [f"{what}: {self.shown(found)}" for what, found in told.items() if found]

    def shown(self, found: object) -> str:
        return "" if found is True else repr(found)[:400]

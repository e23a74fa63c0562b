"""Batches ↔ bytes: what the scripts of the hot path take, and the keys of an entry, which they give.

Reads: changes and commits, or bytes. Writes: the other. Never: redis, judging.

Everything in a few arguments: one for each field of each key costs four times as much to send. What stands
where, the scripts say (`lua/publish.lua`, `lua/commit.lua`, `lua/prelude.lua`).
"""

import struct
from collections.abc import Sequence

from pipeline.core.model import Change
from pipeline.store.codec import NUMBER_BYTES
from pipeline.store.followed import Followed
from pipeline.store.messages import Commit

_CHANGE = struct.Struct("<16s16sQBH")
_COMMIT = struct.Struct("<HHqqBI")
_SHORT, _LONG = struct.Struct("<H"), struct.Struct("<I")


def packed_changes(changes: Sequence[Change], known: Followed) -> bytes:
    """known: a key that is not of the lowered sample is marked."""
    parts: list[bytes] = []
    pack, follows_all = _CHANGE.pack, known.lowered is None
    for change in changes:
        key = change.key
        beyond = not (follows_all or known.keeps(key))
        parts += (pack(change.before, change.after, change.created_ms, beyond, len(key)), key)
    return b"".join(parts)


def packed_commits(commits: Sequence[Commit], known: Followed) -> tuple[bytes, bytes, bytes]:
    """Entries, tallies, keys; each entry and each tally once, and named by its place.

    A key beyond a lowered sample is not counted among those judged: once it is settled, it may change unseen.
    """
    entries: dict[bytes, int] = {}
    tallies: dict[str, int] = {}
    of_entries: list[bytes] = []
    parts: list[bytes] = []
    long, follows_all = _LONG.pack, known.lowered is None
    for one in commits:
        entry = one.entry
        after = entry.number + one.after[NUMBER_BYTES:] if one.after else b""
        if entry.id not in entries:
            of_entries += (_SHORT.pack(len(entry.id)), entry.id, _SHORT.pack(len(entry.number)), entry.number)
        finding = f"-{one.closing}".encode() if one.closing else (one.finding or "").encode()
        judged = one.judged and (follows_all or known.keeps(entry.key))
        head = _COMMIT.pack(
            entries.setdefault(entry.id, len(entries)),
            tallies.setdefault(one.tally, len(tallies)),
            one.next_ms,
            one.lag_ms,
            judged + 2 * one.dead + 4 * one.verdict,
            len(entry.key),
        )
        parts += (head, entry.key, long(len(entry.raw)), entry.raw, long(len(after)), after)
        parts += (long(len(finding)), finding)
    of_tallies = [part for tally in tallies for part in (_SHORT.pack(len(tally)), tally.encode())]
    return b"".join(of_entries), b"".join(of_tallies), b"".join(parts)


def unpacked_keys(packed: bytes) -> list[bytes]:
    """The keys of an entry: how many there are, and each behind its length (u16 each)."""
    keys, place = [], _SHORT.size
    while place < len(packed):
        (length,) = _SHORT.unpack_from(packed, place)
        keys.append(packed[place + 2 : place + 2 + length])
        place += 2 + length
    return keys

"""Batches ↔ bytes: what the scripts of the hot path take, and the keys of an entry, which they give.

Reads: changes and commits, or bytes. Writes: the other. Never: redis, judging.

Everything in a few arguments: one for each field of each key costs four times as much to send. What stands
where, the scripts say (`lua/publish.lua`, `lua/commit.lua`, `lua/prelude.lua`).
"""

import struct
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from pipeline.core.model import Change
from pipeline.store.codec import NUMBER_BYTES
from pipeline.store.followed import Followed
from pipeline.store.messages import Commit

_CHANGE = struct.Struct("<16s16sQBH")
_COMMIT = struct.Struct("<HqqBI")
_SHORT, _LONG = struct.Struct("<H"), struct.Struct("<I")
#: Keys whose commits stand together, as many as an entry has: Lua takes not much more at once.
_TOGETHER = 100


def packed_changes(changes: Sequence[Change], known: Followed) -> bytes:
    """known: a key that is not of the lowered sample is marked."""
    parts: list[bytes] = []
    pack, follows_all = _CHANGE.pack, known.lowered is None
    for change in changes:
        key = change.key
        beyond = not (follows_all or known.keeps(key))
        parts += (pack(change.before, change.after, change.created_ms, beyond, len(key)), key)
    return b"".join(parts)


def packed_commits(commits: Sequence[Commit], known: Followed) -> tuple[bytes, bytes]:
    """Tallies, each once and named by its place; keys, in the order given, those of one entry together.

    A key beyond a lowered sample is not counted among those judged: once it is settled, it may change unseen.
    """
    tallies: dict[str, int] = {}
    parts: list[bytes] = []
    for _, of_entry in groupby(commits, key=attrgetter("entry.id")):
        some = list(of_entry)
        for first in range(0, len(some), _TOGETHER):
            parts += _of_entry(some[first : first + _TOGETHER], tallies, known)
    of_tallies = [part for tally in tallies for part in (_SHORT.pack(len(tally)), tally.encode())]
    return b"".join(of_tallies), b"".join(parts)


def _of_entry(commits: Sequence[Commit], tallies: dict[str, int], known: Followed) -> list[bytes]:
    """What is committed of keys of one entry."""
    entry, follows_all = commits[0].entry, known.lowered is None
    pack, long, listed = _COMMIT.pack, _LONG.pack, _packed_keys([one.entry.key for one in commits])
    parts = [_SHORT.pack(len(entry.id)), entry.id, _SHORT.pack(len(entry.number)), entry.number]
    parts += (long(len(listed)), listed)
    number, tally_of = entry.number, tallies.setdefault
    for one in commits:
        raw, after, finding = one.entry.raw, b"", b""
        if one.after:
            after = number + one.after[NUMBER_BYTES:]
        if one.closing:
            finding = f"-{one.closing}".encode()
        elif one.finding:
            finding = one.finding.encode()
        judged = one.judged and (follows_all or known.keeps(one.entry.key))
        flags = judged + 2 * one.dead + 4 * one.verdict
        tally = tally_of(one.tally, len(tallies) + 1)
        head = pack(tally, one.next_ms, one.lag_ms, flags, len(raw))
        parts += (head, raw, long(len(after)), after, long(len(finding)), finding)
    return parts


def _packed_keys(keys: Sequence[bytes]) -> bytes:
    """Keys as an entry has them; see `unpacked_keys`."""
    short = _SHORT.pack
    return short(len(keys)) + b"".join([short(len(key)) + key for key in keys])


def unpacked_keys(packed: bytes) -> list[bytes]:
    """The keys of an entry: how many there are, and each behind its length (u16 each)."""
    keys, place = [], _SHORT.size
    while place < len(packed):
        (length,) = _SHORT.unpack_from(packed, place)
        keys.append(packed[place + 2 : place + 2 + length])
        place += 2 + length
    return keys

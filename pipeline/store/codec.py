"""History ↔ bytes: the form in which Redis keeps a history, chosen so that Lua can append to it.

Reads: bytes or a `History`. Writes: the other. Never: I/O, judging.

Layout (little endian), which `lua/prelude.lua` knows as well:

    0..7    number of the entry that the key stands in, which the scripts give it
    byte 8  format (3)          byte 11 finding kind (0 = none)
    byte 9  phase               byte 12 lo
    byte 10 flags               13..36  first, alarmed, skipped, late (u32 each), looked_ms (u64)
    excuse section, only with FLAG_EXCUSE: excused (u32), excused_since_ms (u64)
    held section, only with FLAG_HELD: digest, witness (16 each), since_ms, at_ms, answered_ms (u64), seen,
                   flags (u32)
    versions, to the end, 24 bytes each: digest (16), created_ms (u64); appending a version = appending bytes
"""

import struct
from itertools import starmap

from pipeline.core.judging.history import HeldLook, History, fault_of
from pipeline.core.model import UNKNOWN, Look, Phase, VerdictKind

FORMAT = 3
#: Bits of the flags; those of a held look are its own.
FLAG_UNSEEN, FLAG_SETTLE, FLAG_INCOMPLETE, FLAG_HELD, FLAG_EXCUSE, FLAG_SUSPECT = 1, 2, 4, 8, 16, 32
_HELD_STRONG, _HELD_VERIFIED_EXPIRES, _HELD_WITNESS, _HELD_WITNESS_EXPIRES = 1, 2, 4, 8

#: The number of an entry: bytes that nobody but the scripts reads; a history that is written has none yet.
NUMBER_BYTES = 8
HEADER = struct.Struct("<8s5B4IQ")
EXCUSE = struct.Struct("<IQ")
HELD = struct.Struct("<16s16sQQQII")
VERSION = struct.Struct("<16sQ")
#: What stands in Redis for a kind and a phase. A code keeps its meaning for ever, or FORMAT changes.
KIND_CODES: dict[VerdictKind | None, int] = {
    None: 0,
    VerdictKind.MISSING: 1,
    VerdictKind.STALE: 2,
    VerdictKind.DIFFERENT: 3,
    VerdictKind.EXTRA: 4,
}
PHASE_CODES = {Phase.WAITING: 0, Phase.SETTLING: 1, Phase.ALARMED: 2, Phase.EXCUSED: 3}
_KINDS = {code: kind for kind, code in KIND_CODES.items()}
_PHASES = {code: phase for phase, code in PHASE_CODES.items()}


def encode(history: History) -> bytes:
    """The bytes that `decode` turns back into an equal history; they stand in no entry yet."""
    held, excused = history.held, bool(history.excused or history.excused_since_ms)
    flags = (
        (FLAG_SETTLE if history.settle else 0)
        | (FLAG_INCOMPLETE if history.incomplete else 0)
        | (FLAG_HELD if held else 0)
        | (FLAG_EXCUSE if excused else 0)
        | (FLAG_SUSPECT if history.suspect else 0)
        | (FLAG_UNSEEN if history.unseen else 0)
    )
    header = HEADER.pack(
        b"",
        FORMAT,
        PHASE_CODES[history.phase],
        flags,
        KIND_CODES[history.kind],
        history.lo,
        history.first,
        history.alarmed,
        history.skipped,
        history.late,
        history.looked_ms,
    )
    versions = b"".join(starmap(VERSION.pack, history.versions))
    excuse = EXCUSE.pack(history.excused, history.excused_since_ms) if excused else b""
    return header + excuse + (_encode_held(held) if held else b"") + versions


def decode(raw: bytes) -> History:
    """Raises ValueError for bytes that are not a history of this format."""
    try:
        _, form, phase, flags, kind, lo, first, alarmed, skipped, late, looked_ms = HEADER.unpack_from(raw)
        start, excuse, held = HEADER.size, (0, 0), None
        if flags & FLAG_EXCUSE:
            excuse = EXCUSE.unpack_from(raw, start)
            start += EXCUSE.size
        if flags & FLAG_HELD:
            held = _decode_held(raw, start)
            start += HELD.size
        versions = tuple(VERSION.iter_unpack(raw[start:]))
    except struct.error as error:
        raise ValueError("not a history: wrong length") from error
    if form != FORMAT or phase not in _PHASES or kind not in _KINDS or not versions or lo > len(versions):
        raise ValueError("not a history: unknown format")
    # By position: with so many names it takes twice as long.
    history = History(
        versions,
        lo,
        _PHASES[phase],
        first,
        alarmed,
        skipped,
        _KINDS[kind],
        flags & FLAG_SETTLE != 0,
        flags & FLAG_INCOMPLETE != 0,
        looked_ms,
        late,
        held,
        excuse[0],
        excuse[1],
        flags & FLAG_SUSPECT != 0,
        flags & FLAG_UNSEEN != 0,
    )
    if fault := fault_of(history):
        raise ValueError(f"not a history: {fault}")
    return history


def _encode_held(held: HeldLook) -> bytes:
    look = held.look
    flags = (
        (_HELD_STRONG if look.strong else 0)
        | (_HELD_VERIFIED_EXPIRES if look.verified_expires else 0)
        | (_HELD_WITNESS if look.witness is not None else 0)
        | (_HELD_WITNESS_EXPIRES if look.witness_expires else 0)
    )
    return HELD.pack(
        look.digest, look.witness or UNKNOWN, held.since_ms, look.at_ms, look.answered_ms, look.seen, flags
    )


def _decode_held(raw: bytes, start: int) -> HeldLook:
    digest, witness, since_ms, at_ms, answered_ms, seen, flags = HELD.unpack_from(raw, start)
    look = Look(
        digest=digest,
        at_ms=at_ms,
        seen=seen,
        strong=bool(flags & _HELD_STRONG),
        witness=witness if flags & _HELD_WITNESS else None,
        verified_expires=bool(flags & _HELD_VERIFIED_EXPIRES),
        witness_expires=bool(flags & _HELD_WITNESS_EXPIRES),
        answered_ms=answered_ms,
    )
    return HeldLook(look, since_ms)

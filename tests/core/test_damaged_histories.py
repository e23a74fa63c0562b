"""Damaged bytes of a history: no history, or one that every look can judge and every store can keep."""

import random
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.judging.history import HeldLook, History, Judgement, fault_of
from pipeline.core.judging.rule import judge, wake
from pipeline.core.ledger import buried, tally
from pipeline.core.model import ABSENT, MISMATCHES, UNKNOWN, Look, Moment, Phase, Policy
from pipeline.store import codec

DIGESTS = (*(bytes([n]) * 16 for n in range(1, 5)), ABSENT, UNKNOWN)
ODD_BYTES = (0, 1, 2, 127, 128, 254, 255)
LATEST_MS = 3_000_000


def look(lot: random.Random, at_ms: int, seen: int) -> Look:
    return Look(
        lot.choice(DIGESTS),
        at_ms,
        seen,
        strong=lot.random() < 0.5,
        witness=lot.choice([None, *DIGESTS]),
        verified_expires=lot.random() < 0.3,
        witness_expires=lot.random() < 0.3,
        answered_ms=at_ms,
    )


def a_history(lot: random.Random) -> History:
    while True:
        length = lot.randint(1, 6)
        lo = lot.randint(0, length)
        held = None
        if lot.random() < 0.4:
            held = HeldLook(
                look(lot, lot.randint(0, LATEST_MS), lot.randint(0, length)), lot.randint(0, LATEST_MS)
            )
        drawn = History(
            tuple((lot.choice(DIGESTS), lot.randint(0, LATEST_MS)) for _ in range(length)),
            lo,
            phase=lot.choice(list(Phase)),
            first=lot.randint(0, 5),
            alarmed=lot.randint(0, length - lo),
            skipped=lot.randint(0, 3),
            kind=lot.choice([None, *MISMATCHES]),
            settle=lot.random() < 0.5,
            incomplete=lot.random() < 0.5,
            looked_ms=lot.randint(0, LATEST_MS),
            late=lot.randint(0, 200),
            held=held,
            excused_since_ms=lot.choice([0, 5]),
            suspect=lot.random() < 0.3,
            unseen=lot.random() < 0.3,
        )
        if not fault_of(drawn):
            return drawn


def damaged(lot: random.Random) -> bytes:
    raw = bytearray(codec.encode(a_history(lot)))
    for _ in range(lot.choice([0, 1, 1, 1, 2, 5])):
        raw[lot.randrange(len(raw))] = lot.choice([*ODD_BYTES, lot.randrange(256)])
    if lot.random() < 0.1:
        del raw[lot.randrange(len(raw)) :]
    return bytes(raw) + (lot.randbytes(lot.choice([1, 24, 48])) if lot.random() < 0.05 else b"")


def check(history: History, judgement: Judgement | None) -> None:
    """It can be stored, counted, and read again."""
    if judgement is None:
        return
    tally(history, judgement, 1, 0)
    struct.pack("<qq", judgement.next_ms, judgement.lag_ms)
    if judgement.history is not None:
        codec.decode(codec.encode(judgement.history))


@settings(max_examples=2_000)
@given(st.integers(0, 2**32))
def test_damaged_bytes_are_no_history_or_one_that_can_be_judged(seed: int) -> None:
    lot = random.Random(seed)
    try:
        history = codec.decode(damaged(lot))
    except ValueError:
        return
    buried(history)
    for _ in range(4):
        now_ms = lot.randint(0, LATEST_MS)
        moment = Moment(
            now_ms,
            lot.choice([0, now_ms, max(0, now_ms - 5_000)]),
            lot.choice([0, max(0, now_ms - 9_000)]),
            lot.choice([0, now_ms // 2]),
            lot.random() < 0.7,
        )
        policy = Policy(60_000, 30_000, leads=lot.random() < 0.3)
        check(history, wake(history, moment, policy))
        check(history, judge(history, look(lot, now_ms, history.newest), moment, policy))


@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_no_defect(raw: bytes) -> None:
    try:
        codec.decode(raw)
    except ValueError:
        return

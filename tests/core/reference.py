"""Plain-Python references of what the store's scripts do, for the simulation and for tests of the scripts."""

import msgspec

from pipeline.core.judging.divergence import WATCH_MIN_MS
from pipeline.core.judging.history import LOOK_SPACING_MS, History
from pipeline.core.model import UNKNOWN, Change, Phase, Version


def append(history: History | None, change: Change) -> History:
    """A history with one more version: what lua/publish.lua does to the bytes."""
    version = (change.after, change.created_ms)
    if history is None:
        base: tuple[Version, ...] = () if change.before == UNKNOWN else ((change.before, 0),)
        return History((*base, version), lo=len(base))
    versions, incomplete = history.versions, history.incomplete
    last = versions[-1]
    if change.before != UNKNOWN and last[0] == UNKNOWN:
        versions = (*versions[:-1], (change.before, last[1]))
    elif change.before not in (UNKNOWN, last[0]):
        incomplete = True
    phase = Phase.WAITING if history.phase is Phase.SETTLING else history.phase
    return msgspec.structs.replace(
        history,
        versions=(*versions, version),
        phase=phase,
        settle=True,
        incomplete=incomplete,
        suspect=False,
        unseen=True,
    )


def brought_forward(history: History, due_ms: int, now_ms: int, worth_from_ms: int = 0) -> int:
    """When a key that was due at `due_ms` is due after a publish at `now_ms`; `history` as before it.

    worth_from_ms: when half of what was written with this change has come through; 0 = it is a probe.
    """
    if history.phase is Phase.WAITING:
        return due_ms
    watched = history.phase in (Phase.ALARMED, Phase.EXCUSED)
    spacing = WATCH_MIN_MS if watched else LOOK_SPACING_MS
    return min(due_ms, max(now_ms, history.looked_ms + spacing, worth_from_ms))

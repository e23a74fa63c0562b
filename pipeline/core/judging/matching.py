"""What a look that looks like a version proves: the version was reached, or an earlier one that looks alike.

Reads: a `History`, a `Look`, a `Moment`, a `Policy`. Writes: nothing. Never: alarms (see `history`), I/O.
"""

from pipeline.core.judging.history import FLOOR_MS, History, caught_up, may_lack_versions
from pipeline.core.model import ABSENT, UNKNOWN, Look, Moment, Policy


def shows_newest(history: History, look: Look, moment: Moment) -> bool:
    """True when the look shows the newest version, or both sides to be equal and nothing newer is known."""
    return look.digest == history.versions[-1][0] or (
        look.seen >= history.newest and _equal_now(history, look, moment)
    )


def _equal_now(history: History, look: Look, moment: Moment) -> bool:
    """True when both sides held the same.

    That neither holds the item proves nothing while the newest version is one: a deletion would have a record
    of its own, so it is still to be read, or the key was misread and both sides were asked for another.
    """
    if look.digest != look.witness:
        return False
    return look.digest != ABSENT or history.versions[-1][0] == ABSENT or may_lack_versions(history, moment)


def match(history: History, look: Look, moment: Moment, policy: Policy) -> int:
    """Index of the newest unreached version that the look proves reached, or -1."""
    top = _newest_shown(history, look, moment)
    if top < 0 or policy.leads:  # a side that leads is never at an earlier version
        return top
    earlier = _may_still_be_at(history, look, top, moment, policy)
    if earlier is None:
        return top
    return earlier if earlier >= history.lo else -1


def _newest_shown(history: History, look: Look, moment: Moment) -> int:
    versions, lo = history.versions, history.lo
    for index in range(len(versions) - 1, lo - 1, -1):
        if versions[index][0] == look.digest:
            return index
    if _equal_now(history, look, moment):
        # So every version known before the read is reached or superseded.
        index = min(look.seen - history.first, len(versions) - 1)
        return index if index >= lo else -1
    return -1


def _may_still_be_at(history: History, look: Look, top: int, moment: Moment, policy: Policy) -> int | None:
    """The earliest version that looks like `top` and that the replica may still be at: A → B → A.

    A replica that is done and one that has not begun then look the same. It cannot be at a version whose
    successor has had its time to be replicated. Two versions in a row are never equal, so `top - 1` is none
    (where both sides were merely equal, `top` may be a version that is still to be read: then it may).
    Contents that were not shown may be anything. None = there is no such version.
    """
    replicated_ms = look.at_ms - policy.converge_within_ms - FLOOR_MS
    versions = history.versions
    shown = versions[top][0] == look.digest or caught_up(history, look, moment)
    for index in range(history.lo - 1, top - 1 if shown else top):
        digest = versions[index][0] if index >= 0 else UNKNOWN  # what was there before the first version
        if digest in (look.digest, UNKNOWN) and versions[index + 1][1] > replicated_ms:
            return index
    return None

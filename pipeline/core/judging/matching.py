"""What a look proves: what was reached, whether the readers are past it, whether the history vouches.

Reads: a `History`, a `Look`, a `Moment`, a `Policy`. Writes: a `Proof`. Never: decisions, I/O. Decisions are
made in `rule`.
"""

import msgspec

from pipeline.core.judging.history import FLOOR_MS, History
from pipeline.core.model import ABSENT, UNKNOWN, Look, Moment, Policy


class Proof(msgspec.Struct, frozen=True, gc=False):
    """What a look says about a history; worked out when it is asked for, as most looks only match.

    reached: index of the newest unreached version that is proven reached, -1 = none is.
    """

    reached: int
    history: History
    look: Look
    moment: Moment
    policy: Policy

    @property
    def shows_newest(self) -> bool:
        """The look shows the newest version, or both sides to be equal and nothing newer is known."""
        return _shows_newest(self.history, self.look, self.moment)

    @property
    def caught_up(self) -> bool:
        """Every change of this key that the look may have seen is in the history."""
        return caught_up(self.history, self.look, self.moment)

    @property
    def vouches(self) -> bool:
        """The history holds every version since `lo`, with its content: a look that none of them explains is
        evidence.
        """
        return not self.policy.leads and _is_complete(self.history, self.moment)

    @property
    def ttl_removes(self) -> bool:
        """TTL will delete what either side holds, and with it the difference."""
        return _ttl_removes(self.look)


def prove(history: History, look: Look, moment: Moment, policy: Policy) -> Proof:
    """What `look` says about `history`, which has an unreached version."""
    return Proof(_reached(history, look, moment, policy), history, look, moment, policy)


def _ttl_removes(look: Look) -> bool:
    """True when each side that holds an item will be emptied by TTL, and one does: both are empty in the end.

    So *missing* takes a source that expires, *extra* a target that does, anything else both.
    """
    expires = (look.verified_expires, look.witness_expires)
    holds = (look.digest != ABSENT, look.witness != ABSENT)
    return any(holds) and holds == expires


def caught_up(history: History, look: Look, moment: Moment) -> bool:
    """True when every change of this key that the look may have seen is in its history.

    Of a suspect, while nobody reads the stream, there is nothing to wait for.
    """
    if history.suspect and not moment.watched:
        return True
    seen_ms = max(look.at_ms, look.answered_ms) + FLOOR_MS
    return moment.watermark_ms >= seen_ms or history.versions[-1][1] > seen_ms


def _is_complete(history: History, moment: Moment) -> bool:
    """True when the history holds every version since `lo`, with its content."""
    if _may_lack_versions(history, moment):
        return False
    return not any(digest == UNKNOWN for digest, _ in history.versions[history.lo :])


def _may_lack_versions(history: History, moment: Moment) -> bool:
    """True when a version since `lo` may never have been published: records were lost."""
    return history.incomplete or history.versions[history.lo][1] <= moment.gap_ms


def _shows_newest(history: History, look: Look, moment: Moment) -> bool:
    return look.digest == history.versions[-1][0] or (
        look.seen >= history.newest and _equal_now(history, look, moment)
    )


def _equal_now(history: History, look: Look, moment: Moment) -> bool:
    """True when both sides held the same.

    That neither holds the item proves nothing while the newest version is an item: a deletion would have a
    record of its own, so it is still to be read, or the key was misread and both were asked for another.
    """
    if look.digest != look.witness:
        return False
    return look.digest != ABSENT or history.versions[-1][0] == ABSENT or _may_lack_versions(history, moment)


def _reached(history: History, look: Look, moment: Moment, policy: Policy) -> int:
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
    """The earliest version that looks like `top` and that the replica may still be at; None = there is none.

    A replica that is done with A → B → A and one that has not begun look the same. It cannot be at a version
    whose successor has had its time to be replicated. Contents that were not shown may be anything.

    An item created at 2 s and deleted at 3 s, --converge-within 60s (times in seconds):

        index    0       1      2
        looks    absent  A      absent        lo = 1
        written  –       2      3

     1. Look at 4: absent. The newest version that looks so is 2: `top` = 2.
     2. What was written up to 4 - 60 - 1 = -57 has been replicated: nothing of this.
     3. Candidates before `top`: from lo - 1 = 0 (where the replica was before) to top - 2 = 0. Not top - 1:
        two versions in a row are never equal, so it cannot look like `top`.
     4. Version 0 looks absent, and its successor was written at 2, which is not over (2 > -57). The replica
        may still be there: 0 is returned. It lies before `lo`, so the look proves nothing.
     5. Look at 63: absent. What was written up to 63 - 61 = 2 has been replicated, so version 0's successor
        was: the replica has left 0. None is returned, and versions 1 and 2 are reached.

    Where both sides were merely equal and the readers are not past the look, `top` need not look like the
    look: the equal content may be a version still to be read, and then `top` - 1 may look like it (step 3).
    """
    replicated_ms = look.at_ms - policy.converge_within_ms - FLOOR_MS
    versions = history.versions
    shown = versions[top][0] == look.digest or caught_up(history, look, moment)
    for index in range(history.lo - 1, top - 1 if shown else top):
        digest = versions[index][0] if index >= 0 else UNKNOWN  # what was there before the first version
        if digest in (look.digest, UNKNOWN) and versions[index + 1][1] > replicated_ms:
            return index
    return None

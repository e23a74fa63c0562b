"""What a look that shows a version says of the replication lag.

Reads: a `History`, a `Look`, a `Policy`. Writes: nothing. Never: decisions, I/O.
"""

from pipeline.core.judging.history import History
from pipeline.core.model import Look, Phase, Policy

#: What is found when nobody has looked for it for longer than this, this monitor was late for.
OWN_DELAY_MS = 30_000
#: Named once: on Python 3.11 finding an enum's member takes as long as all that is done with it.
_EXCUSED = Phase.EXCUSED


def measured_lag_ms(history: History, reached: int, look: Look, policy: Policy) -> int:
    """Replication lag in ms: written → first look that showed it (an upper bound); -1 = not measurable.

    Where the verified side leads, the write that the origin received is not timed; a look that the origin
    matched only later gives a lower bound. What ended an excuse may be TTL's doing, which is no replication.
    When a suspect's version was written nobody knows. Nor is known how long one took before which nobody
    looked for long: reader or validators were late, and the replication need not have been. One that a look
    missed long after its write was late all the same.
    """
    digest, created_ms = history.versions[reached]
    if digest != look.digest or history.phase is _EXCUSED or history.suspect:
        return -1
    if policy.leads:
        return created_ms - look.at_ms if created_ms > look.at_ms else -1
    lag_ms, own_delay_ms = max(0, look.at_ms - created_ms), OWN_DELAY_MS + policy.first_look_ms
    if lag_ms <= own_delay_ms:
        return lag_ms
    missed_ms = created_ms if _is_first_look(history, reached, look) else max(history.looked_ms, created_ms)
    is_ours = look.at_ms - missed_ms > own_delay_ms and missed_ms - created_ms <= own_delay_ms
    return -1 if is_ours else lag_ms


def _is_first_look(history: History, reached: int, look: Look) -> bool:
    """True when no look before this one was about the version: it was published after them."""
    ordinal = history.first + reached
    return ordinal > look.seen or (history.unseen and ordinal == history.newest)

"""The still stand: how long the source has not moved, where only that makes a difference evidence.

Reads: a `History`, a `HeldLook`, a `Look`, a `Policy`. Writes: nothing. Never: decisions, I/O.
"""

from pipeline.core.judging.history import FLOOR_MS, HeldLook, History
from pipeline.core.model import Look, Policy

#: A suspect is looked at on both sides, after waits that double, within these bounds.
SUSPECT_MIN_MS, SUSPECT_MAX_MS = 2_000, 15_000


def hold(held: HeldLook | None, history: History, look: Look, policy: Policy) -> HeldLook:
    """Keep the look; the still stand goes on when neither the source nor the history moved."""
    if held is not None and held.look.seen == look.seen and look.seen == history.newest:
        before, now = _source_digest(held.look, policy), _source_digest(look, policy)
        if before == now and now is not None:
            return HeldLook(look, held.since_ms)
    return HeldLook(look, look.at_ms)


def _source_digest(look: Look, policy: Policy) -> bytes | None:
    """What the side that is written to held: the verified side where it leads, else the witness."""
    return look.digest if policy.leads else look.witness


def rests_until_ms(held: HeldLook, policy: Policy) -> int:
    """Until when the source must stand still to be evidence where the history does not vouch."""
    return held.since_ms + policy.converge_within_ms + FLOOR_MS


def suspect_again_ms(held: HeldLook, policy: Policy) -> int:
    """When both sides of a suspect are looked at again."""
    wait_ms = min(max(held.look.at_ms - held.since_ms, SUSPECT_MIN_MS), SUSPECT_MAX_MS)
    rested_ms = rests_until_ms(held, policy)
    again_ms = held.look.at_ms + wait_ms
    return rested_ms if held.look.at_ms < rested_ms < again_ms else again_ms

"""What lies ahead: when enough is known, when nothing waits; and up to when everything is settled.

Reads: figures, samples. Writes: nothing. Never: I/O, clocks. Rates are those of the last minutes: an outlook,
no promise. What cannot be told is None, with the reason.
"""

from collections.abc import Sequence

import msgspec

from pipeline.core.figures import Figures
from pipeline.core.gate import Limits, keys_needed
from pipeline.core.samples import Sample

#: The rates are those since the oldest sample of the last quarter of an hour, which must be a minute old.
WINDOW_MS, LEAST_MS = 900_000, 60_000


class Instant(msgspec.Struct, frozen=True):
    """An instant, or None and why there is none."""

    at_ms: int | None
    why: str = ""


class Unsettled(msgspec.Struct, frozen=True):
    """Of the keys under way: when the oldest version without an answer was written (None = all have one), and
    whether all keys were asked (False = they were too many).
    """

    oldest_ms: int | None
    complete: bool


class Outlook(msgspec.Struct, frozen=True):
    """enough_keys: when the changed keys will show the objective, if all go on being right. backlog_empty:
    when no key waits for its turn. verified_up_to: every sampled change that was written before has its
    answer.
    """

    enough_keys: Instant
    backlog_empty: Instant
    verified_up_to: Instant


def outlook(figures: Figures, samples: Sequence[Sample], limits: Limits, unsettled: Unsettled) -> Outlook:
    """All that is known of what comes, and up to when what came is settled."""
    since = _reference(figures, samples)
    return Outlook(
        _enough_keys(figures, since, limits),
        _backlog_empty(figures, since),
        verified_up_to(figures, unsettled),
    )


def _reference(figures: Figures, samples: Sequence[Sample]) -> Sample | None:
    """What the rates are measured from."""
    counted_since_ms = figures.lowered.since_ms if figures.lowered else 0
    recent = (
        one
        for one in samples
        if LEAST_MS <= figures.now_ms - one.at_ms <= WINDOW_MS and one.at_ms >= counted_since_ms
    )
    return min(recent, key=lambda one: one.at_ms, default=None)


def _enough_keys(figures: Figures, since: Sample | None, limits: Limits) -> Instant:
    success = figures.success
    if success.low is not None and success.low >= limits.objective:
        return Instant(figures.now_ms)
    if limits.objective >= 1:
        return Instant(None, "no sample can show that every key is right")
    if figures.open_total:
        return Instant(None, "findings are open")
    missing = keys_needed(limits.objective, success.confidence) - success.keys
    return _reached(figures, since, missing, success.keys - since.keys if since else 0)


def _backlog_empty(figures: Figures, since: Sample | None) -> Instant:
    backlog = figures.queue.backlog
    if not backlog:
        return Instant(figures.now_ms)
    return _reached(figures, since, backlog, since.backlog - backlog if since else 0)


def _reached(figures: Figures, since: Sample | None, missing: int, done: int) -> Instant:
    """When `missing` is done, if it goes on as it did since: `done` in that time."""
    if since is None:
        return Instant(None, "not watched for long enough to tell how fast it goes")
    if done <= 0:
        return Instant(None, "it has come no nearer in the last minutes")
    return Instant(figures.now_ms + max(0, missing) * (figures.now_ms - since.at_ms) // done)


def verified_up_to(figures: Figures, unsettled: Unsettled) -> Instant:
    """The instant before which every sampled change has its answer; a finding is one."""
    if figures.reader_lag_seconds is None:
        return Instant(None, "the readers have not said how far they are")
    if figures.reader.gaps_open:
        return Instant(None, "stream records were lost")
    if figures.queue.dead:
        return Instant(None, "keys were given up without a verdict")
    if not unsettled.complete:
        return Instant(None, "too many keys are under way to ask all of them")
    watermark_ms = figures.reader.watermark_ms
    oldest_ms = watermark_ms if unsettled.oldest_ms is None else unsettled.oldest_ms
    return Instant(min(watermark_ms, oldest_ms, figures.now_ms))

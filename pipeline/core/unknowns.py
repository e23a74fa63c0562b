"""What the answer does not cover, said beside it: a GO is a claim about what was looked at.

Reads: figures, how the migration was begun. Writes: nothing. Never: I/O, clocks.
"""

from collections.abc import Iterator, Mapping

from pipeline.core.budget import at, hole_in_words, in_words, no_help
from pipeline.core.comparing import result as comparing
from pipeline.core.figures import Figures
from pipeline.core.gate import Limits, Scope
from pipeline.core.model import Side

_BLIND = {
    Side.TARGET: "changes are read from the source's stream and looked up in the target: what was written to "
    "the target alone is not seen this way",
    Side.SOURCE: "changes are read from the target's stream and looked up in the source: a change that never "
    "reached the target leaves no record there and is not seen this way",
}


def unknowns(figures: Figures, settings: Mapping[str, str], limits: Limits) -> list[str]:
    """A sentence each, the general ones first. settings: those that the migration was begun with."""
    verify_on = Side(settings.get("verify_on", Side.TARGET))
    whole = _whole_table(figures, limits)
    also = ", and no comparison of the whole table makes up for it" if whole else ""
    return [
        f"{_BLIND[verify_on]}{also}",
        *([whole] if whole else []),
        *_deadline(figures, limits),
        *_shares(figures, settings),
        *_counts(figures),
    ]


def _whole_table(figures: Figures, limits: Limits) -> str:
    """Why what did not change is not vouched for; "" = it is."""
    if limits.scope is Scope.CHANGES:
        return "items that did not change under watch are not vouched for (--gate-scope changes)"
    comparison = figures.of_table
    if comparison is None:
        return "items that did not change under watch were not compared: `compare` does that"
    if why := comparing.unproven(comparison, figures):
        return f"the comparison of the whole table proves nothing yet: {why}"
    return ""


def _deadline(figures: Figures, limits: Limits) -> Iterator[str]:
    """The deadline in use, where it follows the lag."""
    if (adaptive := figures.adaptive) is None:
        return
    late = adaptive.converge_within_ms > limits.lag_ms
    also = f", although --gate-lag allows {limits.lag_ms / 1000:.0f} s" if late else ""
    yield f"{adaptive.in_words}; what is late by less is not told of yet{also}"


def _shares(figures: Figures, settings: Mapping[str, str]) -> Iterator[str]:
    if lowered := in_words(figures.sample):
        yield lowered
    if hole := hole_in_words(figures.sample):
        yield hole
    if cannot := no_help(figures.spending, figures.terms, figures.now_ms, figures.sample):
        yield cannot
    rate = min(float(settings.get("sample_rate", "100")), figures.sample.percent)
    if rate < 100:
        yield f"{rate:.3g} % of the keys are followed; of the others only the interval speaks"
    comparison = figures.of_table
    if comparison and not comparison.whole:
        of = "keys" if comparison.settings.exports else "segments"
        yield f"{comparison.settings.sample_percent:g} % of the {of} of the tables were compared"
    if ignored := settings.get("ignore_attributes"):
        yield f"attributes that are not compared: {ignored.replace(',', ', ')}"
    if settings.get("iterator_type") == "LATEST":
        yield "changes of before the watch began were not read: only a comparison speaks for what they did"


def _counts(figures: Figures) -> Iterator[str]:
    ledger, excused = figures.ledger, figures.ledger.excused
    if excused:
        yield f"keys that differ in what TTL itself will remove, neither right nor wrong: {excused:,}"
    if ledger.indeterminate:
        yield f"versions that could not be decided: {ledger.indeterminate:,}"
    if ledger.suspects_indeterminate:
        yield f"suspects whose source never stood still, not decided: {ledger.suspects_indeterminate:,}"
    if ledger.outstanding:
        yield f"versions that have no answer yet: {ledger.outstanding:,}"
    if lost := figures.reader.gaps_open:
        yield f"losses of stream records: {lost:,}; what they held is not known"
    if figures.queue.dead:
        yield f"keys given up without a verdict: {figures.queue.dead:,}"


def keys_in_words(figures: Figures) -> str:
    """Keys seen and keys compared, and where the difference is."""
    seen, success = figures.ledger.keys_sampled, figures.success
    compared, excused = success.keys, success.excused
    since = f" since {at(figures.lowered.since_ms)}, when the sample changed" if figures.lowered else ""
    said = f"{seen:,} keys were seen to change{since} (estimated, ± 1 %), {compared:,} of them have an answer"
    parts = [f"{excused:,} are excused"] if excused else []
    if figures.queue.outstanding:
        parts.append(
            f"{figures.queue.outstanding:,} are under way at this moment, with or without an earlier answer"
        )
    if figures.ledger.suspects_published:
        parts.append(
            f"{figures.ledger.suspects_published:,} came from a comparison and are not counted as compared"
        )
    return f"{said}; {', '.join(parts)}" if parts else said

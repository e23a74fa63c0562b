"""How far the sample was lowered because of what it cost (`--max-cost-per-hour`), and what that leaves known.

Reads: nothing. Writes: nothing. Never: I/O, clocks.

Samples are nested (`sampling`): every key of the lower one was followed all the time. A key beyond it is
followed until its history is closed, and then left out: it may change unseen. So the keys that were judged
are counted anew whenever the sample changes, and only those of the sample in use count.
"""

from collections.abc import Collection
from math import floor, log2

import msgspec

from pipeline.core.cost import (
    GET_RECORDS,
    HOUR_MS,
    OF_LOOKS,
    STREAM,
    WINDOW_MINUTES,
    Prices,
    Spending,
    Terms,
    dollars_of,
    window,
)

#: No sample is made smaller: one key in a hundred thousand says next to nothing.
LEAST_PERCENT = 0.001
#: Histories that were open when the sample was lowered are not waited for longer.
SETTLE_AT_MOST_MS = 600_000
#: A Scan may show what was right a moment ago, and the clocks of two processes are apart.
BEHIND_MS = 10_000
#: Of the budget a comparison always has so much, or it would never end.
LEAST_SHARE = 0.1


class Lowered(msgspec.Struct, frozen=True):
    """The sample in use, where it is or was another one than the migration was begun with.

    percent: of the keys, followed since since_ms. budget, spent: dollars an hour, allowed and spent, that led
    to it. least_percent: the lowest there was. first_ms: when the sample was lowered first. raised_ms: when
    the operator last raised it again, 0 = never.
    """

    percent: float
    since_ms: int
    budget: float
    spent: float
    least_percent: float
    first_ms: int
    raised_ms: int = 0

    @property
    def fills_from_ms(self) -> int:
        """A comparison that vouches from then on has seen what changed unseen until the sample was raised."""
        return self.raised_ms + BEHIND_MS

    @property
    def has_hole(self) -> bool:
        """Whether keys of the sample in use were left out for a while: they may have changed unseen."""
        return self.least_percent < self.percent


class InUse(msgspec.Struct, frozen=True):
    """The sample as it is: percent of the keys that the migration was begun with, and how it was changed."""

    begun_percent: float
    started_ms: int
    lowered: Lowered | None

    @property
    def percent(self) -> float:
        return self.lowered.percent if self.lowered else self.begun_percent

    @property
    def lowered_ms(self) -> int:
        """Since when it is as it is."""
        return self.lowered.since_ms if self.lowered else self.started_ms


def stream_an_hour(
    spending: Spending, terms: Terms, now_ms: int, since_ms: int
) -> tuple[float, float] | None:
    """Dollars an hour of looking keys up, and of reading the stream; None before they are known.

    Scans are a comparison's, which keeps to what is left by going more slowly (`comparison_share`).
    """
    recent = window(spending, now_ms, since_ms)
    if recent is None:
        return None
    bill, hours = recent
    stream = ((STREAM, GET_RECORDS),)
    return dollars_of(bill, terms.prices, OF_LOOKS) / hours, dollars_of(bill, terms.prices, stream) / hours


def no_help(spending: Spending, terms: Terms, now_ms: int, sample: InUse) -> str:
    """Why no smaller sample keeps to the budget, in words; "" = one may, or there is no budget."""
    found = stream_an_hour(spending, terms, now_ms, sample.started_ms) if terms.budget else None
    if found is None or sum(found) <= terms.budget:
        return ""
    allowed = f"an hour, and --max-cost-per-hour allows {money(terms.budget)}"
    if found[1] >= terms.budget:
        return f"reading the stream alone costs {money(found[1])} {allowed}: no smaller sample can help"
    if sample.percent <= LEAST_PERCENT:
        return f"reading costs {money(sum(found))} {allowed}: no sample is made smaller than this one"
    return ""


def lower_sample(
    spending: Spending, terms: Terms, now_ms: int, sample: InUse, settle_ms: int
) -> Lowered | None:
    """The sample from now on where the present one costs too much, else None.

    It is halved as often as the cost of the looks demands, once at least. A lower sample is judged by what is
    spent when it has taken effect: settle_ms is how long histories that were open go on.
    """
    lowered = sample.lowered
    since_ms = sample.started_ms
    if lowered is not None:
        settled_ms = lowered.since_ms + min(settle_ms, SETTLE_AT_MOST_MS)
        since_ms = -(-settled_ms // 60_000) * 60_000
    if not terms.budget or now_ms - since_ms < WINDOW_MINUTES * 60_000:
        return None
    found = stream_an_hour(spending, terms, now_ms, since_ms)
    if found is None or sum(found) <= terms.budget:
        return None
    looks, stream = found
    if stream >= terms.budget:
        return None
    halvings = max(1, floor(log2(looks / (terms.budget - stream))))
    percent = max(sample.percent / 2**halvings, LEAST_PERCENT)
    if percent >= sample.percent:
        return None
    return Lowered(
        percent=percent,
        since_ms=now_ms,
        budget=terms.budget,
        spent=sum(found),
        least_percent=min(percent, lowered.least_percent if lowered else percent),
        first_ms=lowered.first_ms if lowered else now_ms,
        raised_ms=lowered.raised_ms if lowered else 0,
    )


def raise_sample(terms: Terms, now_ms: int, sample: InUse) -> Lowered | None:
    """At a start: the sample as it was begun, where the operator allows more than when it was lowered."""
    lowered = sample.lowered
    if lowered is None or lowered.percent >= sample.begun_percent:
        return None
    if terms.budget and terms.budget <= lowered.budget:
        return None
    return msgspec.structs.replace(lowered, percent=sample.begun_percent, since_ms=now_ms, raised_ms=now_ms)


def comparison_share(spending: Spending, terms: Terms, now_ms: int, since_ms: int) -> float:
    """Dollars an hour that Scans may cost: what the watch of the stream leaves, a tenth at least."""
    found = stream_an_hour(spending, terms, now_ms, since_ms)
    return max(terms.budget - sum(found or (0.0,)), terms.budget * LEAST_SHARE)


def scan_units(dollars_an_hour: float, prices: Prices, sides: Collection[str]) -> float:
    """Read units a second of each side that is scanned, for so much money."""
    a_million = sum(prices.of_units(side, 1_000_000) for side in sides)
    return dollars_an_hour / 3_600 / a_million * 1_000_000


def least_limit(max_rcu: float, dollars_an_hour: float, prices: Prices, sides: Collection[str]) -> float:
    """Read units a second of each side by --max-rcu and by the budget, whichever is less; 0 = no limit."""
    by_budget = scan_units(dollars_an_hour, prices, sides) if dollars_an_hour and sides else 0.0
    return min(filter(None, (max_rcu, by_budget)), default=0.0)


def briefly(sample: InUse) -> str:
    """That the sample was lowered, and since when; "" = it is as the migration was begun."""
    lowered = sample.lowered
    if lowered is None or lowered.percent >= sample.begun_percent:
        return ""
    return (
        f"{lowered.percent:.3g} % of the keys are followed since {at(lowered.since_ms)}, not "
        f"{sample.begun_percent:g} %"
    )


def in_words(sample: InUse) -> str:
    """The same, with why, and how it is raised again."""
    lowered = sample.lowered
    if lowered is None or not (said := briefly(sample)):
        return ""
    return (
        f"{said}: reading cost {money(lowered.spent)} an hour, {money(lowered.budget)} "
        f"is allowed; keys judged are counted since then. A start with --max-cost-per-hour above "
        f"{lowered.budget:g}, or 0, raises it again; then the whole table is to be compared once more"
    )


def hole_in_words(sample: InUse) -> str:
    """What was not followed for a while, of a sample that was raised again; "" = all of it was."""
    lowered = sample.lowered
    if lowered is None or not lowered.has_hole:
        return ""
    return (
        f"from {at(lowered.first_ms)} to {at(lowered.raised_ms)} only {lowered.least_percent:.3g} % of the "
        "keys were followed, to save cost: what changed of the others then, and not since, is not known to "
        "be right but by a comparison that was begun later"
    )


def money(dollars: float) -> str:
    """Dollars with two digits that count."""
    return f"${dollars:,.2f}" if dollars >= 1 else f"${float(f'{dollars:.2g}'):.8f}".rstrip("0").rstrip(".")


def at(ms: int) -> str:
    """An instant to the minute, UTC."""
    # Days since 1 March of the year 0, in eras of 400 years: the leap day is the last one of its year.
    era, day = divmod(ms // 86_400_000 + 719_468, 146_097)
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5 - 1
    month = month + 3 if month < 10 else month - 9
    year += 400 * era + (month <= 2)
    return f"{year}-{month:02}-{day:02} {ms // HOUR_MS % 24:02}:{ms // 60_000 % 60:02} UTC"

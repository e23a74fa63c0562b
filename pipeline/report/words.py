"""Numbers, durations and instants in words.

Reads: numbers. Writes: nothing. Never: the store.
"""

from datetime import UTC, datetime

SECOND, MINUTE, HOUR, DAY = 1, 60, 3600, 86_400


def many(count: int, thing: str) -> str:
    """A count and what it counts, in the right number."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def percent(ratio: float) -> str:
    """Never rounded up to 100 %, which only a ratio of exactly 1 is."""
    return "100 %" if ratio == 1 else f"{min(ratio * 100, 99.99):.2f} %"


def span(seconds: float) -> str:
    """A duration in its two largest units."""
    if seconds < 10 * SECOND:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    if whole < 2 * DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def instant(ms: int) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def minute(ms: int) -> str:
    """Date and time of day in UTC, to the minute, for a sentence."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")

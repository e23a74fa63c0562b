"""What an option's text means: parsers for argparse, and one back to text.

Reads: nothing. Writes: nothing. Never: the environment, files. The one exception is ArgumentTypeError, whose
message says what is right.
"""

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from pipeline.core.cost import MOST_DOLLARS_A_MILLION
from pipeline.core.model import Side
from pipeline.core.quoting import masked, quoted
from pipeline.core.redis_url import fault_of

#: Prometheus' durations: units in this order, each at most once.
_DURATION = re.compile(
    r"(?:([0-9]{1,15})d)?(?:([0-9]{1,15})h)?(?:([0-9]{1,15})m)?(?:([0-9]{1,15})s)?(?:([0-9]{1,15})ms)?"
)
#: Ten years: longer ones can only be meant otherwise, and would not fit everywhere.
MAX_DURATION_MS = 3_650 * 86_400_000
#: One key in 10¹², percent: no table has more, and what is smaller is lost beside 1.
LEAST_SHARE = 1e-10
_DURATION_UNITS_MS = (86_400_000, 3_600_000, 60_000, 1_000, 1)
#: Names become part of Redis keys, between braces; table names (the default) allow just these characters.
_MIGRATION = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_CAUSE = re.compile(r"[0-9a-f]{8}")
_TABLE_PATTERN = re.compile(r"(?:[A-Za-z0-9_.*?-]|\[!?[A-Za-z0-9_.-]+\]){1,255}")
_TABLE_ARN = re.compile(r"arn:[a-z0-9-]+:dynamodb:[a-z0-9-]+:[0-9]+:table/[A-Za-z0-9_.-]{1,255}")
_STREAM_ARN = re.compile(r"arn:[a-z-]+:dynamodb:[a-z0-9-]+:\d+:table/[A-Za-z0-9_.-]+/stream/.+")


def said(text: str) -> str:
    """A wrong value as a message shows it: short, escaped, and without what a URL may keep secret."""
    return f"'{quoted(masked(text), 60)}'"


def aws_name(text: str) -> str:
    """A name as AWS knows it, in UTF-8 whatever the locale is that the command line was read by."""
    try:
        return text.encode("utf-8", "surrogateescape").decode()
    except UnicodeError:
        raise ArgumentTypeError(f"{said(text)} is not UTF-8, which names in AWS are") from None


def duration_ms(text: str) -> int:
    """Milliseconds of a duration such as `250ms`, `90s`, `5m`, `1h30m`; at least 1."""
    found = _DURATION.fullmatch(text)
    if not found or not text:
        unit = f"{text}s" if text.isascii() and text.isdigit() else "250ms"
        raise ArgumentTypeError(f"{said(text)} is not a duration: write for example {unit}, 90s, 5m or 1h30m")
    total = sum(int(n) * unit for n, unit in zip(found.groups(), _DURATION_UNITS_MS, strict=True) if n)
    if not total:
        raise ArgumentTypeError(f"{said(text)} is no time at all: the shortest duration is 1ms")
    if total > MAX_DURATION_MS:
        raise ArgumentTypeError(
            f"{said(text)} is too long: the longest duration is {duration_text(MAX_DURATION_MS)}"
        )
    return total


#: The value of `auto`: no duration is none at all.
AUTO = 0


def duration_or_auto(text: str) -> int:
    """As `duration_ms`; AUTO for `auto`."""
    return AUTO if text == "auto" else duration_ms(text)


def duration_text(ms: int) -> str:
    """A duration as `duration_or_auto` reads it."""
    if ms == AUTO:
        return "auto"
    parts = []
    for unit, name in zip(_DURATION_UNITS_MS, ("d", "h", "m", "s", "ms"), strict=True):
        count, ms = divmod(ms, unit)
        parts.append(f"{count}{name}" if count else "")
    return "".join(parts)


@dataclass(frozen=True)
class When:
    """An instant: `at_ms`, or `ago_ms` before now."""

    at_ms: int | None = None
    ago_ms: int = 0

    def ms(self, now_ms: int) -> int:
        return now_ms - self.ago_ms if self.at_ms is None else self.at_ms


def instant(text: str) -> When:
    """`2h` (before now), or an instant as ISO 8601, UTC where it says nothing else."""
    if text and _DURATION.fullmatch(text):
        return When(ago_ms=duration_ms(text))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(
            f"{said(text)} is not an instant: write how long ago it was (2h), or 2026-11-23T22:09, UTC"
        ) from None
    return When(at_ms=int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000))


def cause(text: str) -> str:
    """The id of a cause."""
    if not _CAUSE.fullmatch(text):
        raise ArgumentTypeError(
            f"{said(text)} is not a cause: `findings --by cause` shows them, such as 1f0e7a2b"
        )
    return text


def percentage(text: str) -> float:
    """Above 0, up to 100."""
    value = _number(text)
    if not 0 < value <= 100:
        raise ArgumentTypeError(
            f"{said(text)} is not a percentage of keys: write a number above 0 and up to 100, such as 10"
        )
    return value


def objective(text: str) -> float:
    """A percentage that an interval's lower end can reach: below 100."""
    value = percentage(text)
    if value == 100:
        raise ArgumentTypeError(
            f"{said(text)} can never pass: the lower end of the interval stays below 100 %, however many "
            "keys are right; write for example 99.9 (every open finding fails the gate anyway)"
        )
    return value


def share(text: str) -> float:
    """A percentage from LEAST_SHARE and below 100, with or without its sign."""
    value = _number(text.removesuffix("%").rstrip())
    if not LEAST_SHARE <= value < 100:
        raise ArgumentTypeError(
            f"{said(text)} is not a share: write a percentage from {LEAST_SHARE:g} and below 100, "
            "such as 0.1%"
        )
    return value


def not_negative(text: str) -> float:
    """A finite number from 0 up."""
    value = _number(text)
    if not (value >= 0 and math.isfinite(value)):
        raise ArgumentTypeError(f"{said(text)} is not a number from 0 up")
    return value


#: Of dollars: what is more is a slip of the pen, and what is less than a millionth, too.
MOST_DOLLARS, LEAST_DOLLARS = MOST_DOLLARS_A_MILLION, 0.000001
_DOLLARS = f"a number from {LEAST_DOLLARS:f} to {MOST_DOLLARS:,}"


def dollars(text: str) -> float:
    """An amount, 0 for none."""
    value = _number(text)
    if value != 0 and not LEAST_DOLLARS <= value <= MOST_DOLLARS:
        raise ArgumentTypeError(f"{said(text)} is neither 0 nor {_DOLLARS}")
    return abs(value)  # -0.0 is 0


def price(text: str) -> float:
    """Dollars of a million of something; nothing that is counted here is free."""
    value = _number(text)
    if not LEAST_DOLLARS <= value <= MOST_DOLLARS:
        raise ArgumentTypeError(f"{said(text)} is not {_DOLLARS}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def whole(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers from low to high."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
            raise ArgumentTypeError(f"{said(text)} is not a whole number from {low} to {high}")
        return int(text)

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    """A parser of these words alone."""

    def parse(text: str) -> str:
        if text not in words:
            raise ArgumentTypeError(f"{said(text)} is not one of {', '.join(words)}")
        return text

    return parse


def side_of(text: str) -> Side:
    """One of the two tables."""
    return Side(one_of("target", "source")(text))


def migration_name(text: str) -> str:
    """A name that can be part of a Redis key."""
    if not _MIGRATION.fullmatch(text) or text in (".", ".."):  # no page of the live page could be called so
        raise ArgumentTypeError(
            f"{said(text)} is not a name: use letters, digits, '_', '.' and '-', at most 255"
        )
    return text


def table(text: str) -> str:
    """A table's name or its ARN; the name is also the migration's, where none is given."""
    if not (_MIGRATION.fullmatch(text) or _TABLE_ARN.fullmatch(text)):
        raise ArgumentTypeError(
            f"{said(text)} is no table: write its name (letters, digits, '_', '.' and '-', at most 255) or "
            "its ARN (arn:aws:dynamodb:REGION:ACCOUNT:table/TABLE)"
        )
    return text


def table_pattern(text: str) -> str:
    """A pattern of tables' names: `*` any characters, `?` one, `[ab]` one of these, `[!ab]` none of them."""
    if not _TABLE_PATTERN.fullmatch(text):
        raise ArgumentTypeError(
            f"{said(text)} can match no table's name: write letters, digits, '_', '.', '-', and * or ? for "
            "any others, such as 'prod-*'"
        )
    return text


def url(*schemes: str) -> Callable[[str], str]:
    """A parser of URLs with one of these schemes. Messages leave the text out: it may hold a password."""

    def parse(text: str) -> str:
        try:
            parts = urlsplit(text)
            fine = parts.scheme in schemes and bool(parts.netloc or parts.path) and parts.port != 0
        except ValueError:  # argparse would repeat the text
            fine = False
        if not fine:
            raise ArgumentTypeError(
                f"not a URL that begins with {' or '.join(f'{one}://' for one in schemes)}"
            )
        return text

    return parse


def redis_url(text: str) -> str:
    """Where a Redis or Valkey is."""
    if fault := fault_of(text):
        raise ArgumentTypeError(f"this URL cannot be used: {fault}")
    return text


def export(text: str) -> str:
    """Where an export lies. Another URL would be taken for a folder, and repeated with all that it holds."""
    if "://" in text and (not text.startswith("s3://") or "@" in text):
        raise ArgumentTypeError("an export is a folder, s3://BUCKET/PREFIX or its ARN, and no other URL")
    return text


def endpoint(text: str) -> str:
    """The URL of a service of AWS, or of what stands in its place. It names no user: requests are signed."""
    checked = url("http", "https")(text)
    if "@" in checked or "?" in checked or "#" in checked:
        raise ArgumentTypeError(
            "an endpoint holds no user, password or question: requests are signed with the credentials of "
            "the side's profile; write for example http://localhost:8000"
        )
    return checked


def stream_arn(text: str) -> str:
    """The ARN of a DynamoDB stream."""
    if not _STREAM_ARN.fullmatch(text):
        raise ArgumentTypeError(
            f"{said(text)} is not a stream's ARN (arn:aws:dynamodb:REGION:ACCOUNT:table/TABLE/stream/LABEL): "
            "leave it out to use the table's latest stream"
        )
    return text

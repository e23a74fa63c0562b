"""What `status --watch` shows: the facts as lines, each with its weight, so any window holds what counts.

Reads: facts. Writes: nothing. Never: the store. Colours are only said as tones: every line means the
same without them.
"""

import textwrap
from collections.abc import Iterable, Sequence

import msgspec

from pipeline.core.budget import in_words
from pipeline.core.gate import Result
from pipeline.core.quoting import printable
from pipeline.core.samples import Sample
from pipeline.report.cost_text import cost_sentence
from pipeline.report.facts import Facts, failing
from pipeline.report.text import ANSWERS, outlook_lines
from pipeline.report.words import MINUTE, instant, many, span

#: A window of at least so many lines has each check in a line of its own.
TALL = 40
#: How far back the sparkline goes, and how wide it is at most.
SPARK_MS, SPARK_COLUMNS = 2 * 3_600_000, 32
#: Below and at most: eight heights of a bar.
_BARS = "▁▂▃▄▅▆▇█"
_NAME = 9
#: Findings are the first thing that a small window leaves out, blank lines before them.
_BLANK, _CAUSE, _MORE, _NEEDED = 9, 6, 3, 0


class Line(msgspec.Struct, frozen=True):
    """One line. tone: its colour. weight: the heaviest are left out first; 0 stays. indent: of its rest."""

    text: str
    tone: Result | None = None
    weight: int = _NEEDED
    indent: int = 4


class Rates(msgspec.Struct, frozen=True):
    """What goes on, each a second: records read, looks at items."""

    records: float
    looks: float


def rates(before: Facts, now: Facts) -> Rates | None:
    """Between two measurements; None where nothing lies between, or the counting began anew."""
    seconds = (now.at_ms - before.at_ms) / 1000
    records, looks = (count(now) - count(before) for count in (_records, _looks))
    if seconds <= 0 or min(records, looks) < 0 or now.begun_ms != before.begun_ms:
        return None
    return Rates(records / seconds, looks / seconds)


def _records(facts: Facts) -> int:
    return int(facts.ledger["records_read"] + facts.ledger["records_repeated"])


def _looks(facts: Facts) -> int:
    return int(facts.ledger["reads"] + facts.ledger["reads_strong"])


def picture(
    facts: Facts, measured: Rates | None, trouble: str, age_seconds: float, *, tall: bool
) -> list[Line]:
    """The lines. trouble: why there are no newer figures, "" = there are. age_seconds: of these figures."""
    head = f"{facts.migration}: {ANSWERS[facts.result]}"
    lines = [Line(f"{head}  at {instant(facts.at_ms)}", facts.result if not trouble else Result.INCONCLUSIVE)]
    if trouble:
        lines += old_lines(trouble, age_seconds)
    lines += [*_checks(facts, tall=tall), Line("", weight=_BLANK)]
    lines += [_row(name, text, weight=_MORE) for name, text in _known(facts)]
    lines += [Line("", weight=_BLANK)]
    lines += [_row(name, text) for name, text in _going_on(facts, measured)]
    lines += [Line("", weight=_BLANK), *_findings(facts)]
    return [msgspec.structs.replace(one, text=printable(one.text)) for one in lines]


def old_lines(trouble: str, age_seconds: float) -> list[Line]:
    """Why there are no newer figures, and how old these are."""
    old = f"these figures are {span(age_seconds)} old, and nobody knows what came since"
    return [Line(f"NO NEWER FIGURES: {trouble}", Result.FAILED), Line(old, Result.FAILED)]


def fitted(lines: Sequence[Line], height: int) -> list[Line]:
    """As many as there is room for: the heaviest go first, of those the last."""
    kept = list(lines)
    while len(kept) > max(height, 1):
        heaviest = max(one.weight for one in kept)
        at = max(index for index, one in enumerate(kept) if one.weight == heaviest)
        del kept[at]
    return kept


def shown_in(lines: Sequence[Line], columns: int, height: int) -> list[Line]:
    """What a window of that size holds: every line that counts, then, from above, what is too long for its
    line, then blank lines.
    """
    said = [line for line in lines if line.text]
    kept = fitted(said, height)
    room = height - len(kept)
    shown: list[list[Line]] = []
    for line in kept:
        parts = _folded(line, columns)
        shown.append(parts if len(parts) - 1 <= room else [line])
        room -= len(shown[-1]) - 1
    if len(kept) < len(said) or room < len(lines) - len(said):
        return [part for parts in shown for part in parts]
    parted = iter(shown)
    return [part for line in lines for part in (next(parted) if line.text else [line])]


def _folded(line: Line, columns: int) -> list[Line]:
    """A line that is too long goes on below it."""
    if len(line.text) <= columns or columns <= 2 * line.indent:
        return [line]
    rest = " " * line.indent
    parts = textwrap.wrap(line.text, columns, subsequent_indent=rest, break_on_hyphens=False)
    return [msgspec.structs.replace(line, text=part) for part in parts]


def _row(name: str, text: str, tone: Result | None = None, weight: int = _NEEDED) -> Line:
    return Line(f"  {name:<{_NAME}} {text}", tone, weight, indent=_NAME + 3)


def _check(result: str, name: str, reason: str, tone: Result | None = None, weight: int = _NEEDED) -> Line:
    return Line(f"  {result:<13} {name:<11} {reason}", tone, weight, indent=28)


def _checks(facts: Facts, *, tall: bool) -> Iterable[Line]:
    """Those that did not pass, failed ones first; the others in one line, or one each."""
    for one in failing(facts.checks):
        yield _check(one.result, one.name, one.reason, one.result)
    passed = [one for one in facts.checks if one.result is Result.PASSED]
    if tall:
        for one in passed:
            yield _check(one.result, one.name, one.reason, weight=_MORE)
    elif passed:
        yield Line(f"  {Result.PASSED:<13} {', '.join(one.name for one in passed)}", indent=16)


def _known(facts: Facts) -> list[tuple[str, str]]:
    """How much was looked at."""
    said = {"changed": facts.strata[0].words, "table": facts.strata[1].words}
    verified = dict(outlook_lines(facts))
    ahead = [("ahead", f"{name}: {text}") for name, text in verified.items() if name != "verified up to"]
    until = verified["verified up to"]
    up_to = until if until.startswith("not known") else f"up to {until}"
    cost = [("cost", cost_sentence(facts.cost))] if facts.cost else []
    return [*said.items(), ("verified", up_to), *ahead, *cost]


def _going_on(facts: Facts, measured: Rates | None) -> list[tuple[str, str]]:
    """What goes on just now."""
    queue = facts.queue
    rate = "being measured"
    if measured is not None:
        rate = f"{measured.records:,.1f} records read, {measured.looks:,.1f} looks at items, a second"
    partitions = ", ".join(
        f"{name} {counts.open:,} open, {counts.finished:,} finished"
        for name, counts in facts.partitions.items()
    )
    spark = sparkline([(one.at_ms, one.lag_p99) for one in _recent(facts)], SPARK_COLUMNS)
    lowered = in_words(facts.sample) if facts.sample else ""
    return [
        *([("sample", lowered)] if lowered else []),
        ("rates", rate),
        ("lag", _lag(facts)),
        *([("", spark)] if spark else []),
        ("reader", _reader(facts)),
        ("shards", f"{partitions or 'none yet'}; gaps {len(facts.gaps):,}"),
        ("queue", f"backlog {queue.backlog:,}, outstanding {queue.outstanding:,}, dead {queue.dead:,}"),
        ("compare", _comparison(facts)),
    ]


def _lag(facts: Facts) -> str:
    lag = facts.lag
    if lag.p50 is None or lag.p95 is None or lag.p99 is None:
        return "not measured in the last minutes"
    return f"p50 {span(lag.p50)}, p95 {span(lag.p95)}, p99 {span(lag.p99)} (write to first matching look)"


def _reader(facts: Facts) -> str:
    alive = f"{many(facts.readers, 'reader')}, {many(facts.validators, 'validator')} alive"
    behind, headroom = facts.reader_lag_seconds, facts.retention_headroom_seconds
    if behind is None or headroom is None:
        return f"position not known yet; {alive}"
    return f"{span(behind)} behind, {span(max(headroom, 0))} until records are lost; {alive}"


def _comparison(facts: Facts) -> str:
    found = facts.comparison
    if found is None:
        return "none of the whole table was made"
    parts = found["partitions"]
    done = "finished" if found["finished"] else "under way"
    share = f"{parts['read']:,} of {parts['planned']:,} partitions"
    counts = ", ".join(f"{name} {found[name]:,}" for name in ("equal", "suspects", "covered"))
    return f"{done}, {share}, {counts}"


def _findings(facts: Facts) -> Iterable[Line]:
    found = facts.findings
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.by_kind.items() if count)
    tone = Result.FAILED if found.total else None
    yield _row("findings", f"{found.total:,} open{f': {kinds}' if kinds else ''}", tone)
    for number, one in enumerate(found.causes):
        yield Line(f"    {one.sentence}", weight=_CAUSE + (number > 2), indent=6)
    if found.in_other_causes:
        yield Line(f"    and {many(found.in_other_causes, 'finding')} of other causes", weight=_CAUSE)


# --- the sparkline -----------------------------------------------------------------------------------------


def _recent(facts: Facts) -> list[Sample]:
    return [one for one in facts.samples if facts.at_ms - one.at_ms <= SPARK_MS]


def sparkline(measured: Sequence[tuple[int, float | None]], columns: int) -> str:
    """The highest value of each part of the time, as bars from 0 on; blank where nothing was measured."""
    values = [value for _, value in measured if value is not None]
    if len(measured) < 2 or not values:
        return ""
    began_ms, ended_ms = measured[0][0], measured[-1][0]
    columns = min(columns, len(measured))
    width_ms = max(ended_ms - began_ms, 1) / columns
    bars: list[float | None] = [None] * columns
    for at_ms, value in measured:
        column = min(int((at_ms - began_ms) / width_ms), columns - 1)
        if value is not None:
            bars[column] = max(value, bars[column] or 0)
    highest = max(values)
    shown = "".join(" " if one is None else _bar(one, highest) for one in bars)
    past = span(max((ended_ms - began_ms) / 1000, MINUTE))
    return f"{shown} p99 of {past}, up to {span(highest)}"


def _bar(value: float, highest: float) -> str:
    return _BARS[min(int(value / highest * len(_BARS)), len(_BARS) - 1) if highest else 0]

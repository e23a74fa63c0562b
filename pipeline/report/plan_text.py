"""A plan in words and in JSON.

Reads: structs of the core. Writes: nothing; callers print. Never: the store.
"""

from typing import Any

import msgspec

from pipeline.core.gate import keys_needed
from pipeline.core.planning import Plan, Question, keys_to_see
from pipeline.core.statistics import CONFIDENCE
from pipeline.report.columns import paragraph
from pipeline.report.words import span

_HEAD = ("SAMPLE", "KEYS", "MARGIN", "AT WORST", "SHOWS", "UNSEEN", "DOLLARS", "TIME")


def plan_text(question: Question, plans: list[Plan]) -> str:
    """What `plan` prints."""
    wrong = question.keys * question.defect
    head = (
        f"{question.keys:,} keys of about {question.item_bytes:,} bytes; to be found: a defect in "
        f"{question.defect * 100:g} % of them, {wrong:,.0f} keys"
    )
    rows = [_HEAD, *map(_row, plans)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [" ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([paragraph(head), *table, *map(paragraph, _notes(question))])


def _row(plan: Plan) -> tuple[str, ...]:
    return (
        f"{plan.percent:g} %",
        f"{plan.keys:,}",
        f"± {_percent(plan.margin_usual)}",
        f"± {_percent(plan.margin_worst)}",
        f"{plan.shows:,.0f} ×" if plan.shows >= 1 else f"{plan.shows:.2g} ×",
        _percent(plan.proves),
        f"{plan.dollars:,.2f}",
        "-" if plan.seconds is None else span(plan.seconds),
    )


def _percent(share: float) -> str:
    """With two digits that count, however small."""
    digits = f"{float(f'{share * 100:.2g}'):.9f}".rstrip("0").rstrip(".")
    return f"{digits} %"


def _notes(question: Question) -> list[str]:
    see, prove = keys_to_see(question.defect), keys_needed(1 - question.defect, CONFIDENCE)
    look_units = 0.5 * -(-question.item_bytes // 4096)
    defect, objective = f"{question.defect * 100:g} %", f"{100 - question.defect * 100:g}"
    return [
        f"{_of(see, question)} show it at least once, with 95 % confidence. {_of(prove, question)}, if all "
        f"are right, prove that fewer than {defect} are wrong (`--gate-objective {objective}`).",
        "MARGIN: of the share of right keys, where 99 % are right; AT WORST: where half are. SHOWS: how "
        "often the defect is met. UNSEEN: the largest share of wrong keys that could have gone unseen, if "
        "all that were compared are right.",
        "DOLLARS and TIME: of `compare --sample-rate` by Scans of both sides, "
        f"{question.prices.said}, and at --max-rcu or what --max-cost-per-hour allows, whichever is less. "
        f"Watching costs about 1.5 looks of {look_units:g} units for each change of a key.",
        "The unit is a distinct key, not a record. A comparison samples segments: there it is the partition "
        "key, or the segment, where what is wrong lies together. 100 % leaves nothing to estimate.",
    ]


def _of(keys: int, question: Question) -> str:
    return f"{keys:,} keys ({_percent(min(1.0, keys / question.keys))})"


def plan_object(question: Question, plans: list[Plan]) -> dict[str, Any]:
    """`plan --json`: shares lie in 0..1; null: not limited."""
    return {
        **msgspec.to_builtins(question),
        "keys_to_see": keys_to_see(question.defect),
        "keys_to_prove": keys_needed(1 - question.defect, CONFIDENCE),
        "samples": msgspec.to_builtins(plans),
    }

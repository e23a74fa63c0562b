"""The report as text and as JSON.

Reads: facts. Writes: nothing; callers print. Never: the store.
"""

import msgspec

from pipeline.core.model import MILESTONES
from pipeline.core.quoting import printable, printable_json
from pipeline.report.facts import Facts, FindingShown, facts_object, fingerprint
from pipeline.report.text import gate_text
from pipeline.report.words import instant, many, span


def as_json(facts: Facts) -> str:
    """`report --format json`: the facts, and the fingerprint that every form of the report shows."""
    plain = facts_object(facts)
    return printable_json(msgspec.json.encode({"sha256": fingerprint(plain), "facts": plain}).decode()) + "\n"


def as_text(facts: Facts) -> str:
    """`report --format text`."""
    lines = [
        gate_text(facts),
        "milestones:",
        *(f"  {name}  {_at(facts.marks_ms.get(name))}  {said}" for name, said in MILESTONES.items()),
        "findings by cause:",
        *_findings(facts),
        "gaps:",
        *(
            [f"  {instant(one.at_ms)}  {printable(one.partition)}: {one.reason}" for one in facts.gaps]
            or ["  none"]
        ),
        "definitions that differ:",
        *_definitions(facts),
        "settings:",
        *(f"  {name}: {printable(value) or 'none'}" for name, value in sorted(facts.settings.items())),
        f"made {instant(facts.at_ms)} by {facts.maker.by} with version {facts.maker.version}",
        f"SHA-256 of the facts: {fingerprint(facts_object(facts))}",
    ]
    return "\n".join(lines) + "\n"


def _at(ms: int | None) -> str:
    return "not marked              " if ms is None else instant(ms)


def _findings(facts: Facts) -> list[str]:
    found = facts.findings
    lines = [f"  {printable(one.sentence)}" for one in found.causes]
    if found.in_other_causes:
        lines.append(f"  and {many(found.in_other_causes, 'finding')} of other causes")
    lines += [
        f"  closed: {printable(one.key)} {one.kind}, {one.why} after {_lasted(one)}" for one in found.closed
    ]
    return lines or ["  none"]


def _lasted(closed: FindingShown) -> str:
    return span(max(0, (closed.closed_ms or closed.first_ms) - closed.first_ms) / 1000)


def _definitions(facts: Facts) -> list[str]:
    if facts.definitions is None:
        return ["  not compared here: `doctor` and `compare` do that"]
    return [
        f"  {printable(f'{one.what}: source {one.source}, target {one.target}')}" for one in facts.definitions
    ] or ["  none"]

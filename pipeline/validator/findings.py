"""Every finding that a commit opened, changed or closed is one log line.

Reads: what the store says of a commit. Writes: log lines. Never: redis, AWS. A key is a keyed hash; names
of attributes are bounded and escaped; there is no value.

The line is written by the process whose commit did it, after Redis has said so: once, however often the key
is looked at or the commit is tried again. Where that answer is lost the line is lost, and not the finding.
"""

import msgspec
import structlog

from pipeline.core.differing import CUT
from pipeline.core.judging.history import FindingChange
from pipeline.core.quoting import quoted
from pipeline.report.words import instant
from pipeline.store.messages import FindingCommitted
from pipeline.validator.batch import Case, Decided

log = structlog.get_logger(__name__)

#: Names that a line shows, and so much of each; `findings` shows more.
NAMES, NAME_CHARACTERS = 5, 60
#: What closes a finding, in words.
_CLOSED_BY = {FindingChange.RECOVERED: "recovered", FindingChange.EXCUSED: "TTL itself will remove it"}


class Stored(msgspec.Struct, frozen=True):
    """A finding as the store keeps it."""

    kind: str
    attributes: list[str] = []


_decode = msgspec.json.Decoder(Stored).decode


def tell(key_hash: str, one: Decided, committed: FindingCommitted, now_ms: int) -> None:
    """Log what a commit did to the finding of one key."""
    case, judgement = one.case, one.judgement
    if case is None or judgement is None:
        return
    before = _stored(committed.before)
    after = _stored(one.commit.finding.encode()) if one.commit.finding else None
    shown = after or before
    if shown is None or before == after:
        return  # looked at once more: nobody needs to read that
    fields = {"key": key_hash, **_fields(shown, before, judgement.versions_behind, _written(case))}
    if before:
        fields["open_seconds"] = max(0, now_ms - committed.since_ms) // 1000
    if after is None:
        why = _CLOSED_BY.get(judgement.finding, "recovered, after a dead letter")
        log.info("finding closed", **fields, why=why)
    else:
        log.warning("finding changed" if before else "finding opened", **fields)


def _fields(shown: Stored, before: Stored | None, behind: int, written: str | None) -> dict[str, object]:
    """What is known of a finding, without what is not."""
    fields = {
        "kind": shown.kind,
        "kind_before": before.kind if before and before.kind != shown.kind else None,
        "attributes": _names(shown.attributes) or None,
        "versions_behind": behind or None,
        "written": written,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _stored(raw: bytes) -> Stored | None:
    """None where there is none, or none that can be read."""
    try:
        return _decode(raw) if raw else None
    except msgspec.DecodeError:
        return None


def _names(attributes: list[str]) -> list[str]:
    shown = [name if name == CUT else quoted(name, NAME_CHARACTERS) for name in attributes[:NAMES]]
    return shown if len(attributes) <= NAMES else [*shown, CUT]


def _written(case: Case) -> str | None:
    """When the oldest version that the other side had not reached was written; None where nobody knows."""
    history = case.history
    if history.suspect or not history.versions:
        return None
    created_ms = history.versions[min(history.lo, len(history.versions) - 1)][1]
    return instant(created_ms)

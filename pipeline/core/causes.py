"""Findings by cause: defects are systematic, so a few causes are behind the many keys.

Reads: findings. Writes: nothing. Never: I/O, clocks. No item value comes here, and of a key only the part
before its first delimiter is kept.

Two findings have the same cause when kind, differing paths (positions in lists left out), changes of type and
the operation that made the newest version are the same. Prefixes of keys and times are told of each cause;
they do not part it: a defect of one kind of entity shows one prefix, one of all entities shows many.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import islice

import msgspec

from pipeline.core.ledger import Finding
from pipeline.core.model import ChangeType, VerdictKind

#: What parts the kinds of entities of a table in its partition keys: `c#123`, `user:7`.
_DELIMITER = re.compile(r"[#:|/]")
#: Longer texts before a delimiter name no kind of entity.
LONGEST_PREFIX = 64
_POSITION = re.compile(r"\[\d+\]")
#: Of a cause that many: paths named, and prefixes told apart.
PATHS_NAMED, PREFIXES_TOLD, PATH_LENGTH = 5, 8, 120
#: Causes that are told apart; where there are more, the rare ones are counted together.
MAX_CAUSES = 5_000


class Cause(msgspec.Struct):
    """Findings that look alike. id: a name that depends on what they have in common alone.

    paths: the first few of `path_count`, shortened. types: what changed its type, as "path: N → S".
    prefixes: beginning of the key, with its delimiter ("" = it has none) → findings; None = too many of them.
    oldest_change_ms: when the oldest change that is not there was written, None = no change was seen.
    """

    id: str
    kind: VerdictKind
    operation: ChangeType | None
    paths: list[str]
    path_count: int
    types: list[str]
    count: int
    first_ms: int
    last_ms: int
    oldest_change_ms: int | None
    prefixes: dict[str, int] | None


class Selection(msgspec.Struct, frozen=True):
    """Which findings are asked for. from_ms, until_ms: when they were opened. cause: an id. limit: the first
    so many, None = all.
    """

    kind: VerdictKind | None = None
    cause: str | None = None
    from_ms: int = 0
    until_ms: int | None = None
    limit: int | None = None

    def of(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Those that are asked for, in their order."""
        return islice(filter(self.asks_for, findings), self.limit)

    def asks_for(self, finding: Finding) -> bool:
        return (
            (self.kind is None or finding.kind is self.kind)
            and finding.first_seen_ms >= self.from_ms
            and (self.until_ms is None or finding.first_seen_ms <= self.until_ms)
            and (self.cause is None or cause_id(finding) == self.cause)
        )


def key_prefix(key: bytes) -> str:
    """The beginning of a compact key's partition key, up to and with its first delimiter; "" = none."""
    try:
        partition = msgspec.json.decode(b"[%b]" % key, type=list[str])[0]
    except (msgspec.DecodeError, IndexError):
        return ""
    found = _DELIMITER.search(partition)
    return partition[: found.end()] if found and found.end() <= LONGEST_PREFIX else ""


def cause_id(finding: Finding) -> str:
    """Eight hexadecimal digits that findings of the same cause share."""
    same = (str(finding.kind), str(finding.operation or ""), *_places(finding))
    return sha256(repr(same).encode("utf-8", "replace")).hexdigest()[:8]


def _places(finding: Finding) -> tuple[list[str], list[str]]:
    """Paths, and changes of type, without the positions in lists."""
    paths = sorted({_POSITION.sub("[]", path) for path in finding.attributes})
    types = sorted({f"{_POSITION.sub('[]', path)}: {change}" for path, change in finding.types.items()})
    return paths, types


class Causes:
    """Findings added up by cause, in a bounded memory."""

    def __init__(self) -> None:
        self.total = 0
        self.by_kind: Counter[VerdictKind] = Counter()
        self.rare = 0  # findings of causes that are no longer told apart
        self._causes: dict[str, Cause] = {}

    def add(self, finding: Finding, prefix: str) -> None:
        """prefix: `key_prefix` of its key."""
        self.total += 1
        self.by_kind[finding.kind] += 1
        name = cause_id(finding)
        cause = self._causes.get(name)
        if cause is None:
            if len(self._causes) >= MAX_CAUSES:
                self._forget_rare()
            self._causes[name] = _begun(name, finding, prefix)
        else:
            _join(cause, finding, prefix)

    def _forget_rare(self) -> None:
        """Count the rarer half together."""
        ranked = self.ranked()
        kept = ranked[: MAX_CAUSES // 2]
        self.rare += sum(cause.count for cause in ranked[MAX_CAUSES // 2 :])
        self._causes = {cause.id: cause for cause in kept}

    def ranked(self) -> list[Cause]:
        """Biggest first; of equal ones the older first."""
        return sorted(self._causes.values(), key=lambda cause: (-cause.count, cause.first_ms, cause.id))


def _begun(name: str, finding: Finding, prefix: str) -> Cause:
    paths, types = _places(finding)
    return Cause(
        id=name,
        kind=finding.kind,
        operation=finding.operation,
        paths=[_short(path) for path in paths[:PATHS_NAMED]],
        path_count=len(paths),
        types=[_short(change) for change in types[:PATHS_NAMED]],
        count=1,
        first_ms=finding.first_seen_ms,
        last_ms=finding.first_seen_ms,
        oldest_change_ms=finding.oldest_change_ms,
        prefixes={prefix: 1},
    )


def _join(cause: Cause, finding: Finding, prefix: str) -> None:
    cause.count += 1
    cause.first_ms = min(cause.first_ms, finding.first_seen_ms)
    cause.last_ms = max(cause.last_ms, finding.first_seen_ms)
    changes = [ms for ms in (cause.oldest_change_ms, finding.oldest_change_ms) if ms is not None]
    cause.oldest_change_ms = min(changes, default=None)
    if cause.prefixes is None:
        return
    cause.prefixes[prefix] = cause.prefixes.get(prefix, 0) + 1
    if len(cause.prefixes) > PREFIXES_TOLD:
        cause.prefixes = None


def _short(text: str) -> str:
    return text if len(text) <= PATH_LENGTH else f"{text[: PATH_LENGTH - 1]}…"

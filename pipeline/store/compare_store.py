"""What a comparer takes and gives: partitions of the comparison, suspects, and what a partition held.

Reads and writes: the migration's keys (see `pipeline/store/__init__.py`). Never: judging, retries. Of an
item's values only the key is stored. The scripts may be repeated, so callers may repeat a call that raised
StoreUnavailable.
"""

import secrets
import struct
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, cast

import msgspec

from pipeline.core.comparing.closing import Closes, closes
from pipeline.core.comparing.join import Suspect
from pipeline.core.comparing.partitions import Mode
from pipeline.core.comparing.state import CompareSettings, Comparison, Tally
from pipeline.core.model import UNKNOWN, Side
from pipeline.errors import ConfigurationError
from pipeline.store import scripts
from pipeline.store.answers import comparison_of, reading
from pipeline.store.messages import Outcome
from pipeline.store.role_store import RoleStore

#: How `suspect` hands over a key; `lua/suspect.lua` says what it is.
_SUSPECT = struct.Struct("<H16s")


class Beginning(StrEnum):
    """What becomes of the comparison that is there: see `lua/compare_begin.lua`."""

    BEGIN = "begin"
    JOIN = "join"
    RESTART = "restart"


class Standing(StrEnum):
    """What was found by who asked for a partition: see `lua/compare_take.lua`."""

    TAKEN = "taken"
    WAIT = "wait"
    SETTLING = "settling"
    FINISHED = "finished"
    GONE = "gone"


class Part(msgspec.Struct, frozen=True):
    """A partition of a comparison, taken: its place in the plan, and the epoch that fences others off."""

    ordinal: int
    epoch: int


class Published(msgspec.Struct, frozen=True):
    """What became of suspects. waiting: all that wait for an answer. covered: positions in what was given."""

    outcome: Outcome
    waiting: int = 0
    covered: Sequence[int] = ()


class CompareStore(RoleStore):
    """One migration's state as a comparer changes it."""

    def begin_comparison(self, settings: CompareSettings, how: Beginning) -> Comparison:
        """The comparison that is there from now on; ConfigurationError for one of other settings."""
        partitions, closing = settings.partitions(), self._closes(settings)
        args = (
            secrets.token_hex(8),
            msgspec.json.encode(settings),
            partitions.planned,
            how.value,
            partitions.sorting,
            "changes" if partitions.mode is Mode.CHANGES else "table",
            closing.from_ms if closing else 0,
            "" if closing is None or closing.to_ms is None else closing.to_ms,
            closing.by if closing else "",
        )
        flat = self._connection.run(scripts.COMPARE_BEGIN, args)
        with reading(self._key("comparison")):
            texts = [text.decode() for text in flat]
            found = comparison_of(dict(zip(texts[::2], texts[1::2], strict=True)))
        if how is Beginning.BEGIN and not found.settings.same_as(settings):
            raise ConfigurationError(
                f"an unfinished comparison of {self.migration} has other settings "
                f"(--sample-rate {found.settings.sample_percent:g}, "
                f"--segments {found.settings.segments or 'by size'}{_said(found.settings)})",
                "give it those again, or begin anew with --restart",
            )
        return found

    def _closes(self, settings: CompareSettings) -> Closes | None:
        """By what the migration was begun with: its stream, and the keys of it that are kept."""
        begun = self.meta.settings
        verified = Side(begun.get("verify_on", Side.TARGET))
        return closes(settings, verified.other, float(begun.get("sample_rate", 100)))

    def take(self, comparison: str, owner: str, ttl_ms: int) -> tuple[Standing, Part | None]:
        """A partition that is now ours (lua/compare_take.lua), or why there is none."""
        answer, *rest = self._connection.run(scripts.COMPARE_TAKE, (comparison, owner, ttl_ms))
        standing = Standing(answer.decode())
        return standing, Part(*rest) if standing is Standing.TAKEN else None

    def renew_parts(self, comparison: str, owner: str, parts: Sequence[Part], ttl_ms: int) -> set[int]:
        """Keep partitions, or give them back (ttl_ms 0); the ordinals of those that are still ours."""
        args: list[Any] = [comparison, owner, ttl_ms]
        for part in parts:
            args += (part.ordinal, part.epoch)
        return set(self._connection.run(scripts.COMPARE_RENEW, args))

    def suspect(
        self, comparison: str, part: Part, suspects: Sequence[Suspect], *, leads: bool = False
    ) -> Published:
        """Hand over keys to be judged (lua/suspect.lua).

        leads: the source is the verified side. What the origin, the target, held is then to be read.
        """
        packed = b"".join(
            _SUSPECT.pack(len(one.key), UNKNOWN if leads else one.source) + one.key for one in suspects
        )
        answer, *rest = self._connection.run(scripts.SUSPECT, (comparison, part.ordinal, part.epoch, packed))
        outcome = Outcome(answer.decode())
        if outcome is Outcome.FENCED:
            return Published(outcome)
        waiting, covered = rest
        return Published(outcome, waiting, [position - 1 for position in covered])

    def sorted_parts(self) -> dict[int, int]:
        """Of each partition that was sorted into buckets, by ordinal: the epoch of what was counted."""
        with self._connection.asking("sorted"):
            raw = cast(dict[bytes, bytes], self._redis.hgetall(self._key("comparison-sorted")))
        with reading(self._key("comparison-sorted")):
            return {int(ordinal): int(epoch) for ordinal, epoch in raw.items()}

    def finish(self, comparison: str, part: Part, tally: Tally) -> Outcome:
        """Count what a partition held, once (lua/compare_finish.lua)."""
        counts = " ".join(f"{name}={getattr(tally, name)}" for name in tally.__struct_fields__)
        args = (comparison, part.ordinal, part.epoch, counts)
        return Outcome(self._connection.run(scripts.COMPARE_FINISH, args).decode())


def _said(settings: CompareSettings) -> str:
    return "".join(f", --{side}-export {one.arn or one.location}" for side, one in settings.exports.items())

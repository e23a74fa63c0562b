"""One key, looked at: all that is kept of it, and which key a keyed hash stands for.

Reads: the migration's keys (see `pipeline/store/__init__.py`). Writes: nothing. Never: judging.
"""

from collections.abc import Iterator
from typing import cast

import msgspec

from pipeline.core.judging.history import History
from pipeline.core.ledger import ClosedFinding, Finding
from pipeline.store import codec
from pipeline.store.answers import instant_ms, reading
from pipeline.store.figures_view import HISTORIES_PAGE, finding_of
from pipeline.store.reading import StoreView

#: Dead letters that are read at a time.
DEAD_PAGE = 500


class Kept(msgspec.Struct, frozen=True):
    """What is kept of one key, of one instant. due_ms: when it is looked at next, None = now, or never.

    (Of one instant but for `due_ms`, which is asked for next.)
    """

    history: History | None = None
    finding: Finding | None = None
    due_ms: int | None = None


class KeyView(StoreView):
    """A migration that has begun, asked about one key at a time."""

    def kept(self, key: bytes) -> Kept:
        """Raises StateDamaged for a history or a finding that nobody can read."""
        with self._connection.asking("kept"):
            pipe = self._redis.pipeline(transaction=True)
            pipe.hget(self._key("history"), key)
            pipe.hmget(self._key("findings"), [key])
            pipe.zscore(self._key("findings-since"), key)
            history, (found,), since = pipe.execute()
            number = (history or b"")[: codec.NUMBER_BYTES]
            due = self._redis.zscore(self._key("due"), number)
        with reading(self._key("history")):
            decoded = codec.decode(history) if history is not None else None
        with reading(self._key("findings")):
            finding = finding_of(key, found, since) if found is not None and since is not None else None
        with reading(self._key("due")):
            return Kept(decoded, finding, instant_ms(due) if due is not None else None)

    def closed_of(self, key: bytes) -> list[ClosedFinding]:
        """The findings of this key that are over, newest first, as far back as closed ones are kept."""
        return [one for one in self.closed_findings() if one.finding.key == key]

    def is_dead(self, key: bytes) -> bool:
        """True where an entry of this key was given up without a verdict."""
        return any(one == key for one in self._dead())

    def key_of_hash(self, wanted: str) -> bytes | None:
        """The key that a keyed hash stands for, of all that are kept; None = none of them has it."""
        return next((key for key in self._keys() if self.key_hash(key) == wanted), None)

    def _keys(self) -> Iterator[bytes]:
        """Every key that something is kept of, some more than once; so many at a time are held."""
        yield from (one.key for one in self.findings())
        cursor = 0
        while True:
            with self._connection.asking("keys"):
                cursor, page = cast(
                    tuple[int, dict[bytes, bytes]],
                    self._redis.hscan(self._key("history"), cursor, count=HISTORIES_PAGE),
                )
            yield from page
            if cursor == 0:
                break
        yield from (one.finding.key for one in self.closed_findings())
        yield from self._dead()

    def _dead(self) -> Iterator[bytes]:
        """The keys of dead letters, newest first."""
        before = "+"
        while True:
            with self._connection.asking("dead"):
                page = cast(
                    list[tuple[bytes, dict[bytes, bytes]]],
                    self._redis.xrevrange(self._key("dead"), max=before, count=DEAD_PAGE),
                )
            for entry, told in page:
                before = f"({entry.decode()}"
                if b"k" in told:
                    yield told[b"k"]
            if len(page) < DEAD_PAGE:
                return

"""What `mark` writes: the instant at which a milestone of the cutover was reached.

Reads and writes: `marks`. Never: judging.
"""

from pipeline.store import scripts
from pipeline.store.reading import StoreView


class MarkStore(StoreView):
    """A migration that has begun, read only but for its milestones."""

    def mark(self, name: str) -> tuple[int, int | None]:
        """Note that a milestone of the cutover is reached now; the instant in ms, and the one that it was
        moved from, None = it had not been marked.
        """
        at_ms, before_ms = self._connection.run(scripts.MARK, (name,))
        return int(at_ms), int(before_ms) or None

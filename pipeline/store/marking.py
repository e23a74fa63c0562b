"""What `mark` writes: the instant at which a milestone of the cutover was reached.

Reads and writes: `marks`. Never: judging.
"""

from pipeline.store import scripts
from pipeline.store.reading import StoreView


class MarkStore(StoreView):
    """A migration that has begun, read only but for its milestones."""

    def mark(self, name: str) -> int:
        """Note that a milestone of the cutover is reached now (again: moves it); the instant in ms."""
        return int(self._connection.run(scripts.MARK, (name,)))

"""What `mark` writes: the instant at which a milestone of the cutover was reached.

Reads and writes: `marks`. Never: anything else.
"""

from pipeline.store.connection import translated
from pipeline.store.reading import StoreView


class MarkStore(StoreView):
    """A migration that has begun, read only but for its milestones."""

    def mark(self, name: str) -> int:
        """Note that a milestone of the cutover is reached now (again: moves it); the instant in ms."""
        now = self.now_ms()
        with translated():
            self._redis.hset(self._key("marks"), name, str(now))
        return now

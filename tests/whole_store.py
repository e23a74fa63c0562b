"""Stores for tests: one that does all, and one that looks from outside."""

from pipeline.core.model import Checkpoint
from pipeline.store import (
    CompareStore,
    FiguresView,
    MarkStore,
    ReaderStore,
    RedisConnection,
    SampleStore,
    ValidatorStore,
)
from pipeline.store.messages import Lease


class WholeStore(ReaderStore, ValidatorStore, CompareStore, MarkStore, SampleStore):
    """What all roles write: begun with `WholeStore.begin(url, migration, settings)`."""

    def discovery(self) -> Lease:
        """The lease of discovering, of the producer "test"."""
        lease = self.lease("test", "test", 600_000)
        assert lease is not None
        return lease

    def register(self, partition: str, checkpoint: Checkpoint, watermark_ms: int | None = 0) -> None:
        """Track a new partition, as a discovery does."""
        assert self.track(self.discovery(), [(partition, checkpoint, watermark_ms)])


def watch(url: str, migration: str) -> FiguresView:
    """What an onlooker sees, whether or not the migration has begun."""
    return FiguresView(RedisConnection(url, migration))

"""Stores for tests: one that does all, and one that looks from outside."""

from pipeline.store import FiguresView, MarkStore, ReaderStore, RedisConnection, ValidatorStore


class WholeStore(ReaderStore, ValidatorStore, MarkStore):
    """What readers, validators and `mark` write: begun with `WholeStore.begin(url, migration, settings)`."""


def watch(url: str, migration: str) -> FiguresView:
    """What an onlooker sees, whether or not the migration has begun."""
    return FiguresView(RedisConnection(url, migration))

"""A migration that has begun, looked at: what the commands that only look need.

Reads: the migration's keys (see `pipeline/store/__init__.py`). Writes: nothing. Never: judging.
"""

import hashlib
import hmac
from typing import Self

from pipeline.store.answers import reading
from pipeline.store.beginning import load
from pipeline.store.connection import RedisConnection
from pipeline.store.figures_view import FiguresView
from pipeline.store.messages import Meta


class StoreView(FiguresView):
    """A migration that has begun, read only. Thread-safe."""

    def __init__(self, connection: RedisConnection, meta: Meta) -> None:
        super().__init__(connection)
        self.meta = meta

    @classmethod
    def open(cls, url: str, migration: str) -> Self | None:
        """The migration as it was begun, None when there is none. Raises StoreUnavailable."""
        connection = RedisConnection(url, migration)
        meta = load(connection)
        return cls(connection, meta) if meta else None

    def setting(self, name: str) -> str:
        """One of the settings that every migration is begun with."""
        with reading(self._key("meta")):
            return self.meta.settings[name]

    def key_hash(self, key: bytes) -> str:
        """The keyed hash that stands for a key where keys are not to be shown."""
        return hmac.new(self.meta.secret, key, hashlib.sha256).hexdigest()[:16]

"""The store: everything that processes share, in Redis or Valkey. Others import `Store` from here."""

from pipeline.store.store import Store

__all__ = ["Store"]

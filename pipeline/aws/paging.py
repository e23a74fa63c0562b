"""What AWS lists page by page: a refusal keeps the pages that came, and asking again goes on after them.

Reads: pages, through what it is given. Writes: nothing. Never: sockets, retries.

A listing that began anew after every refusal would never end where an account's calls are shared.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from pipeline.errors import MalformedResponse

One = TypeVar("One")


class Pages(Generic[One]):
    """One listing, taken again and again. Thread-safe."""

    def __init__(self, what: str, page: Callable[[str | None], tuple[list[One], str | None]]) -> None:
        """page: what is listed after a mark (None: at the beginning), and the mark to go on after, if any."""
        self._what = what
        self._page = page
        self._lock = threading.Lock()
        self._found: list[One] = []
        self._after: str | None = None

    def all(self) -> list[One]:
        """Everything there is, once. Raises what a page does: then call again."""
        with self._lock:
            while True:
                page, after = self._page(self._after)
                if after is not None and after == self._after:
                    raise MalformedResponse(
                        f"{self._what}: the page that was asked for goes on where it began"
                    )
                self._found += page
                self._after = after
                if after is None:
                    found, self._found = self._found, []
                    return found

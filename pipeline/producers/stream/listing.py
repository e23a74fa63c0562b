"""One listing of a stream's shards: taken page by page, over as many turns as it needs.

Reads: DescribeStream, paced. Writes: nothing. What a shard means is `discovery`'s.

A refusal keeps the pages that came: a listing that began anew after each of them would never end where
several programs share the calls of an account. The listings of one process share them by turns.
"""

import threading
import time
from collections import defaultdict

from pipeline.aws import StreamClient, StreamInfo
from pipeline.core.model import SideConfig
from pipeline.core.shard_lineage import Shard
from pipeline.errors import AwsUnavailable, Throttled
from pipeline.producers.base import Stop

#: Between two pages of a listing: half of the 10 DescribeStream calls/s that an account has.
PAGE_SPACING_SECONDS = 0.2
#: The longest turn: whoever discovers renews its lease of 6 s between two of them.
TURN_SECONDS = 3.0
#: What was listed longer ago is listed again, rather than gone on with.
KEPT_SECONDS = 300.0


class Pace:
    """Turns, so far apart: whoever wants one is told when it is. Thread-safe."""

    def __init__(self, spacing_seconds: float = PAGE_SPACING_SECONDS) -> None:
        self.spacing_seconds = spacing_seconds
        self._next = 0.0
        self._lock = threading.Lock()

    def turn(self) -> float:
        """An instant, as `time.monotonic()` says it, that nobody else has."""
        with self._lock:
            mine = max(self._next, time.monotonic())
            self._next = mine + self.spacing_seconds
            return mine


class Paces:
    """Of one process: one for each access, as the calls are an account's."""

    def __init__(self) -> None:
        self._of: defaultdict[SideConfig, Pace] = defaultdict(Pace)
        self._lock = threading.Lock()

    def of(self, access: SideConfig) -> Pace:
        with self._lock:
            return self._of[access]


class Listing:
    """Of one stream. Once `turn` was True, `shards` is all of them, by `info` of the last page."""

    def __init__(self, client: StreamClient, arn: str, stop: Stop, pace: Pace) -> None:
        self.arn = arn
        self.shards: list[Shard] = []
        self._client = client
        self._stop = stop
        self._pace = pace
        self._turn: float | None = None  # when the next page may be asked for
        self._began = time.monotonic()
        self._after: str | None = None

    @property
    def is_stale(self) -> bool:
        return time.monotonic() - self._began > KEPT_SECONDS

    def turn(self) -> StreamInfo | None:
        """Go on after the last page that came: the stream once every page is there, None to be called again.

        Raises what the first call of a turn is refused with, so that the caller backs off.
        """
        ends = time.monotonic() + TURN_SECONDS
        info: StreamInfo | None = None
        while True:
            if not self._is_my_turn(goes_on=info is not None):
                return None
            try:
                info, shards, self._after = self._client.describe_stream(self.arn, self._after)
            except (Throttled, AwsUnavailable):
                if info is None:
                    raise
                return None
            self.shards += shards
            if self._after is None:
                return info
            if time.monotonic() > ends:
                return None

    def _is_my_turn(self, *, goes_on: bool) -> bool:
        """Waits for it, unless many others have theirs before: whoever waits holds up other work."""
        if self._turn is None:
            self._turn = self._pace.turn()
        wait = max(0.0, self._turn - time.monotonic())
        if wait > self._pace.spacing_seconds or ((wait or goes_on) and self._stop.wait(wait)):
            return False
        self._turn = None
        return True

"""One listing of a stream's shards: taken page by page, over as many turns as it needs.

Reads: DescribeStream, paced. Writes: nothing. What a shard means is `discovery`'s.

A refusal keeps the pages that came: a listing that began anew after each of them would never end where
several programs share the calls of an account.
"""

import time

from pipeline.aws import StreamClient, StreamInfo
from pipeline.core.shard_lineage import Shard
from pipeline.errors import AwsUnavailable, Throttled
from pipeline.producers.base import Stop

#: Between two pages of a listing: half of the 10 DescribeStream calls/s that an account has.
PAGE_SPACING_SECONDS = 0.2
#: The longest turn: whoever discovers renews its lease of 6 s between two of them.
TURN_SECONDS = 3.0
#: What was listed longer ago is listed again, rather than gone on with.
KEPT_SECONDS = 300.0


class Listing:
    """Of one stream. Once `turn` was True, `shards` is all of them, by `info` of the last page."""

    def __init__(
        self, client: StreamClient, arn: str, stop: Stop, spacing_seconds: float = PAGE_SPACING_SECONDS
    ) -> None:
        self.arn = arn
        self.shards: list[Shard] = []
        self._client = client
        self._stop = stop
        self._spacing_seconds = spacing_seconds
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
            try:
                info, shards, self._after = self._client.describe_stream(self.arn, self._after)
            except (Throttled, AwsUnavailable):
                if info is None:
                    raise
                return None
            self.shards += shards
            if self._after is None:
                return info
            if time.monotonic() > ends or self._stop.wait(self._spacing_seconds):
                return None

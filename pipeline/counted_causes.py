"""The causes behind the open findings, counted now and then for those who ask often.

Reads: the store. Writes: log lines. Never: AWS, the store's writers. Whoever scrapes every second costs no
more than one reading of a bounded number of findings every half minute.
"""

import time
from collections.abc import Callable, Sequence
from itertools import islice

import structlog

from pipeline.core.causes import Cause, Causes
from pipeline.core.figures import Figures
from pipeline.errors import StoreError
from pipeline.store import FiguresView

log = structlog.get_logger(__name__)

#: Findings that are read, those that were opened first; and how long what was counted is shown.
MOST_READ, GOOD_SECONDS = 10_000, 30.0


class CountedCauses:
    """The causes of one migration, biggest first. Not thread-safe: the collector asks one after the other."""

    def __init__(self, store: FiguresView, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._causes: Sequence[Cause] = ()
        self._good_until = float("-inf")

    def of(self, figures: Figures) -> Sequence[Cause]:
        """No cause where these figures have no open finding, or while the findings cannot be read."""
        if not figures.open_total:
            self._causes = ()
        elif self._clock() >= self._good_until:
            self._causes = self._counted()
            self._good_until = self._clock() + GOOD_SECONDS
        return self._causes

    def _counted(self) -> Sequence[Cause]:
        causes = Causes()
        try:
            for finding in islice(self._store.findings(), MOST_READ):
                causes.add(finding, "")  # prefixes are shown elsewhere
        except StoreError as error:
            log.warning("causes of the findings are not known", error=str(error))
            return ()
        return causes.ranked()

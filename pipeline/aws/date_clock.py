"""AWS's clock, from the Date headers of its answers, carried on with this host's monotonic clock.

Reads: Date headers, the monotonic clock. Writes: nothing. Never: this host's wall clock.

A Date header is cut to whole seconds, and was made somewhere between asking and being answered. So an answer
only bounds how far AWS's clock is ahead of ours; what many answers leave is soon far less than a second:

    1. asked at 10.2 s of the monotonic clock, answered at 10.3, Date 12:00:07  → ahead by 11:59:56.7 … 57.8
    2. asked at 12.8, answered at 12.9, Date 12:00:10                           → ahead by 11:59:57.1 … 58.2
    3. both hold: 11:59:57.1 … 57.8; it is 12:00:09.9 … 10.6 there when ours says 12.8

Of what is possible the earliest is taken: a clock that is never ahead lets no deadline pass too early. For
what an answer may have shown, the latest.

Where an answer contradicts what was known, this host's monotonic clock stood still (a virtual machine was
paused, a laptop slept): the answer counts, and what was under way across that instant was timed wrongly.
"""

import email.utils
import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

#: What two clocks that are kept by NTP, or by nobody for a while, may drift apart in a second.
DRIFT = 0.000_2
#: A contradiction of less than this is no step: the many machines of a service differ a little.
STEP_SECONDS = 1.5
#: As long as what is known is wider than this, nothing is known (an answer that was long on its way).
KNOWN_WITHIN_SECONDS = 3.0


class DateClock:
    """One service's clock. Thread-safe."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._bounds = float("-inf"), float("inf")  # how far AWS is ahead, in seconds; read as one
        self._bounded_at = 0.0
        self._date, self._date_seconds = "", 0.0
        self._steps = 0

    @property
    def steps(self) -> int:
        """How often an answer contradicted what was known. Who has seen a step goes by the time after it."""
        with self._lock:
            return self._steps

    def now_ms(self) -> int | None:
        """At the earliest; None before an answer has told it."""
        bounds = self._known()
        return None if bounds is None else int((self._monotonic() + bounds[0]) * 1000)

    def latest_ms(self) -> int | None:
        """Now at the latest; None before an answer has told it."""
        bounds = self._known()
        return None if bounds is None else int((self._monotonic() + bounds[1]) * 1000) + 1

    def about_ms(self) -> int | None:
        """Most likely, for a comparison with another clock; None before an answer has told it."""
        bounds = self._known()
        return None if bounds is None else round((self._monotonic() + sum(bounds) / 2) * 1000)

    def _known(self) -> tuple[float, float] | None:
        low, high = self._bounds
        return None if high - low > KNOWN_WITHIN_SECONDS else (low, high)

    def saw(self, date: str, asked: float, answered: float) -> None:
        """An answer with this Date header; asked and answered: monotonic seconds."""
        with self._lock:
            if date != self._date:
                try:
                    seconds = email.utils.parsedate_to_datetime(date).timestamp()
                except (ValueError, OverflowError, OSError):  # no date, or one beyond what a clock can say
                    return
                self._date, self._date_seconds = date, seconds
            stepped = self._bound(self._date_seconds - answered, self._date_seconds + 1 - asked, answered)
        if stepped:  # not said before anybody can go by it
            log.warning(
                "this host stood still, or AWS's clock stepped: what was under way is looked at again",
                seconds=round(stepped, 1),
            )

    def _bound(self, low: float, high: float, at: float) -> float:
        """Take in what an answer says. Returns by how much it contradicts what was known, 0 = it does not."""
        known_low, known_high = self._bounds
        drift = DRIFT * max(0.0, at - self._bounded_at)
        both_low, both_high = max(low, known_low - drift), min(high, known_high + drift)
        stepped = 0.0
        if both_low <= both_high:
            low, high = both_low, both_high
        elif both_low - both_high > STEP_SECONDS:
            self._steps += 1
            stepped = (low + high - known_low - known_high) / 2
        self._bounds, self._bounded_at = (low, high), at
        return stepped

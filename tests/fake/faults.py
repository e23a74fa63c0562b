"""What goes wrong, on order: a list of faults, each for some operations and a number of calls.

Reads: nothing. Writes: nothing. Never: random.
"""

import threading
import time
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A fault. `detail` is a number whose meaning is given where there is one."""

    THROTTLE = "throttle"
    INTERNAL_ERROR = "internal_error"  # 500, JSON
    BAD_GATEWAY = "bad_gateway"  # 502, HTML
    NO_OBJECT = "no_object"  # 502, JSON that is a text
    NOT_UTF8 = "not_utf8"  # 403, HTML in another encoding
    NO_TYPE = "no_type"  # 400, an object whose __type is a number
    EXPIRED_TOKEN = "expired_token"
    ACCESS_DENIED = "access_denied"
    EXPIRED_ITERATOR = "expired_iterator"
    HANG_UP = "hang_up"  # the request is carried out, the answer never comes
    STALL = "stall"  # half-open: no answer, the connection stays
    SLOW = "slow"  # detail: seconds
    TRUNCATE = "truncate"  # 200 with half the body
    EMPTY = "empty"  # 200 with {}
    NO_TABLE = "no_table"  # BatchGetItem: 200 without the table in Responses
    PORTAL = "portal"  # 200, HTML
    BAD_CRC = "bad_crc"
    UNKNOWN_TAG = "unknown_tag"  # the values of items have a type that nobody knows
    EXTRA_KEY = "extra_key"  # an item that was not asked for
    DUPLICATE_KEY = "duplicate_key"  # an item twice
    DROP_KEY = "drop_key"  # detail: items left out of the answer though they exist
    UNPROCESSED = "unprocessed"  # detail: keys (or writes) put off


@dataclass
class Fault:
    kind: Kind
    operation: str
    calls: int | None  # None: until cleared
    detail: float


class Faults:
    """Thread-safe. Each call of an operation uses up one call of every fault that is set for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._rates: dict[str, tuple[float, float, float]] = {}  # per second, balance, counted at
        self._said: dict[str, tuple[bytes, int | None]] = {}  # operation → what is answered, how often

    def say(self, operation: str, raw: bytes, calls: int | None) -> None:
        """Answer the next calls of an operation with these bytes, headers included, instead of AWS's."""
        with self._lock:
            self._said[operation] = raw, calls

    def said(self, operation: str) -> bytes:
        """What is to be answered instead, if anything."""
        with self._lock:
            raw, calls = self._said.get(operation, (b"", 0))
            if calls is not None:
                self._said[operation] = (raw, calls - 1) if calls > 1 else (b"", 0)
            return raw

    def add(self, kind: Kind, operation: str = "*", calls: int | None = 1, detail: float = 1) -> None:
        with self._lock:
            self._faults.append(Fault(kind, operation, calls, detail))

    def limit_rate(self, operation: str, per_second: float) -> None:
        """Throttle calls of `operation` above a rate, with a burst of one second's worth."""
        with self._lock:
            self._rates[operation] = (per_second, per_second, time.monotonic())

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
            self._rates.clear()
            self._said.clear()

    def take(self, operation: str) -> dict[Kind, float]:
        """The faults of this call: kind → detail."""
        if not self._faults and not self._rates:
            return {}
        with self._lock:
            taken = {f.kind: f.detail for f in self._faults if f.operation in ("*", operation)}
            for fault in self._faults:
                if fault.calls is not None and fault.operation in ("*", operation):
                    fault.calls -= 1
            self._faults = [f for f in self._faults if f.calls is None or f.calls > 0]
            if self._over_rate(operation):
                taken[Kind.THROTTLE] = 1
            return taken

    def _over_rate(self, operation: str) -> bool:
        if operation not in self._rates:
            return False
        rate, balance, at = self._rates[operation]
        now = time.monotonic()
        balance = min(rate, balance + (now - at) * rate)
        over = balance < 1
        self._rates[operation] = (rate, balance if over else balance - 1, now)
        return over

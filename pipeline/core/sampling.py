"""Which keys are sampled: decided by the key alone, so every process, mode and restart agrees.

Reads: compact canonical keys. Writes: nothing. Never: randomness. Nothing is counted or kept.

A sample of keys keeps all changes of each key it keeps; a sample of records would favour hot keys and break
histories. A larger percentage keeps everything that a smaller one keeps.
"""

from fractions import Fraction
from hashlib import sha256

#: Bytes of the hash that are compared: a percentage is exact to 1 in 2**64.
_HASH_BYTES = 8
#: Greater than every 8-byte hash, because it is longer.
_ABOVE_ALL = b"\xff" * (_HASH_BYTES + 1)


class Sampler:
    """Keeps `percent` per cent of all keys (0 < percent <= 100). Raises ValueError outside that range."""

    def __init__(self, percent: float) -> None:
        if not 0 < percent <= 100:
            raise ValueError(f"the sampled percentage must be above 0 and at most 100, not {percent}")
        self.threshold = _threshold(percent)
        self._keeps_all = self.threshold == _ABOVE_ALL

    def keeps(self, compact_key: bytes) -> bool:
        return self._keeps_all or sha256(compact_key).digest()[:_HASH_BYTES] < self.threshold


def _threshold(percent: float) -> bytes:
    """The least hash that is not kept, never zero: a sampler that keeps nothing would pass for a check."""
    if percent == 100:
        return _ABOVE_ALL
    share = Fraction(str(percent)) / 100
    return max(1, int(share * 256**_HASH_BYTES)).to_bytes(_HASH_BYTES)

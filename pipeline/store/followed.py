"""Which keys are followed just now, as a process last heard: all of the sample, or those of a lowered one.

Reads: nothing. Writes: nothing. Never: redis, clocks.
"""

from typing import NamedTuple

import msgspec

from pipeline.core.budget import Lowered
from pipeline.core.sampling import Sampler
from pipeline.store.answers import instant_ms, reading

_EVERY_KEY = Sampler(100)


class Followed(NamedTuple):
    """stored: the field `lowered` of `meta`, b"" = the sample is as the migration was begun."""

    stored: bytes = b""
    lowered: Lowered | None = None
    sampler: Sampler = _EVERY_KEY

    @property
    def sample(self) -> str:
        """What the counts of distinct keys are named after (`scripts.of_sample`)."""
        return str(self.lowered.since_ms) if self.lowered else ""

    def keeps(self, key: bytes) -> bool:
        """Whether a key of the migration's sample is of the lowered one, too."""
        return self.lowered is None or self.sampler.keeps(key)


def followed(stored: bytes, where: str) -> Followed:
    """stored: as in `Followed`; where: what it was read from. Raises StateDamaged."""
    lowered = lowered_of(stored, where)
    return Followed(stored, lowered, Sampler(lowered.percent)) if lowered else Followed()


def lowered_of(stored: bytes | None, where: str) -> Lowered | None:
    """None: the sample is as the migration was begun. Raises StateDamaged."""
    if not stored:
        return None
    with reading(where):
        lowered = msgspec.json.decode(stored, type=Lowered)
        for at_ms in (lowered.since_ms, lowered.first_ms, lowered.raised_ms):
            instant_ms(at_ms)
        Sampler(lowered.percent)
        Sampler(lowered.least_percent)
        return lowered

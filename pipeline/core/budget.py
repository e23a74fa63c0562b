"""How far the sample was lowered because of what it cost (`--max-cost-per-hour`), and what that leaves known.

Reads: nothing. Writes: nothing. Never: I/O, clocks.

Samples are nested (`sampling`): every key of the lower one was followed all the time. A key beyond it is
followed until its history is closed, and then left out: it may change unseen. So the keys that were judged
are counted anew whenever the sample changes, and only those of the sample in use count.
"""

import msgspec


class Lowered(msgspec.Struct, frozen=True):
    """The sample in use, where it is or was another one than the migration was begun with.

    percent: of the keys, followed since since_ms. budget, spent: dollars an hour, allowed and spent, that led
    to it. least_percent: the lowest there was. first_ms: when the sample was lowered first. raised_ms: when
    the operator last raised it again, 0 = never.
    """

    percent: float
    since_ms: int
    budget: float
    spent: float
    least_percent: float
    first_ms: int
    raised_ms: int = 0

    @property
    def has_hole(self) -> bool:
        """Whether keys of the sample in use were left out for a while: they may have changed unseen."""
        return self.least_percent < self.percent

"""How long to wait after failures in a row: the one back-off of all who try again.

Reads: randomness, where waits are to differ. Writes: nothing. Never: waiting. Failures are counted by the
callers.
"""

import random
from typing import NamedTuple

#: From here on a wait is the longest anyway; 2 to a larger power need not be a float.
_DOUBLINGS_MAX = 30


class Backoff(NamedTuple):
    """The first wait, doubled after every further failure, up to the longest.

    jittered: between half the wait and all of it, so that those who failed together do not return together.
    """

    first_seconds: float
    longest_seconds: float
    jittered: bool = False

    def after(self, failures: int) -> float:
        """Seconds to wait after this many failures in a row, at least one."""
        doublings = min(max(failures - 1, 0), _DOUBLINGS_MAX)
        wait = min(self.longest_seconds, self.first_seconds * 2.0**doublings)
        return random.uniform(wait / 2, wait) if self.jittered else wait

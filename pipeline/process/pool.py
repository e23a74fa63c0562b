"""A pool of threads that do what is due; see `turns`.

Reads: the monotonic clock. Writes: log lines, the interpreter's switch interval. It makes no process and
ends none.
"""

import sys
import threading
import time
from collections.abc import Sequence

import structlog

from pipeline.process.turns import Turns

log = structlog.get_logger(__name__)

#: A thread that waits for the interpreter asks for it after so long. Most threads of a pool give it up within
#: two milliseconds by themselves, when they send something; Python's own 5 ms are soon over where processes
#: are more than cores, and what eight threads then take from each other cost a sixth of a validator's CPU.
SWITCH_SECONDS = 0.02
#: A pool all of whose threads have been at one thing for so long hangs.
HANGING_SECONDS = 120.0


class Pool:
    """What is put into `turns` is done, and done again when it says that it is due."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.turns = Turns(threads)
        #: What the first thread raised that failed; the others go on, until whoever runs the pool ends it.
        self.failure: BaseException | None = None
        self._since: list[float | None] = [None] * threads  # since when each has been at one thing
        # Daemons: one that hangs in a call does not keep the process from ending.
        self._running = [
            threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        for thread in self._running:
            thread.start()

    @property
    def hangs(self) -> bool:
        now = time.monotonic()
        return all(since is not None and now - since > HANGING_SECONDS for since in list(self._since))

    def _work(self, number: int) -> None:
        try:
            while (taken := self.turns.take()) is not None:
                seat, chore = taken
                self._since[number] = time.monotonic()
                try:
                    due = chore()
                    if due is not None:
                        self.turns.put(seat, chore, due)
                finally:
                    self._since[number] = None
                    self.turns.leave(seat)
        except BaseException as error:  # noqa: BLE001  # whoever runs the pool raises it again
            if self.failure is None:
                self.failure = error

    def join(self, until: float) -> int:
        """Wait for the threads; how many there still are at that instant."""
        for thread in self._running:
            if thread.ident is not None:  # it was started
                thread.join(max(0.0, until - time.monotonic()))
        return sum(thread.is_alive() for thread in self._running)


def close(pools: Sequence[Pool], seconds: float) -> None:
    """Nothing more is begun; the threads finish what they are at, for so long at most."""
    for pool in pools:
        pool.turns.close()
    until = time.monotonic() + seconds
    if left := sum(pool.join(until) for pool in pools):
        log.error("threads did not end in time: left behind", threads=left)

"""The loops of one process, a thread each: until the process is to end, or the first of them fails.

Reads: nothing. Writes: nothing. It makes no process and ends none.
"""

import threading
import time
from collections.abc import Callable, Sequence

import structlog

log = structlog.get_logger(__name__)

#: How long loops may finish what is under way: the supervisor kills after 25 s.
END_SECONDS = 20.0


def serve(
    loops: Sequence[Callable[[], None]],
    stop: threading.Event,
    every_second: Callable[[], None],
    *,
    end_seconds: float = END_SECONDS,
) -> None:
    """Run the loops until `stop`, which each of them has to heed; it is set when one fails.

    Raises what the first one raised, whether or not the others end in time.
    """
    failures: list[BaseException] = []

    def guard(loop: Callable[[], None]) -> None:
        try:
            loop()
        except BaseException as error:  # noqa: BLE001  # raised again below
            # At once, and not only when the others have ended. Its text may hold what must not be shown.
            log.error("a loop failed: the others are ended", kind=type(error).__name__)
            failures.append(error)
            stop.set()

    # Daemons: one that hangs in a call does not keep the process from ending.
    threads = [threading.Thread(target=guard, args=(loop,), daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        every_second()
        while not stop.wait(1.0):
            every_second()
    finally:
        stop.set()
        _join(threads, end_seconds)
    if failures:
        raise failures[0]


def _join(threads: Sequence[threading.Thread], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if left := sum(thread.is_alive() for thread in threads):
        log.error("loops did not end in time: left behind", loops=left)

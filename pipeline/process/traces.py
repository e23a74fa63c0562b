"""Tracebacks as they are logged: where it happened, and what our own errors say.

Reads: nothing. Writes: nothing. Never: I/O. What foreign exceptions say is left out: "could not convert
string to float: …" holds a value of an item, other texts hold answers, URLs, keys.
"""

import traceback
from collections.abc import Iterator

from pipeline.core.quoting import quoted
from pipeline.errors import MonitorError

#: Of one cause; the middle of a deeper stack says the same again and again.
FRAMES = 40


def trace_of(error: BaseException) -> str:
    """The traceback of `error` and of what led to it, oldest first."""
    return "\n".join(line for one in _chain(error) for line in _lines(one))


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in found:
        found.append(one)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return reversed(found)


def _lines(error: BaseException) -> Iterator[str]:
    yield "Traceback (most recent call last):"
    frames = traceback.extract_tb(error.__traceback__)
    if len(frames) > FRAMES:
        frames = traceback.StackSummary.from_list([*frames[: FRAMES // 2], *frames[-FRAMES // 2 :]])
    for frame in frames.format():
        yield frame.rstrip("\n")
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    yield f"{name}: {quoted(str(error))}" if isinstance(error, MonitorError) else name

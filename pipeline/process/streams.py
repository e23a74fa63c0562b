r"""Standard input, output and error, on which no work depends: closed, full, or without a character's sign.

Reads: the environment. Writes: the three descriptors' settings. What is printed is for others.

A descriptor that is closed would be the next socket or file that is opened, and take what is printed. A
locale without UTF-8 has no sign for "→": it is written as \u2192, which JSON reads as it was meant.
"""

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

_ESCAPED = "ddbmm-escaped"
_DESCRIPTORS = (0, 1, 2)
_BASIC_PLANE = 0xFFFF


class Output(io.TextIOWrapper):
    """Standard output or error, which remembers what kept it from being written: libraries may not say it."""

    lost: OSError | None = None

    def write(self, text: str, /) -> int:
        with self._remembering():
            return super().write(text)

    def flush(self) -> None:
        with self._remembering():
            super().flush()

    @contextlib.contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.lost = self.lost or error
            raise


def prepare() -> None:
    """Call first thing in a process."""
    codecs.register_error(_ESCAPED, _escaped)
    for descriptor in _DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the least that is free: this one
    sys.stdout = _own(sys.stdout, 1)
    sys.stderr = _own(sys.stderr, 2)


def _own(stream: TextIO | None, descriptor: int) -> TextIO:
    """The stream as it is from now on; one that is not Python's own stays (tests capture what is printed)."""
    if stream is not None and type(stream) is not io.TextIOWrapper:
        return stream
    return _output(descriptor, "utf-8" if stream is None else stream.encoding)


def _output(descriptor: int, encoding: str) -> Output:
    raw = open(descriptor, "wb", closefd=False)  # noqa: SIM115 - as long as the process
    return Output(raw, encoding=encoding, errors=_ESCAPED, line_buffering=descriptor == 2 or raw.isatty())


def say(text: str) -> None:
    """A line on standard error, if it can be written."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)


def show(block: str) -> OSError | None:
    """Print what nothing depends on; what kept it from being written."""
    try:
        print(block, flush=True)
    except OSError as error:
        if isinstance(sys.stdout, Output):
            # A fresh one: what this holds back would be tried again by whoever flushes.
            sys.stdout = _output(1, sys.stdout.encoding)
        return error
    return None


def colored(stream: TextIO) -> bool:
    """Whether to write in colours: to a terminal that has them, unless nobody wants them (no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def flush() -> OSError | None:
    """Write out what was printed. What kept standard output from being written; what is left is dropped.

    Else Python would try again at the exit, and end with a code of its own.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    return sys.stdout.lost if isinstance(sys.stdout, Output) else None


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """What cannot be encoded, as JSON escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = "".join(map(_escape, error.object[error.start : error.end]))
    return shown, error.end


def _escape(character: str) -> str:
    code = ord(character)
    if code <= _BASIC_PLANE:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"

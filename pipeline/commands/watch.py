"""`status --watch`: the answer and what it is made of, renewed in place on a terminal, else as plain text.

Reads: the store, the keyboard. Writes: standard output. Never: AWS, the store's writers. Figures are gathered
beside the picture, so that a store that hangs keeps nobody from ending it; the terminal is put back whatever
ends it.

Plain text, a block every --statistics-every: where standard output is no terminal, or one that cannot be
written in place (TERM=dumb, no UTF-8).
"""

import contextlib
import dataclasses
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Self

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from pipeline import exit_codes
from pipeline.commands import several
from pipeline.commands.inspect import begun
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.gate import Result
from pipeline.errors import MonitorError, UsageError
from pipeline.gathering import ASKED_BY_PAGE, gather, maker
from pipeline.process import streams
from pipeline.report.columns import paragraph
from pipeline.report.facts import Facts
from pipeline.report.watch_overview import overview
from pipeline.report.watch_text import TALL, Line, Rates, picture, rates, shown_in
from pipeline.store import StoreView, embedded

#: Figures are gathered anew after so long, and after so many times as long as that took.
LEAST_SECONDS, REST_FACTOR = 2.0, 5.0
#: The age of figures is shown anew this often.
REDRAW_SECONDS = 1.0
#: Rates are of so long.
RATES_MS = 60_000
#: A terminal that does not say its size.
USUAL_SIZE = (80, 24)
_STYLES = {
    Result.PASSED: "bold green",
    Result.FAILED: "bold red",
    Result.INCONCLUSIVE: "bold yellow",
}
#: Plain text has room for everything.
ALL_LINES = 1_000_000
_ESCAPE = b"\x1b"
_DRAWN = "▁█…×–"


def run(process: ProcessConfig, migrations: Sequence[MigrationConfig]) -> int:
    """Watch until `q`, Ctrl-C or SIGTERM. What keeps the first look from being taken ends it, as `status`."""
    if process.json:
        raise UsageError(
            "--watch is to be looked at", "leave --watch out: `status --json`, as often as needed"
        )
    one = migrations[0] if len(migrations) == 1 else None
    look: Look = _LookAtOne(process, one) if one else _LookAtAll(process, migrations)
    try:
        first = look()
    except KeyboardInterrupt:
        return exit_codes.FINE
    with _Signals() as signals:
        watching = _Watching(look, first, signals.wake)
        try:
            if _draws():
                _on_screen(watching, signals)
            else:
                _in_blocks(watching, signals, process.statistics_every_ms / 1000)
        finally:
            watching.end()
    return exit_codes.FINE


# --- figures -----------------------------------------------------------------------------------------------

#: Makes lines of what was seen: given why there is nothing newer ("" = there is), its age in seconds, and how
#: many lines there is room for.
Draw = Callable[[str, float, int], list[Line]]
#: Looks now. Raises MonitorError.
Look = Callable[[], Draw]


def _located(process: ProcessConfig) -> ProcessConfig:
    """With the URL of now: the run beside may be another by now."""
    return dataclasses.replace(process, redis_url=process.redis_url or embedded.beside(process.state_dir))


class _LookAtOne:
    """All that is known of one migration, and what goes on since the looks before."""

    def __init__(self, process: ProcessConfig, migration: MigrationConfig) -> None:
        self._process, self._migration = process, migration
        self._before: deque[Facts] = deque()

    def __call__(self) -> Draw:
        facts = self._facts()
        measured = self._rates(facts)
        return lambda trouble, age, height: picture(facts, measured, trouble, age, tall=height + 1 >= TALL)

    def _facts(self) -> Facts:
        process = _located(self._process)
        with contextlib.closing(begun(process, self._migration, StoreView)) as store:
            limits, who = self._migration.gate_limits(), maker(process.redis_url)
            return gather(store, limits, who, show_keys=process.show_keys, ask_at_most=ASKED_BY_PAGE)

    def _rates(self, facts: Facts) -> Rates | None:
        measured = rates(self._before[0], facts) if self._before else None
        if measured is None:
            self._before.clear()
        self._before.append(facts)
        while len(self._before) > 1 and facts.at_ms - self._before[0].at_ms > RATES_MS:
            self._before.popleft()
        return measured


class _LookAtAll:
    """Where many migrations stand, by their figures alone."""

    def __init__(self, process: ProcessConfig, migrations: Sequence[MigrationConfig]) -> None:
        self._process, self._migrations = process, migrations

    def __call__(self) -> Draw:
        standings, at_ms = several.standings(_located(self._process), self._migrations)
        return lambda trouble, age, height: overview(standings, at_ms, trouble, age, height)


class _Known(msgspec.Struct, frozen=True):
    """The latest look, when it was taken (monotonic), and why there is no newer one."""

    draw: Draw
    at: float
    trouble: str = ""


class _Watching:
    """Looks again and again in a thread of its own."""

    def __init__(self, look: Look, first: Draw, wake: Callable[[], None]) -> None:
        self._look, self._wake = look, wake
        self._known = _Known(first, time.monotonic())
        self._failure: Exception | None = None
        self._ended = threading.Event()
        # A daemon: one that hangs in a call does not keep the process from ending.
        threading.Thread(target=self._go_on, daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def lines(self, height: int) -> list[Line]:
        """What is to be shown now, for so many lines. Raises what nobody foresaw."""
        if self._failure is not None:
            raise self._failure
        known = self._known
        return known.draw(known.trouble, time.monotonic() - known.at, height)

    def _go_on(self) -> None:
        took = 0.0
        while not self._ended.wait(max(LEAST_SECONDS, REST_FACTOR * took)):
            began = time.monotonic()
            try:
                draw = self._look()
                self._known = _Known(draw, time.monotonic())
            except MonitorError as error:
                self._known = msgspec.structs.replace(self._known, trouble=error.problem)
            except Exception as error:  # noqa: BLE001 - raised again where the picture is drawn
                self._failure = error
            took = time.monotonic() - began
            self._wake()


# --- signals and keys --------------------------------------------------------------------------------------


class _Signals:
    """What ends the watch, and what wakes it: signals, new figures, a window of another size."""

    _ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.ended = False
        self._woken, self._waking = os.pipe()
        for end in (self._woken, self._waking):
            os.set_blocking(end, False)

    def __enter__(self) -> Self:
        self._before = {one: signal.signal(one, self._end) for one in self._ENDING}
        self._before[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, lambda *_: self.wake())
        return self

    def __exit__(self, *_: object) -> None:
        for one, before in self._before.items():
            signal.signal(one, before)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self.ended = True
        self.wake()

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # woken already
            os.write(self._waking, b".")

    def wait(self, seconds: float, keyboard: int | None = None) -> bytes:
        """Until something is to be done, at most so long; what was typed."""
        ready = select.select([self._woken, *([] if keyboard is None else [keyboard])], [], [], seconds)[0]
        if self._woken in ready:
            os.read(self._woken, 4096)
        return _typed(keyboard) if keyboard is not None and keyboard in ready else b""


def _typed(keyboard: int) -> bytes:
    """A terminal that is gone ends the watch as `q` does."""
    try:
        return os.read(keyboard, 4096) or b"q"
    except OSError:
        return b"q"


@contextlib.contextmanager
def _keys() -> Iterator[int | None]:
    """The keyboard, key by key and without echo; None where standard input is no terminal."""
    if not sys.stdin or not sys.stdin.isatty():
        yield None
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard, termios.TCSANOW)
        with_keys = termios.tcgetattr(keyboard)
        with_keys[6][termios.VSUSP] = b"\x00"  # Ctrl-Z would leave the picture on the screen
        termios.tcsetattr(keyboard, termios.TCSANOW, with_keys)
        yield keyboard
    finally:
        with contextlib.suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(keyboard, termios.TCSANOW, before)


# --- what is seen ------------------------------------------------------------------------------------------


def _draws() -> bool:
    """Whether standard output is a terminal that can be written in place."""
    if not sys.stdout.isatty() or (os.environ.get("TERM") or "dumb") in ("dumb", "unknown"):
        return False
    try:
        _DRAWN.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def _on_screen(watching: _Watching, signals: _Signals) -> None:
    """On the terminal's other screen, so that what was there before comes back."""
    plain = not streams.colored(sys.stdout)
    console = Console(file=sys.stdout, force_terminal=True, no_color=plain, highlight=False, markup=False)
    live = Live(
        console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    )
    with _keys() as keyboard, live:
        shown: object = None
        while not signals.ended:
            size = _size()
            lines = _framed(watching.lines(size[1] - 1), size, typed=keyboard is not None)
            if (lines, size) != shown:
                console.size = size
                live.update(_drawn(lines), refresh=True)
                shown = (lines, size)
            typed = signals.wait(REDRAW_SECONDS, keyboard)
            if not typed.startswith(_ESCAPE) and {*b"qQ"} & {*typed}:  # F2 has a Q in it
                return


def _size() -> tuple[int, int]:
    """Columns and lines, of now: a shell that exports COLUMNS knows only what they were."""
    with contextlib.suppress(OSError):
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
        if columns and lines:
            return columns, lines
    return USUAL_SIZE


def _framed(lines: list[Line], size: tuple[int, int], *, typed: bool) -> list[Line]:
    """The lines that there is room for, and below them how to end it."""
    ends = "q ends it" if typed else "Ctrl-C ends it"
    columns, height = size
    kept = shown_in(lines, columns, height - 1)
    filler = [Line("")] * (height - 1 - len(kept))
    return [*kept, *filler, Line(f"{ends}; renewed every {LEAST_SECONDS:g} s")][:height]


def _drawn(lines: list[Line]) -> Text:
    """Each line in one of the screen's: what is too long for it ends in an ellipsis."""
    parts = [(one.text + "\n", _STYLES[one.tone] if one.tone else "") for one in lines]
    drawn = Text.assemble(*parts, no_wrap=True, overflow="ellipsis")
    drawn.rstrip()
    return drawn


def _in_blocks(watching: _Watching, signals: _Signals, every_seconds: float) -> None:
    while not signals.ended:
        block = [paragraph(one.text, indent=one.indent) for one in watching.lines(ALL_LINES)]
        print("\n".join([*block, ""]), flush=True)
        until = time.monotonic() + every_seconds
        while not signals.ended and (left := until - time.monotonic()) > 0:
            signals.wait(left)

"""How far a comparison is: a bar on a terminal, a line every 30 seconds elsewhere; on standard error.

Reads: figures. Writes: standard error. Never: the store.
"""

import time

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pipeline.core.comparing.state import Comparison
from pipeline.core.figures import Figures
from pipeline.process import streams
from pipeline.report.comparison_text import progress_text

LINE_EVERY_SECONDS = 30.0


class Progress:
    """Shown from its making until `close`."""

    def __init__(self, comparison: Comparison) -> None:
        console = Console(stderr=True, highlight=False)
        self._began = time.monotonic()
        self._keys_before = comparison.tally.keys
        self._printed_at = self._began
        self._bar: Bar | None = None
        if console.is_terminal:
            columns = (
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
            )
            self._bar = Bar(*columns, console=console)
            self._task = self._bar.add_task("", total=max(1, comparison.planned), completed=comparison.done)
            self._bar.start()

    def show(self, comparison: Comparison, figures: Figures) -> None:
        seconds = time.monotonic() - self._began
        rate = (comparison.tally.keys - self._keys_before) / max(seconds, 0.001)
        text = progress_text(comparison, figures, rate)
        if self._bar is not None:
            self._bar.update(self._task, completed=comparison.done, description=text)
        elif time.monotonic() - self._printed_at >= LINE_EVERY_SECONDS:
            self._printed_at = time.monotonic()
            streams.say(text)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

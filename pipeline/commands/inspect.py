"""The commands that look once: status, gate; and mark, which notes a milestone.

Reads: the store. Writes: standard output; `mark` alone writes to the store. Never: AWS, the readers' and
validators' writers.
"""

import sys
from typing import TypeVar

from pipeline import exit_codes
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.figures import Figures
from pipeline.core.gate import Limits, Result
from pipeline.core.model import Side
from pipeline.errors import ConfigurationError, SettingsChanged
from pipeline.gathering import check_tables, gather, maker, not_named
from pipeline.process import streams
from pipeline.report import overview_text, text
from pipeline.report.findings_text import json_line
from pipeline.store import MarkStore, StoreView

#: The gate's answer as an exit code.
GATE_EXIT = {
    Result.PASSED: exit_codes.FINE,
    Result.FAILED: exit_codes.FAILED,
    Result.INCONCLUSIVE: exit_codes.INCONCLUSIVE,
}

View = TypeVar("View", bound=StoreView)


def begun(process: ProcessConfig, migration: MigrationConfig, kind: type[View]) -> View:
    """The migration, opened. Raises ConfigurationError when it was never begun, or with other tables."""
    store = kind.open(process.redis_url, migration.name)
    if store is None:
        raise ConfigurationError(
            f"there is no migration {migration.name} in this Redis",
            "check --migration, --redis-url and --state-dir, or begin it with `run`",
        )
    store.terms = migration.terms()
    try:
        check_tables(migration, store.meta)
    except SettingsChanged:
        store.close()
        raise
    return store


def status(process: ProcessConfig, store: StoreView) -> int:
    """Print where the migration stands; the exit code."""
    figures = store.figures()
    heading = text.Heading(store.migration, Side(store.setting("verify_on")))
    if process.json:
        print(json_line(text.status_object(heading, figures)))
    else:
        print(text.status_text(heading, figures))
    return exit_code(figures)


def gate(process: ProcessConfig, limits: Limits, store: StoreView) -> int:
    """Print whether to switch over, and why; the exit code."""
    facts = gather(store, limits, maker(process.redis_url), show_keys=process.show_keys)
    if process.json:
        print(json_line(text.gate_object(facts)))
    else:
        print(text.gate_text(facts))
    say_not_named(process, store)
    return GATE_EXIT[facts.result]


def say_not_named(process: ProcessConfig, store: StoreView) -> None:
    """Of the only migration of a file: on standard error, as its answer has no room for others."""
    if others := not_named(process, [store.migration], store):
        streams.say(overview_text.not_named_words(others))


def mark(process: ProcessConfig, store: MarkStore, *, whose: str = "") -> int:
    """Note that a milestone is reached now; warn where that moves it. whose: what each line begins with."""
    at_ms, before_ms = store.mark(process.milestone)
    print(f"{whose}{text.marked(process.milestone, at_ms)}")
    if before_ms is not None:
        print(f"{whose}{text.moved(process.milestone, before_ms)}", file=sys.stderr)
    return exit_codes.FINE


def exit_code(figures: Figures) -> int:
    """0: all is right that was judged. 1: something is wrong, books included. 3: nothing was judged."""
    if figures.open_total or not figures.ledger.balanced:
        return exit_codes.FAILED
    return exit_codes.FINE if figures.success.keys else exit_codes.INCONCLUSIVE

"""What `doctor`, the plan and every start say of settings that work, and do not do what was likely meant.

Reads: the configuration, and Alertmanager's file where it is named. Writes: nothing.
"""

from pathlib import Path

import msgspec

from pipeline.config import MigrationConfig, ProcessConfig, receivers
from pipeline.config.parsers import duration_text
from pipeline.core.adaptive import LEAST_MS


class Note(msgspec.Struct, frozen=True):
    """about: one word. says: one sentence. remedy: what to do."""

    about: str
    says: str
    remedy: str


def notes(process: ProcessConfig, migration: MigrationConfig) -> list[Note]:
    """Everything there is to say, most often nothing."""
    found = []
    if migration.gate_lag_ms < (migration.converge_within_ms or LEAST_MS):
        found.append(_impatient_gate(migration))
    if process.alertmanager_config and (why := receivers.untold(Path(process.alertmanager_config))):
        found.append(
            Note("alerts", f"nobody is told of them: {why}", "choose receivers there, `page` first of all")
        )
    return found


def _impatient_gate(migration: MigrationConfig) -> Note:
    allowed, converging = (
        duration_text(each) for each in (migration.gate_lag_ms, migration.converge_within_ms or LEAST_MS)
    )
    return Note(
        "gate",
        f"--gate-lag {allowed} is less than --converge-within {converging}: a change that is late by less "
        "than the latter is no finding yet, and makes the gate say NO-GO and an alert fire all the same",
        f"give --gate-lag {converging} or more, unless the gate shall be stricter",
    )

"""What a run begins with: one block that says what is watched, from when, and where its state is.

Reads: what the preflight has seen. Writes: standard output, one log line. Never: AWS, the store.
"""

from pathlib import Path

import structlog

from pipeline.commands import doctor, preflight
from pipeline.commands.notes import notes
from pipeline.commands.preflight import Opened, StreamSeen, Tables
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.process import streams
from pipeline.report.columns import rows
from pipeline.report.words import instant

log = structlog.get_logger(__name__)

NAME_COLUMNS = 13


def plan(process: ProcessConfig, migration: MigrationConfig, tables: Tables, stream: StreamSeen) -> str:
    """What `run` would do, for --dry-run."""
    begins = f"{migration.iterator_type}, unless the migration was begun before"
    return _block(process, migration, tables, stream, [("begins at", begins)])


def announce(
    process: ProcessConfig, migration: MigrationConfig, opened: Opened, seen: tuple[Tables, StreamSeen] | None
) -> None:
    """Say what begins. seen: what `run` has looked at; the roles of several hosts log one line."""
    if seen is not None and process.log_format == "console":
        block = _block(process, migration, *seen, [("begun", _begun(migration, opened))])
        streams.show(block)  # if nobody reads, the run goes on all the same
    else:
        event = "migration begun" if opened.new else "migration resumed"
        since, state = instant(opened.started_ms), _state(process)
        log.info(event, migration=migration.name, since=since, state=state)
        if seen is not None:
            say_notes(process, migration)
    if opened.changed:
        log.warning(
            "times changed since the last start: what is open is judged by the new ones",
            changed=", ".join(opened.changed),
        )


def say_notes(process: ProcessConfig, migration: MigrationConfig) -> None:
    """What was likely not meant: by whoever watches, and not by each of its readers and validators."""
    for note in notes(process, migration):
        log.warning("what was likely not meant", about=note.about, says=note.says, remedy=note.remedy)


def _begun(migration: MigrationConfig, opened: Opened) -> str:
    if not opened.new:
        return f"{instant(opened.started_ms)}; resumed now, where its readers stood"
    whole = migration.iterator_type == "TRIM_HORIZON"
    reads = "what the stream still holds" if whole else "the changes from now on"
    return f"now, anew: there was no state of this name; reads {reads}"


def _block(
    process: ProcessConfig,
    migration: MigrationConfig,
    tables: Tables,
    stream: StreamSeen,
    begun: list[tuple[str, str]],
) -> str:
    times = ", ".join(f"{name} {value}" for name, value in migration.judged_by().items())
    return rows(
        [
            ("migration", migration.name),
            *begun,
            ("state", _state(process)),
            ("source", f"{tables.source.arn} at {tables.source_endpoint}"),
            ("target", f"{tables.target.arn} at {tables.target_endpoint}"),
            ("keys", preflight.describe_keys(tables.source)),
            ("stream", f"{stream.info.arn} at {stream.endpoint}"),
            ("view, shards", f"{stream.info.view}, {stream.shards}"),
            ("looked up on", str(migration.verify_on)),
            ("sampled", f"{migration.sample_rate:g} % of keys"),
            ("judged by", times),
            ("validators", f"{process.workers}, each with {process.in_flight} calls under way"),
            ("live page", _page(process)),
            ("reads", doctor.estimate(migration, tables.of(migration.verify_on))),
            *((note.about, f"{note.says}; {note.remedy}") for note in notes(process, migration)),
        ],
        NAME_COLUMNS,
    )


def _page(process: ProcessConfig) -> str:
    """Where the report is served; a port that is chosen by the system is known and logged later."""
    if not process.metrics_port:
        return "on any free port, which is logged"
    return f"http://{process.bind_address}:{process.metrics_port}/"


def _state(process: ProcessConfig) -> str:
    """Where the state is; a directory in full, since a relative one depends on where one stands."""
    if process.redis_url:
        return "the Redis of --redis-url"
    return f"embedded server in {Path(process.state_dir).absolute()}"

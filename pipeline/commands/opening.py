"""What a run begins with: one block that says what is watched, from when, and where its state is.

Reads: what the preflight has seen. Writes: standard output, one log line. Never: AWS, the store.
"""

from collections.abc import Sequence
from pathlib import Path

import structlog

from pipeline import both_tables
from pipeline.both_tables import Tables
from pipeline.commands import doctor
from pipeline.commands.notes import Note, notes
from pipeline.commands.preflight import Opened, StreamSeen
from pipeline.commands.preparing import Looked
from pipeline.config import MigrationConfig, ProcessConfig, listed
from pipeline.process import streams
from pipeline.report.columns import paragraph, row, rows
from pipeline.report.words import instant, many

log = structlog.get_logger(__name__)

NAME_COLUMNS = 13


def plan(process: ProcessConfig, migration: MigrationConfig, tables: Tables, stream: StreamSeen) -> str:
    """What `run` would do, for --dry-run."""
    begins = f"{migration.iterator_type}, unless the migration was begun before"
    return _block(process, migration, tables, stream, [("begins at", begins)])


def plans(process: ProcessConfig, looked: Sequence[Looked]) -> str:
    """The plan of each, and why others have none."""
    return "\n\n".join(
        plan(process, one.migration, *one.seen)
        if one.seen
        else rows([("migration", one.migration.name), ("refused", str(one.error))], NAME_COLUMNS)
        for one in looked
    )


def announce_all(process: ProcessConfig, looked: Sequence[Looked]) -> None:
    """Say what begins, and what does not. Several on a console: a line or two each."""
    if len(looked) == 1:
        (one,) = looked
        if one.opened is not None:
            announce(process, one.migration, one.opened, one.seen if process.command == "run" else None)
        return
    if process.command == "run" and process.log_format == "console":
        streams.show(_overview(process, looked))
    else:
        for one in looked:
            if one.opened is not None:
                _log_begun(process, one.migration, one.opened)
    for one in looked:
        if one.error is not None:
            log.error(
                "migration is not served",
                migration=one.migration.name,
                reason=one.error.problem,
                **({"remedy": one.error.remedy} if one.error.remedy else {}),
            )
        elif one.opened is not None:
            _log_changed(one.opened, migration=one.migration.name)
    if process.command == "run":
        say_notes(process, [one.migration for one in looked])


def announce(
    process: ProcessConfig, migration: MigrationConfig, opened: Opened, seen: tuple[Tables, StreamSeen] | None
) -> None:
    """Say what begins. seen: what `run` has looked at; the roles of several hosts log one line."""
    if seen is not None and process.log_format == "console":
        block = _block(process, migration, *seen, [("begun", _begun(migration, opened))])
        streams.show(block)  # if nobody reads, the run goes on all the same
    else:
        _log_begun(process, migration, opened)
        if seen is not None:
            say_notes(process, [migration])
    _log_changed(opened)


def _log_begun(process: ProcessConfig, migration: MigrationConfig, opened: Opened) -> None:
    event = "migration begun" if opened.new else "migration resumed"
    since, state = instant(opened.started_ms), _state(process)
    log.info(event, migration=migration.name, since=since, state=state)


def _log_changed(opened: Opened, **of: str) -> None:
    if opened.changed:
        log.warning(
            "times changed since the last start: what is open is judged by the new ones",
            **of,
            changed=", ".join(opened.changed),
        )


def say_notes(process: ProcessConfig, migrations: Sequence[MigrationConfig]) -> None:
    """What was likely not meant: by whoever watches, and not by each of its readers and validators."""
    of: dict[Note, list[str]] = {}
    for migration in migrations:
        for note in notes(process, migration):
            of.setdefault(note, []).append(migration.name)
    for note, names in of.items():
        which = {"migrations": listed(names)} if len(migrations) > 1 else {}
        said = {"about": note.about, "says": note.says, "remedy": note.remedy}
        log.warning("what was likely not meant", **said, **which)


def _overview(process: ProcessConfig, looked: Sequence[Looked]) -> str:
    refused = sum(one.error is not None for one in looked)
    waiting = f"; {refused} cannot be served now, and will be tried again" if refused else ""
    head = [
        ("migrations", f"{len(looked)}{waiting}"),
        ("state", _state(process)),
        ("validators", f"{process.workers}, each with {process.in_flight} calls under way"),
        ("live page", _page(process)),
    ]
    below = (f"{paragraph(one.migration.name)}\n{row('', _stands(one), 1)}" for one in looked)
    return "\n".join([rows(head, NAME_COLUMNS), *below])


def _stands(one: Looked) -> str:
    """In a sentence: what one of several begins with."""
    if one.seen is None or one.opened is None:
        return f"not served: {one.error}"
    (tables, stream), migration = one.seen, one.migration
    begun = _begun(migration, one.opened)
    return (
        f"{tables.source.arn} → {tables.target.arn}; stream of the {migration.origin}, "
        f"{many(stream.shards, 'shard')}; {migration.sample_rate:g} % of keys; begun {begun}"
    )


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
            ("keys", both_tables.describe_keys(tables.source)),
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

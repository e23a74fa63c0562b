"""The command line: which command, its configuration, what it prints when it fails, its exit code.

Reads: arguments, environment. Writes: standard output (results), standard error (messages). What an operator
can put right gets a message without a traceback.

Each command imports only what it needs: boto3 alone costs half a second, and `--help` should not wait for it.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline import exit_codes
from pipeline.config import PROGRAM, Loaded, MigrationConfig, ProcessConfig, listed, load, split_command
from pipeline.core.quoting import MESSAGE_CHARACTERS, quoted
from pipeline.errors import ConfigurationError, MonitorError, UsageError
from pipeline.process import logs, streams
from pipeline.process.traces import trace_of

if TYPE_CHECKING:
    from pipeline.commands.inspect import View
    from pipeline.commands.preflight import StreamSeen, Tables

Migrations = tuple[MigrationConfig, ...]

_ROLES = {
    "run": ("reader", "validator", "monitor"),
    "reader": ("reader",),
    "validator": ("validator",),
    "comparer": ("comparer",),
    "monitor": ("monitor",),
    "compare": ("comparer", "validator"),
}


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run one command; its exit code. --help and --version leave by SystemExit(0)."""
    streams.prepare()
    try:
        code = _guarded(list(sys.argv[1:] if argv is None else argv), environment or os.environ)
    except SystemExit:
        if (lost := streams.flush()) is None:
            raise
        return _unwritten(lost)
    lost = streams.flush()
    return code if lost is None else _unwritten(lost)


def _guarded(argv: list[str], environment: Mapping[str, str]) -> int:
    try:
        return _dispatch(argv, environment)
    except MonitorError as error:
        streams.say(f"{PROGRAM}: {quoted(str(error), MESSAGE_CHARACTERS)}")
        return error.exit_code
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        return exit_codes.BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - whatever nobody foresaw ends with the code of a defect
        if isinstance(error, OSError) and streams.flush() is not None:
            return exit_codes.UNWRITTEN
        streams.say(trace_of(error))
        streams.say(f"{PROGRAM}: this is a defect of the program: please report it")
        return exit_codes.DEFECT


def _unwritten(lost: OSError) -> int:
    """An answer that nobody can read is none, whatever it was."""
    if isinstance(lost, BrokenPipeError):
        return exit_codes.BROKEN_PIPE
    streams.say(f"{PROGRAM}: standard output cannot be written: {lost.strerror}: give it another place")
    return exit_codes.UNWRITTEN


def _dispatch(argv: list[str], environment: Mapping[str, str]) -> int:
    command, rest = split_command(argv)
    if command in _PLAYERS:  # they play the outside world, and have options of their own
        return _PLAYERS[command](list(rest))
    loaded = load(argv, environment)
    process = loaded.process
    logs.configure(process.log_format, _log_level(process))
    if command == "config":
        return _show_config(loaded)
    return _COMMANDS[command](process, loaded.migrations)


def _one(process: ProcessConfig, migrations: Migrations) -> MigrationConfig:
    """The only migration, for what cannot speak of several. Raises UsageError."""
    if len(migrations) > 1:
        raise UsageError(
            f"`{process.command}` speaks of one migration, and there are {len(migrations)}",
            f"take one with --migration: {listed([one.name for one in migrations])}",
        )
    return migrations[0]


def _log_level(process: ProcessConfig) -> str:
    """Commands that look once answer on standard output: nobody wants to read there how they got on."""
    return process.log_level if process.command in _ROLES and not process.dry_run else "error"


# --- roles -------------------------------------------------------------------------------------------------


def _run(process: ProcessConfig, migrations: Migrations) -> int:
    migration = _one(process, migrations)
    from pipeline.commands import opening, preflight

    prepared, tables, stream = preflight.prepare(process, migration)
    if process.dry_run:
        print(opening.plan(process, prepared, tables, stream))
        return 0
    return _supervise(process, prepared, (tables, stream))


def _role(process: ProcessConfig, migrations: Migrations) -> int:
    migration = _one(process, migrations)
    from pipeline.commands import preflight

    return _supervise(process, preflight.prepare(process, migration)[0])


def _monitor(process: ProcessConfig, migrations: Migrations) -> int:
    migration = _one(process, migrations)
    from pipeline import supervisor
    from pipeline.commands import opening, preflight

    preflight.await_store(process, migration)
    opening.say_notes(process, migration)
    return supervisor.run(process, (migration,), _ROLES["monitor"])


def _supervise(
    process: ProcessConfig, migration: MigrationConfig, seen: "tuple[Tables, StreamSeen] | None" = None
) -> int:
    from pipeline import supervisor
    from pipeline.commands import opening, preflight

    with _store_of(process, begin=True) as with_store:
        opening.announce(process, migration, preflight.open_store(with_store, migration), seen)
        return supervisor.run(with_store, (migration,), _ROLES[process.command])


def _compare(process: ProcessConfig, migrations: Migrations) -> int:
    migration = _one(process, migrations)
    from pipeline import supervisor
    from pipeline.commands import comparison, preflight

    prepared, tables, definitions = comparison.prepare(process, migration)
    if process.dry_run:
        print(comparison.plan_text(process, prepared, tables, definitions))
        return exit_codes.FINE
    for line in comparison.notes(prepared, definitions):
        streams.say(line)
    with _shared_store(process) as with_store:
        prepared = comparison.as_begun(with_store, prepared)
        for change in preflight.open_store(with_store, prepared).changed:
            print(f"the run's times are not those of this comparison: {change}", file=sys.stderr)
        begun = comparison.begin(with_store, prepared)
        if process.command == "comparer":
            return supervisor.run(with_store, (prepared,), _ROLES["comparer"])
        is_embedded = not process.redis_url
        watch = comparison.Watch(with_store, prepared, begun, is_embedded=is_embedded)
        return watch.finish(supervisor.run(with_store, (prepared,), _ROLES["compare"], watch.ended))


@contextlib.contextmanager
def _shared_store(process: ProcessConfig) -> Iterator[ProcessConfig]:
    """As `_store_of`, beside a run that has the embedded server too; that one serves the usual port."""
    from pipeline.store import embedded

    if process.redis_url:
        yield process
        return
    with embedded.shared(process.state_dir) as (url, beside):
        port = 0 if beside else process.metrics_port
        yield dataclasses.replace(process, redis_url=url, metrics_port=port)


@contextlib.contextmanager
def _store_of(process: ProcessConfig, *, begin: bool) -> Iterator[ProcessConfig]:
    """The configuration with a URL that leads to its store. begin: the embedded server's state may be new."""
    from pipeline.store import embedded

    if process.redis_url:
        yield process
        return
    with (embedded.running if begin else embedded.attached)(process.state_dir) as url:
        yield dataclasses.replace(process, redis_url=url)


# --- commands that look once -------------------------------------------------------------------------------


def _status(process: ProcessConfig, migrations: Migrations) -> int:
    migration = _one(process, migrations)
    if process.watch:
        from pipeline.commands import watch

        return watch.run(process, migration)
    from pipeline.commands import inspect
    from pipeline.store import StoreView

    return _look(process, migration, StoreView, lambda store: inspect.status(process, store))


def _findings(process: ProcessConfig, migrations: Migrations) -> int:
    migration = _one(process, migrations)
    from pipeline.store import KeyView, StoreView

    if process.explain is not None:
        from pipeline.commands import explain

        return _look(process, migration, KeyView, lambda store: explain.run(process, migration, store))
    from pipeline.commands import findings

    return _look(process, migration, StoreView, lambda store: findings.run(process, store))


def _gate(process: ProcessConfig, migrations: Migrations) -> int:
    migration = _one(process, migrations)
    from pipeline.commands import inspect
    from pipeline.store import StoreView

    limits = migration.gate_limits()
    return _look(process, migration, StoreView, lambda store: inspect.gate(process, limits, store))


def _report(process: ProcessConfig, migrations: Migrations) -> int:
    from pipeline.commands import report
    from pipeline.store import StoreView

    if process.facts:
        return report.of_file(process, process.facts)
    migration = _one(process, migrations)
    limits = migration.gate_limits()
    return _look(process, migration, StoreView, lambda store: report.of_state(process, limits, store))


def _plan(process: ProcessConfig, migrations: Migrations) -> int:
    migration = _one(process, migrations)
    from pipeline.commands import plan

    return plan.run(process, migration.max_rcu)


def _mark(process: ProcessConfig, migrations: Migrations) -> int:
    migration = _one(process, migrations)
    from pipeline.commands import inspect
    from pipeline.store import MarkStore

    return _look(process, migration, MarkStore, lambda store: inspect.mark(process, store))


def _look(
    process: ProcessConfig, migration: MigrationConfig, kind: "type[View]", show: "Callable[[View], int]"
) -> int:
    """Show something of the migration, which is opened as `kind`."""
    from pipeline.commands import inspect

    with (
        _store_of(process, begin=False) as with_store,
        contextlib.closing(inspect.begun(with_store, migration, kind)) as store,
    ):
        return show(store)


def _doctor(process: ProcessConfig, migrations: Migrations) -> int:
    migration = _one(process, migrations)
    from pipeline.commands import doctor

    return doctor.run(process, migration)


def _show_config(loaded: Loaded) -> int:
    from pipeline.commands import settings

    return settings.show(loaded)


# --- the outside world, for trying things out --------------------------------------------------------------


def _demo(argv: list[str]) -> int:
    from importlib.util import find_spec

    from pipeline.demo.run import main as demo

    if find_spec("moto") is None:
        raise ConfigurationError(
            "the demo's DynamoDB is not installed", "install .[demo], or use `make demo`"
        )
    return demo(argv)


def _datagen(argv: list[str]) -> int:
    from pipeline.demo.datagen import main as datagen

    return datagen(argv)


def _datadel(argv: list[str]) -> int:
    from pipeline.demo.datadel import main as datadel

    return datadel(argv)


_PLAYERS: dict[str, Callable[[list[str]], int]] = {"demo": _demo, "datagen": _datagen, "datadel": _datadel}
_COMMANDS: dict[str, Callable[[ProcessConfig, Migrations], int]] = {
    "run": _run,
    "reader": _role,
    "validator": _role,
    "comparer": _compare,
    "compare": _compare,
    "monitor": _monitor,
    "status": _status,
    "findings": _findings,
    "gate": _gate,
    "report": _report,
    "plan": _plan,
    "mark": _mark,
    "doctor": _doctor,
}


if __name__ == "__main__":
    sys.exit(main())

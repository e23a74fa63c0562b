"""The command line: which command, its configuration, what it prints when it fails, its exit code.

Reads: arguments, environment. Writes: standard output (results), standard error (messages). What an operator
can put right gets a message without a traceback.

Each command imports only what it needs: boto3 alone costs half a second, and `--help` should not wait for it.
"""

import contextlib
import dataclasses
import functools
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
    from pipeline.both_tables import Apart
    from pipeline.commands.comparison import Ended, Say
    from pipeline.commands.inspect import View
    from pipeline.commands.preparing import Looked

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
    if process.tables:
        return _tables(loaded)
    migrations = loaded.migrations
    if process.live_prices and command in _PRICED:
        from pipeline.prices import with_live_prices

        migrations = with_live_prices(migrations)
    return _COMMANDS[command](process, migrations)


def _one(process: ProcessConfig, migrations: Migrations, option: str = "") -> MigrationConfig:
    """The only migration, for what cannot speak of several. option: that asks for it. Raises UsageError."""
    if len(migrations) > 1:
        raise UsageError(
            f"`{process.command}{option}` speaks of one migration, and there are {len(migrations)}",
            f"take one with --migration: {listed([one.name for one in migrations])}",
        )
    return migrations[0]


def _log_level(process: ProcessConfig) -> str:
    """Commands that look once answer on standard output: nobody wants to read there how they got on."""
    return process.log_level if process.command in _ROLES and not process.dry_run else "error"


# --- roles -------------------------------------------------------------------------------------------------


def _run(process: ProcessConfig, migrations: Migrations) -> int:
    from pipeline.commands import opening, preparing

    looked = preparing.prepare(process, migrations)
    if process.dry_run:
        print(opening.plans(process, looked))
        return exit_codes.CONFIGURATION if any(one.error for one in looked) else exit_codes.FINE
    return _supervise(process, looked)


def _role(process: ProcessConfig, migrations: Migrations) -> int:
    from pipeline.commands import preparing

    return _supervise(process, preparing.prepare(process, migrations))


def _monitor(process: ProcessConfig, migrations: Migrations) -> int:
    from pipeline import supervisor
    from pipeline.commands import opening, preparing

    preparing.check_any(preparing.await_store(process, migrations))
    opening.say_notes(process, migrations)
    return supervisor.run(process, migrations, _ROLES["monitor"])


def _supervise(process: ProcessConfig, looked: "Sequence[Looked]") -> int:
    """Run the roles for all; those that are refused now are tried again by them."""
    from pipeline import metrics, supervisor
    from pipeline.commands import opening, preparing

    preparing.check_any(looked)
    with _store_of(process, begin=True) as with_store:
        # Before a state is begun that nobody would watch.
        metrics.check_port(process.bind_address, process.metrics_port)
        opened = preparing.open_store(with_store, looked)
        preparing.check_any(opened)
        opening.announce_all(process, opened)
        return supervisor.run(with_store, tuple(one.migration for one in opened), _ROLES[process.command])


def _compare(process: ProcessConfig, migrations: Migrations) -> int:
    from pipeline.both_tables import Apart
    from pipeline.commands import comparisons

    apart = Apart()
    if process.dry_run and len(migrations) > 1:
        return comparisons.plans(process, migrations, functools.partial(_comparison_plan, apart))
    if process.dry_run:
        print(_comparison_plan(apart, process, migrations[0]))
        return exit_codes.FINE
    if len(migrations) > 1:
        return comparisons.run(process, migrations, functools.partial(_compared, apart))
    return _compared(apart, process, migrations[0], streams.say).say(process)


def _comparison_plan(apart: "Apart", process: ProcessConfig, migration: MigrationConfig) -> str:
    from pipeline.commands import comparison

    completed, tables, definitions = comparison.prepare(process, migration)
    apart.add(migration, tables)
    return comparison.plan_text(process, completed, tables, definitions)


def _compared(apart: "Apart", process: ProcessConfig, migration: MigrationConfig, say: "Say") -> "Ended":
    """Begin the comparison, or go on with it, to its end. apart: knows those that were compared before it."""
    from pipeline import supervisor
    from pipeline.commands import comparison

    prepared, tables, definitions = comparison.prepare(process, migration)
    apart.add(migration, tables)
    with _shared_store(process) as with_store:
        prepared, begun = comparison.begun(with_store, prepared, definitions, say)
        watch = comparison.Watch(with_store, prepared, begun, is_embedded=not process.redis_url)
        return watch.finish(supervisor.run(with_store, (prepared,), _ROLES["compare"], watch.ended))


def _comparer(process: ProcessConfig, migrations: Migrations) -> int:
    from pipeline import supervisor
    from pipeline.commands import comparison, comparisons

    if process.dry_run:
        return _compare(process, migrations)

    def joined(migration: MigrationConfig, say: "Say") -> MigrationConfig:
        prepared, _, definitions = comparison.prepare(process, migration)
        return comparison.begun(process, prepared, definitions, say)[0]

    return supervisor.run(process, comparisons.joined(migrations, joined), _ROLES["comparer"])


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
    if process.watch:
        from pipeline.commands import watch

        return watch.run(process, migrations)
    if len(migrations) > 1:
        return _several(process, migrations)
    [migration] = migrations
    from pipeline.commands import inspect
    from pipeline.store import StoreView

    return _look(process, migration, StoreView, lambda store: inspect.status(process, store))


def _findings(process: ProcessConfig, migrations: Migrations) -> int:
    if len(migrations) > 1 and process.explain is None:
        return _several(process, migrations)
    from pipeline.store import KeyView, StoreView

    migration = _one(process, migrations, " --explain")
    if process.explain is not None:
        from pipeline.commands import explain

        return _look(process, migration, KeyView, lambda store: explain.run(process, migration, store))
    from pipeline.commands import findings

    return _look(process, migration, StoreView, lambda store: findings.run(process, store))


def _gate(process: ProcessConfig, migrations: Migrations) -> int:
    if len(migrations) > 1:
        return _several(process, migrations)
    [migration] = migrations
    from pipeline.commands import inspect
    from pipeline.store import StoreView

    limits = migration.gate_limits()
    return _look(process, migration, StoreView, lambda store: inspect.gate(process, limits, store))


def _report(process: ProcessConfig, migrations: Migrations) -> int:
    from pipeline.commands import report
    from pipeline.store import StoreView

    if process.facts:
        return report.of_file(process, process.facts, migrations[0].name if len(migrations) == 1 else "")
    if len(migrations) > 1:
        return _several(process, migrations)
    [migration] = migrations
    limits = migration.gate_limits()
    return _look(process, migration, StoreView, lambda store: report.of_state(process, limits, store))


def _plan(process: ProcessConfig, migrations: Migrations) -> int:
    from pipeline.commands import plan

    if len({(one.max_rcu, one.terms()) for one in migrations}) > 1:
        return plan.run(process, _one(process, migrations))
    return plan.run(process, migrations[0])


def _mark(process: ProcessConfig, migrations: Migrations) -> int:
    if len(migrations) > 1:
        return _several(process, migrations)
    [migration] = migrations
    from pipeline.commands import inspect
    from pipeline.store import MarkStore

    return _look(process, migration, MarkStore, lambda store: inspect.mark(process, store))


def _several(process: ProcessConfig, migrations: Migrations) -> int:
    """The command of that name, over all of them."""
    from pipeline.commands import several

    with _store_of(process, begin=False) as with_store:
        return several.COMMANDS[process.command](with_store, migrations)


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
    from pipeline.commands import doctor

    return doctor.run(process, migrations)


def _tables(loaded: Loaded) -> int:
    """`doctor --tables`."""
    from pipeline.commands import pairs

    return pairs.examine_all(loaded)


def _show_config(loaded: Loaded) -> int:
    if loaded.process.write is not None:
        from pipeline.commands import making

        return making.write(loaded)
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
#: Where --live-prices asks for them: what a command does not show, nobody need ask for.
_PRICED = {"run", "reader", "comparer", "compare", "monitor", "status", "gate", "report", "plan"}
_COMMANDS: dict[str, Callable[[ProcessConfig, Migrations], int]] = {
    "run": _run,
    "reader": _role,
    "validator": _role,
    "comparer": _comparer,
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

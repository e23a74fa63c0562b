"""The command line: which command, its configuration, what it prints when it fails, its exit code.

Reads: arguments, environment. Writes: standard output (results), standard error (messages). Never: a
traceback for what an operator can mend.

Each command imports only what it needs: boto3 alone costs half a second, and `--help` should not wait for it.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.config import PROGRAM, Config, Effective, load, split_command
from pipeline.errors import MonitorError
from pipeline.process import logs

if TYPE_CHECKING:
    from pipeline.commands.inspect import View

INTERRUPTED = 130
#: The reader of our output went away (`findings | head`): what a shell reports for SIGPIPE.
BROKEN_PIPE = 141

_ROLES = {
    "run": ("reader", "validator", "monitor"),
    "reader": ("reader",),
    "validator": ("validator",),
    "monitor": ("monitor",),
}


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run one command; its exit code. --help and --version leave by SystemExit(0)."""
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv), environment or os.environ)
    except MonitorError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more at exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _dispatch(argv: list[str], environment: Mapping[str, str]) -> int:
    command, rest = split_command(argv)
    if command in _PLAYERS:  # they play the outside world, and have options of their own
        return _PLAYERS[command](list(rest))
    config, effective = load(argv, environment)
    logs.configure(config.log_format, _log_level(config))
    if command == "config":
        return _show_config(config, effective)
    return _COMMANDS[command](config)


def _log_level(config: Config) -> str:
    """Commands that look once answer on standard output: nobody wants to read there how they got on."""
    return config.log_level if config.command in _ROLES and not config.dry_run else "error"


# --- roles -------------------------------------------------------------------------------------------------


def _run(config: Config) -> int:
    from pipeline.commands import doctor, preflight

    resolved, tables, stream = preflight.prepare(config)
    if config.dry_run:
        print(doctor.plan(resolved, tables, stream))
        return 0
    return _supervise(resolved)


def _role(config: Config) -> int:
    from pipeline.commands import preflight

    return _supervise(preflight.prepare(config)[0])


def _monitor(config: Config) -> int:
    from pipeline import supervisor
    from pipeline.commands import preflight

    preflight.check_store(config)
    return supervisor.run(config, _ROLES["monitor"])


def _supervise(config: Config) -> int:
    from pipeline import supervisor
    from pipeline.commands import preflight

    with _store_of(config, begin=True) as with_store:
        preflight.open_store(with_store)
        return supervisor.run(with_store, _ROLES[config.command])


@contextlib.contextmanager
def _store_of(config: Config, *, begin: bool) -> Iterator[Config]:
    """The configuration with a URL that leads to its store. begin: the embedded server's state may be new."""
    from pipeline.store import embedded

    if config.redis_url:
        yield config
        return
    with (embedded.running if begin else embedded.attached)(config.state_dir) as url:
        yield dataclasses.replace(config, redis_url=url)


# --- commands that look once -------------------------------------------------------------------------------


def _status(config: Config) -> int:
    from pipeline.commands import inspect
    from pipeline.store import StoreView

    return _look(config, inspect.status, StoreView)


def _findings(config: Config) -> int:
    from pipeline.commands import inspect
    from pipeline.store import StoreView

    return _look(config, inspect.findings, StoreView)


def _gate(config: Config) -> int:
    from pipeline.commands import inspect
    from pipeline.store import StoreView

    return _look(config, inspect.gate, StoreView)


def _mark(config: Config) -> int:
    from pipeline.commands import inspect
    from pipeline.store import MarkStore

    return _look(config, inspect.mark, MarkStore)


def _look(config: Config, show: "Callable[[Config, View], int]", kind: "type[View]") -> int:
    """Show something of the migration, which is opened as `kind`."""
    from pipeline.commands import inspect

    with (
        _store_of(config, begin=False) as with_store,
        contextlib.closing(inspect.begun(with_store, kind)) as store,
    ):
        return show(with_store, store)


def _doctor(config: Config) -> int:
    from pipeline.commands import doctor

    return doctor.run(config)


def _show_config(config: Config, effective: Sequence[Effective]) -> int:
    import msgspec

    from pipeline.config.parsers import duration_text

    def shown(one: Effective) -> object:
        return (
            duration_text(one.value) if isinstance(one.value, int) and one.option.is_duration else one.value
        )

    if config.json:
        options = {one.option.name: {"value": shown(one), "source": one.source} for one in effective}
        print(msgspec.json.format(msgspec.json.encode(options)).decode())
        return 0
    for one in effective:
        value = shown(one)
        text = ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
        print(f"{one.option.name:<22} {text:<40} {one.source}".rstrip())
    return 0


# --- the outside world, for trying things out --------------------------------------------------------------


def _demo(argv: list[str]) -> int:
    from pipeline.demo.run import main as demo

    return demo(argv)


def _datagen(argv: list[str]) -> int:
    from pipeline.demo.datagen import main as datagen

    return datagen(argv)


def _datadel(argv: list[str]) -> int:
    from pipeline.demo.datadel import main as datadel

    return datadel(argv)


_PLAYERS: dict[str, Callable[[list[str]], int]] = {"demo": _demo, "datagen": _datagen, "datadel": _datadel}
_COMMANDS: dict[str, Callable[[Config], int]] = {
    "run": _run,
    "reader": _role,
    "validator": _role,
    "monitor": _monitor,
    "status": _status,
    "findings": _findings,
    "gate": _gate,
    "mark": _mark,
    "doctor": _doctor,
}


if __name__ == "__main__":
    sys.exit(main())

"""Several migrations before a start: each is looked at by itself, and one that is refused stops no other.

Reads: what `preflight` reads, for each. Writes: the settings of those that can be begun, standard error.
A refused one is handed to the roles as it was given, and they try it again.

One migration alone is refused as ever, with its own message and exit code.
"""

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from pipeline.both_tables import Apart, Tables
from pipeline.commands import preflight
from pipeline.commands.preflight import Opened, StreamSeen
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.quoting import MESSAGE_CHARACTERS, quoted
from pipeline.errors import ConfigurationError, MonitorError, StoreNotReady
from pipeline.process import streams
from pipeline.sides import Connections

#: Migrations that are looked at together: each waits for AWS most of the time.
THREADS = 8


class Looked(msgspec.Struct, frozen=True):
    """One migration after the looks at it. error: what it is refused for; then it is as it was given.

    seen: its tables and stream, where they were looked at. opened: its state, once that was begun.
    """

    migration: MigrationConfig
    error: MonitorError | None = None
    seen: tuple[Tables, StreamSeen] | None = None
    opened: Opened | None = None


Look = Callable[[Looked], Looked]


def prepare(process: ProcessConfig, migrations: Sequence[MigrationConfig]) -> list[Looked]:
    """See the tables and the stream of each. Raises ConfigurationError where two of them have the same."""
    reached = Connections().connect

    def look(one: Looked) -> Looked:
        completed, tables, stream = preflight.prepare(process, one.migration, reached)
        return Looked(completed, seen=(tables, stream))

    looked = _each([Looked(one) for one in migrations], look)
    apart = Apart()
    for one in looked:
        if one.seen is not None:
            apart.add(one.migration, one.seen[0])
    return looked


def await_store(process: ProcessConfig, migrations: Sequence[MigrationConfig]) -> list[Looked]:
    """See that the state of each can be used; waits while Redis will serve, and serves none of them yet."""
    if len(migrations) == 1:
        preflight.await_store(process, migrations[0])
        return [Looked(migrations[0])]

    def look(one: Looked) -> Looked:
        preflight.check_start(process, one.migration)
        return one

    return _served(process, [Looked(one) for one in migrations], look)


def open_store(process: ProcessConfig, looked: Sequence[Looked]) -> list[Looked]:
    """Begin or go on with each that is not refused; waits as `await_store`."""
    if len(looked) == 1:
        (one,) = looked
        return [msgspec.structs.replace(one, opened=preflight.open_store(process, one.migration))]

    def begin(one: Looked) -> Looked:
        preflight.check_start(process, one.migration)
        return msgspec.structs.replace(one, opened=preflight.open_once(process, one.migration))

    return _served(process, looked, begin)


def check_any(looked: Sequence[Looked]) -> None:
    """Raises ConfigurationError when every one is refused, after a line about each."""
    if all(one.error for one in looked):
        for one in looked:
            streams.say(quoted(f"{one.migration.name}: {one.error}", MESSAGE_CHARACTERS))
        raise ConfigurationError(
            f"none of the {len(looked)} migrations can be served", "put right what is said above of each"
        )


def _served(process: ProcessConfig, looked: Sequence[Looked], look: Look) -> list[Looked]:
    while True:
        found = _each(looked, look)
        if not all(isinstance(one.error, StoreNotReady) for one in found):
            return found
        with contextlib.suppress(ConfigurationError):  # found again, and said of whom it is
            preflight.await_store(process, found[0].migration)


def _each(looked: Sequence[Looked], look: Look) -> list[Looked]:
    """The look at each that is not refused, several at a time; one alone raises what it is refused for."""
    if len(looked) == 1:
        return [look(looked[0])]
    with ThreadPoolExecutor(min(THREADS, len(looked)), "preflight") as pool:
        return list(pool.map(lambda one: one if one.error else _tried(one, look), looked))


def _tried(one: Looked, look: Look) -> Looked:
    try:
        return look(one)
    except MonitorError as error:
        return msgspec.structs.replace(one, error=error)

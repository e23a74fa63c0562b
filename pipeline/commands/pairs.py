"""The tables of both accounts, paired by name: what a move of many tables begins from.

Reads: both sides' lists of tables, the tables' definitions. Writes: standard output. Never: the store. No
item and no record is asked for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fnmatch import fnmatchcase

import msgspec

from pipeline import both_tables
from pipeline.aws import Connection, TableInfo, read_definition, table_names
from pipeline.both_tables import Tables
from pipeline.commands import preflight
from pipeline.commands.lines import Line, checked, show
from pipeline.commands.preparing import THREADS
from pipeline.config import Loaded, MigrationConfig
from pipeline.core.comparing.definitions import Definition, compare_definitions
from pipeline.core.model import Side, StreamView
from pipeline.report.words import many
from pipeline.sides import connect

#: What matches where nothing else is asked for.
ALL = "*"


class Paired(msgspec.Struct, frozen=True):
    """Names of tables, in their order: on both sides, and on one of them only."""

    both: Sequence[str]
    alone: Mapping[Side, Sequence[str]]


def connections(migration: MigrationConfig) -> dict[Side, Connection]:
    """Both sides, reached as the options outside of all entries say."""
    return {side: preflight.asked(lambda side=side: connect(migration, side)) for side in Side}  # type: ignore[misc]


def paired(sides: Mapping[Side, Connection], pattern: str) -> Paired:
    """The tables whose names match. Raises ConfigurationError when both sides are one account."""
    found: dict[Side, set[str]] = {}
    for side, connection in sides.items():
        listing = table_names(connection)
        found[side] = {name for name in preflight.asked(listing.all) if fnmatchcase(name, pattern)}
    both = sorted(found[Side.SOURCE] & found[Side.TARGET])
    if both:
        both_tables.check_distinct(_seen(MigrationConfig(), both[0], sides))
    return Paired(both, {side: sorted(names.difference(both)) for side, names in found.items()})


def examine_all(loaded: Loaded) -> int:
    """`doctor --tables`: a line of each table that matches on either side; 0 when none failed, else 4."""
    migration = loaded.of_all or loaded.migrations[0]
    watched = Watched(loaded.migrations if loaded.of_all else None)
    pattern = loaded.process.tables or ALL
    sides: dict[Side, Connection] = {}
    found: list[Paired] = []

    def access() -> Iterator[Line]:
        sides.update(connections(migration))
        for side, connection in sides.items():
            who = preflight.asked(connection.identity)
            says = f"{who.arn or 'identity unknown'} at {who.endpoint}, region {who.region}"
            yield Line(f"{side} access", "ok", says)

    def tables() -> Iterator[Line]:
        found.append(paired(sides, pattern))
        yield _counted(found[0], pattern)

    lines = checked("access", access)
    if len(sides) == len(Side):
        lines += checked("tables", tables)
    for one in found:
        with ThreadPoolExecutor(THREADS, "doctor") as pool:
            look = _look(migration, sides, watched)
            lines += [line for each in pool.map(look, one.both) for line in each]
        lines += [_alone(side, name, watched) for side, names in one.alone.items() for name in names]
    return show(lines, as_json=loaded.process.json)


class Watched:
    """Which tables a file's migrations watch. None: there is no such file, and nothing to be said of it."""

    def __init__(self, migrations: Iterable[MigrationConfig] | None) -> None:
        self.is_known = migrations is not None
        self._by = {
            (side, one.table(side).rpartition("/")[2]): one.name for one in migrations or () for side in Side
        }

    def by(self, name: str, *sides: Side) -> str:
        """The migration that watches the table of one of these sides; "" = none."""
        return next((self._by[side, name] for side in sides if (side, name) in self._by), "")


def _look(
    migration: MigrationConfig, sides: Mapping[Side, Connection], watched: Watched
) -> Callable[[str], list[Line]]:
    def look(name: str) -> list[Line]:
        by = watched.by(name, *Side)
        more = f"`doctor --migration {by}`" if by else f"`doctor --target-table {name}`"
        lines = checked(f"table {name}", lambda: _pair(migration, name, sides, more))
        if watched.is_known and not by:
            remedy = f"write `{name}: {{}}` below `migrations:`, if it is to be watched"
            lines.append(Line(f"table {name}", "warn", "no migration of the file watches it", remedy))
        return lines

    return look


def _pair(
    migration: MigrationConfig, name: str, sides: Mapping[Side, Connection], more: str
) -> Iterator[Line]:
    """more: the command that says more."""
    tables = _seen(migration, name, sides)
    both_tables.check_keys(tables)
    both_tables.check_key_flags(migration, tables.source)
    preflight.enabled_stream(migration, tables.of(migration.origin))
    items = " and ".join(f"about {tables.of(side).item_count:,} items at the {side}" for side in Side)
    doubts = list(_doubts(migration, tables, sides))
    yield Line(
        f"table {name}",
        "warn" if doubts else "ok",
        "; ".join([both_tables.describe_keys(tables.source), items, *(doubts or ["defined alike"])]),
        f"{more} says more" if doubts else "",
    )


def _doubts(migration: MigrationConfig, tables: Tables, sides: Mapping[Side, Connection]) -> Iterator[str]:
    for side in Side:
        if (status := tables.of(side).status) != "ACTIVE":
            yield f"the {side} table is {status}"
    view = tables.of(migration.origin).view
    if view is not StreamView.NEW_AND_OLD_IMAGES:
        yield f"its stream shows {view or 'no view'}, not NEW_AND_OLD_IMAGES"
    source, target = (_definition(sides[side], tables.of(side)) for side in Side)
    found = compare_definitions(source, target)
    # The replica of a table with a stream need not have one.
    if differing := [one.what for one in found.differences if one.what != "stream"]:
        yield f"definitions differ: {', '.join(differing)}"
    if found.unknown:
        yield f"not compared, as it could not be asked: {', '.join(found.unknown)}"


def _definition(connection: Connection, table: TableInfo) -> Definition:
    return preflight.asked(lambda: read_definition(connection, table.name))


def _seen(migration: MigrationConfig, name: str, sides: Mapping[Side, Connection]) -> Tables:
    of_it = replace(migration, source_table=name, target_table=name)
    return preflight.see_tables(of_it, sides[Side.SOURCE], sides[Side.TARGET])


def _alone(side: Side, name: str, watched: Watched) -> Line:
    if by := watched.by(name, side):
        return Line(f"table {name}", "ok", f"on the {side} only, where migration {by} watches it")
    says = f"on the {side} only"
    if side is Side.SOURCE:
        remedy = "make its copy; one of another name takes an entry with its `source-table`; or leave it out"
    else:
        remedy = "if it is the copy of one of another name, its entry takes that as `source-table`"
    return Line(f"table {name}", "warn", says, remedy)


def _counted(found: Paired, pattern: str) -> Line:
    counts = ", ".join(f"{len(names):,} on the {side} only" for side, names in found.alone.items())
    says = f"{many(len(found.both), 'table')} on both sides, {counts}, of those that match {pattern}"
    if found.both:
        return Line("tables", "ok", says)
    return Line("tables", "fail", says, "check --tables, the profiles and the regions")

"""Both tables of a migration: what they are, that they fit together, and the migration completed by that.

Reads: both tables' descriptions. Writes: nothing. Never: the store. Whoever begins a migration looks
once: the commands before they start roles, and a role that takes up one that could not be looked at then.
"""

import dataclasses

import msgspec

from pipeline.aws import Connection, TableInfo, describe_table, one_service
from pipeline.config import MigrationConfig
from pipeline.core.model import Side
from pipeline.errors import ConfigurationError


class Tables(msgspec.Struct, frozen=True):
    """Both tables and the endpoints they were found at."""

    source: TableInfo
    target: TableInfo
    source_endpoint: str
    target_endpoint: str

    def of(self, side: Side) -> TableInfo:
        return self.source if side is Side.SOURCE else self.target

    def endpoint(self, side: Side) -> str:
        return self.source_endpoint if side is Side.SOURCE else self.target_endpoint


class Apart:
    """Finds two migrations of the same tables where only the tables' descriptions show it: one entry gives a
    name and another the ARN, or two profiles are of one account. One of them means another table, which
    nobody would look at.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[MigrationConfig, Tables]] = []

    def add(self, migration: MigrationConfig, tables: Tables) -> None:
        """Raises ConfigurationError when an earlier one watches these tables."""
        for other, its in self._seen:
            if other.verify_on is migration.verify_on and all(_is_one(tables, its, side) for side in Side):
                raise same(other.name, migration.name, tables.source.arn, tables.target.arn)
        self._seen.append((migration, tables))


def same(one: str, other: str, source: str, target: str) -> ConfigurationError:
    """Two migrations of one pair of tables."""
    return ConfigurationError(
        f"migrations {one} and {other} watch the same tables ({source} and {target})",
        "give each its own source-table and target-table, or take one of them out",
    )


def _is_one(tables: Tables, others: Tables, side: Side) -> bool:
    """Whether the table of that side is the other ones' table of that side."""
    alike = tables.of(side).arn == others.of(side).arn
    return alike and one_service(tables.endpoint(side), others.endpoint(side))


def complete(migration: MigrationConfig, source: Connection, target: Connection) -> MigrationConfig:
    """The migration completed by its tables; itself where it is complete already.

    Raises ConfigurationError for tables that do not fit, and the AwsErrors.
    """
    if is_complete(migration):
        return migration
    tables = Tables(
        describe_table(source, migration.source_table),
        describe_table(target, migration.target_table),
        source.endpoint,
        target.endpoint,
    )
    check_tables(migration, tables)
    return completed(migration, tables)


def is_complete(migration: MigrationConfig) -> bool:
    """Whether its tables have been seen: without that, its state's settings are not known."""
    return bool(migration.source_arn and migration.target_arn and migration.partition_type)


def completed(migration: MigrationConfig, tables: Tables) -> MigrationConfig:
    """The migration with what its tables say: keys, their types, and the tables' ARNs."""
    schema = tables.of(migration.origin).schema
    return dataclasses.replace(
        migration,
        partition_key=schema.partition_key,
        partition_type=schema.partition_type,
        sort_key=schema.sort_key,
        sort_type=schema.sort_type or "",
        source_arn=tables.source.arn,
        target_arn=tables.target.arn,
    )


def check_tables(migration: MigrationConfig, tables: Tables) -> None:
    """Raises ConfigurationError for one table on both sides, and for keys that differ."""
    check_distinct(tables)
    check_keys(tables)
    check_key_flags(migration, tables.source)


def check_distinct(tables: Tables) -> None:
    """Raises ConfigurationError when source and target are one table."""
    if tables.source.arn == tables.target.arn and one_service(tables.source_endpoint, tables.target_endpoint):
        raise ConfigurationError(
            f"source and target are the same table ({tables.source.arn} at {tables.source_endpoint}), "
            "which always equals itself",
            "give another --source-profile, --source-region or --source-table",
        )


def check_keys(tables: Tables) -> None:
    """Raises ConfigurationError when the tables' keys differ: no key could be looked up."""
    if tables.source.schema != tables.target.schema:
        raise ConfigurationError(
            f"the key schemas differ: source {describe_keys(tables.source)}, "
            f"target {describe_keys(tables.target)}",
            "check --source-table and --target-table",
        )


def check_key_flags(migration: MigrationConfig, table: TableInfo) -> None:
    """Raises ConfigurationError when --partition-key or --sort-key is not what the table has."""
    schema = table.schema
    for flag, given, real in (
        ("--partition-key", migration.partition_key, schema.partition_key),
        ("--sort-key", migration.sort_key, schema.sort_key),
    ):
        if given is not None and given != real:
            raise ConfigurationError(
                f"{flag} is {given}, but table {table.name} has {describe_keys(table)}",
                f"write {flag} {real}" if real else "leave it out",
            )


def describe_keys(table: TableInfo) -> str:
    """The table's keys and their types in words."""
    schema = table.schema
    partition = f"partition key {schema.partition_key} ({schema.partition_type})"
    return (
        f"{partition}, sort key {schema.sort_key} ({schema.sort_type})"
        if schema.sort_key
        else f"{partition} alone"
    )

"""The configuration: what the operator gave, checked, as frozen values: the process's and each migration's.

Reads: the command line, `DDBMM_…` variables, the YAML file of `--config`; in this order of precedence (in the
file, a migration's own entry comes first), then the defaults. Writes: nothing. Never: AWS, the store. What an
option means is said in `options`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from pipeline.config.all_options import OPTIONS
from pipeline.config.assembling import migration_of, plain
from pipeline.config.declaration import Option, options_of
from pipeline.config.given import (
    check_environment,
    check_words,
    did_you_mean,
    refuse_command,
    refuse_words,
)
from pipeline.config.headings import COMMANDS
from pipeline.config.options import MigrationConfig, ProcessConfig
from pipeline.config.options_file import OF_ONE_TABLE
from pipeline.config.parser import PROGRAM, Parser, parser_of
from pipeline.core.model import Side
from pipeline.core.quoting import quoted
from pipeline.errors import ConfigurationError, UsageError

__all__ = ["PROGRAM", "Effective", "Loaded", "load", "split_command"]

#: Commands that look at AWS, and so need a table.
_NEED_TABLE = ("run", "reader", "validator", "comparer", "compare", "doctor")
#: Commands that look at the state alone, and so need its name.
_NEED_NAME = ("monitor", "status", "findings", "gate", "report", "mark")
#: Roles of several processes that find each other through one Redis.
_NEED_REDIS = ("reader", "validator", "comparer", "monitor")
#: Names that a message lists before it only says how many there are.
_MOST_NAMES = 40


@dataclass(frozen=True)
class Effective:
    """One option's value and where it came from, as `config` shows them. is_given: it is not the default."""

    option: Option
    value: object
    source: str
    is_given: bool


@dataclass(frozen=True)
class Loaded:
    """What `load` made of everything that was given.

    migrations: at least one, and only the one that --migration names, if it does. effective: of each of them,
    in their order, every option. of_all: what holds outside of all entries, None where the file has none.
    """

    process: ProcessConfig
    migrations: tuple[MigrationConfig, ...]
    effective: tuple[Sequence[Effective], ...]
    of_all: MigrationConfig | None = None


def load(argv: Sequence[str], environment: Mapping[str, str]) -> Loaded:
    """The configuration, and each value's origin.

    Raises UsageError for what the command line or a value says wrong, ConfigurationError for the file;
    SystemExit(0) after --help or --version.
    """
    command, rest = split_command(argv)
    parser = parser_of(command)
    given = {name: text for name, text in environment.items() if text}  # compose passes unset ones as ""
    check_environment(given, OPTIONS)
    check_words(rest, OPTIONS)
    parser.words, parser.environment = rest, given
    values = _parsed(parser)
    process = ProcessConfig(
        command=command,
        milestone=values.get("milestone", ""),
        of_file=parser.file.entries is not None and values["name"] is None,
        **plain(ProcessConfig, values),
    )
    _check_tables(parser, process, values)
    made, effective = [], []
    for name in _chosen(parser, values):
        parser.file.chosen = name
        own = _parsed(parser) if name else values
        migration = migration_of(own, name)
        _check_complete(process, migration, parser.file.line_of(name) if name else "")
        made.append(migration)
        effective.append(_effective(parser, own, process, migration))
    _check_apart(parser, made)
    of_all = migration_of(values) if parser.file.entries else None
    return Loaded(process, tuple(made), tuple(effective), of_all)


def _parsed(parser: Parser) -> dict[str, Any]:
    """Every option's value, None where nothing was given."""
    namespace, unknown = parser.parse_known_args(list(parser.words), env_vars=dict(parser.environment))
    if unknown:
        refuse_words(unknown, OPTIONS, COMMANDS)
    values: dict[str, Any] = vars(namespace)
    return values


def split_command(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The command word and the rest. Raises UsageError for a word that is no command."""
    if not argv or argv[0].startswith("-"):
        return "run", argv
    if argv[0] not in COMMANDS:
        refuse_command(argv[0], list(COMMANDS))
    return argv[0], argv[1:]


# --- which migrations --------------------------------------------------------------------------------------


def _chosen(parser: Parser, values: Mapping[str, Any]) -> list[str]:
    """The entries of the file that are asked for; one without a name where it has none."""
    entries, asked = parser.file.entries, values["name"]
    if entries is None:
        return [""]
    if asked and asked not in entries:
        raise UsageError(
            f"{parser.file.path} has no migration {quoted(asked, 60)}",
            " ".join(filter(None, (did_you_mean(asked, entries, ""), f"it has {listed(entries)}"))),
        )
    chosen = [asked] if asked else list(entries)
    for option in OPTIONS if len(chosen) > 1 else ():
        if option.name in OF_ONE_TABLE and values[option.field] is not None:
            raise UsageError(
                f"{parser.place(option)} would be that of every migration",
                f"take one with --migration: {parser.file.path} has {listed(entries)}",
            )
    return chosen


def listed(names: Sequence[str] | Mapping[str, object]) -> str:
    """Names in words, the first of them where there are many."""
    shown = [quoted(name, 60) for name in names][:_MOST_NAMES]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _check_apart(parser: Parser, migrations: Sequence[MigrationConfig]) -> None:
    """Raises ConfigurationError for two that watch the same tables: one of them names a wrong table, and the
    table that was meant would be looked at by nobody.
    """
    seen: dict[object, str] = {}
    for one in migrations:
        tables = (one.source, one.source_table, one.target, one.target_table, one.verify_on)
        other = seen.setdefault(tables, one.name)
        if other != one.name:
            raise ConfigurationError(
                f"{parser.file.line_of(one.name)}: migrations {other} and {one.name} watch the same tables",
                "give each its own source-table and target-table, or take one of them out",
            )


# --- what does not go together -----------------------------------------------------------------------------


def _check_tables(parser: Parser, process: ProcessConfig, values: Mapping[str, Any]) -> None:
    """Raises UsageError for --tables and --write beside what they have nothing to do with."""
    for flag, given, commands in (
        ("--tables", process.tables, ("doctor", "config")),
        ("--write", process.write, ("config",)),
    ):
        if given is None:
            continue
        if process.command not in commands:
            raise UsageError(
                f"{flag} says nothing to `{process.command}`",
                "it is for `doctor` and `config --write FILE`, which makes a file that names every table",
            )
        for option in OPTIONS:
            if option.name in ("migration", *OF_ONE_TABLE) and values[option.field] is not None:
                raise UsageError(f"{parser.place(option)} is of one, and {flag} of all", "give one of both")


def _check_complete(process: ProcessConfig, migration: MigrationConfig, entry: str) -> None:
    """entry: where the migration's own stands in the file, if it has one."""
    try:
        _check_named(process, migration)
        _check_together(migration)
    except UsageError as error:
        if not entry:
            raise
        raise UsageError(f"{entry}: migration {migration.name}: {error.problem}", error.remedy) from None
    if process.command in _NEED_REDIS and not process.redis_url:
        raise UsageError("roles that run apart share one Redis", f"give {process.command} its --redis-url")


def _check_named(process: ProcessConfig, migration: MigrationConfig) -> None:
    looks_at_tables = process.command in _NEED_TABLE or (
        process.command == "findings" and process.explain is not None
    )
    if looks_at_tables and not migration.target_table and not process.tables:
        raise UsageError(
            "no table is named", "give --target-table (and --source-table where its name differs)"
        )
    if process.command in _NEED_NAME and not migration.name and not process.facts:
        raise UsageError("no migration is named", "give --migration or --target-table")


def _check_together(migration: MigrationConfig) -> None:
    if migration.is_adaptive and migration.verify_on is Side.SOURCE:
        raise UsageError(
            "--converge-within auto cannot follow the lag with --verify-on source: it is not measured there",
            "give --converge-within a duration",
        )
    for side in (migration.source, migration.target):
        if side.external_id and not side.role_arn:
            raise UsageError(
                "an external id serves a role", "give --source-role-arn or --target-role-arn too"
            )


# --- where values came from --------------------------------------------------------------------------------


def _effective(
    parser: Parser, values: Mapping[str, Any], process: ProcessConfig, migration: MigrationConfig
) -> list[Effective]:
    sources = _sources(parser)
    held = {
        option.field: attrgetter(option.field)(config)
        for config in (process, migration)
        for option in options_of(type(config))
    }
    return [_shown(option, held[option.field], values, sources.get(option.field)) for option in OPTIONS]


def _sources(parser: Parser) -> dict[str, str]:
    """Where each value came from that is not from the command line, by its field; "" = the default."""
    sources: dict[str, str] = {}
    for source, settings in parser.get_source_to_settings_dict().items():
        label = {"environment_variables": "environment", "defaults": ""}.get(source.partition("|")[0])
        for name, (action, _) in settings.items():
            if action is not None:
                sources[action.dest] = parser.file.source(name) if label is None else label
    if parser.file.chosen:
        entry = parser.file.source("")
        sources = {"target_table": entry} | sources | {"name": entry}
    return sources


def _shown(option: Option, value: object, values: Mapping[str, Any], source: str | None) -> Effective:
    """The value as it may be shown, and where it came from."""
    shown = "(set)" if option.secret and value else value
    is_unset = values[option.field] is None or values[option.field] is False  # 0 is a value
    if source == "" or (source is None and is_unset):
        otherwise = f"default: {option.otherwise}" if option.otherwise else "default"
        return Effective(option, shown, otherwise, is_given=False)
    return Effective(option, shown, source or "command line", is_given=True)

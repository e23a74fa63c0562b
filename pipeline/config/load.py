"""The configuration: what the operator gave, checked, as two frozen values.

Reads: the command line, `DDBMM_…` variables, the YAML file of `--config`; in this order of precedence, then
the defaults. Writes: nothing. Never: AWS, the store. What an option means is said in `options`.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, NoReturn

import configargparse

from pipeline.config import yaml_file
from pipeline.config.declaration import Option, options_of
from pipeline.config.given import (
    SWITCH_WORDS,
    check_environment,
    check_words,
    did_you_mean,
    listing,
    refuse_command,
    refuse_words,
)
from pipeline.config.options import COMMANDS, GROUPS, OPTIONS, MigrationConfig, ProcessConfig
from pipeline.config.yaml_file import Entry
from pipeline.core.model import MARKS, Side, SideConfig
from pipeline.core.quoting import masked, quoted
from pipeline.errors import ConfigurationError, UsageError

PROGRAM = "dynamodb-migration-monitor"
CONFIG_VARIABLE = "DDBMM_CONFIG"
#: argparse repeats what stands behind a switch.
_EXPLICIT = re.compile(r"ignored explicit argument .*", re.DOTALL)
#: Commands that look at AWS, and so need a table.
_NEED_TABLE = ("run", "reader", "validator", "comparer", "compare", "doctor")
#: Commands that look at the state alone, and so need its name.
_NEED_NAME = ("monitor", "status", "findings", "gate", "report", "mark")
#: Roles of several processes that find each other through one Redis.
_NEED_REDIS = ("reader", "validator", "comparer", "monitor")
#: Which part of an ARN is the region.
_REGION_IN_ARN = 3


@dataclass(frozen=True)
class Effective:
    """One option's value and where it came from, as `config` shows them."""

    option: Option
    value: object
    source: str


@dataclass(frozen=True)
class Loaded:
    """What `load` made of everything that was given."""

    process: ProcessConfig
    migration: MigrationConfig
    effective: Sequence[Effective]


def load(argv: Sequence[str], environment: Mapping[str, str]) -> Loaded:
    """The configuration, and each value's origin.

    Raises UsageError for what the command line or a value says wrong, ConfigurationError for the file;
    SystemExit(0) after --help or --version.
    """
    command, rest = split_command(argv)
    parser = _parser(command)
    given = {name: text for name, text in environment.items() if text}  # compose passes unset ones as ""
    check_environment(given, OPTIONS)
    check_words(rest, OPTIONS)
    parser.words, parser.environment = rest, given
    namespace, unknown = parser.parse_known_args(list(rest), env_vars=given)
    if unknown:
        refuse_words(unknown, OPTIONS, COMMANDS)
    values = vars(namespace)
    process = ProcessConfig(
        command=command, milestone=values.get("milestone", ""), **_plain(ProcessConfig, values)
    )
    migration = _migration(values)
    _check_complete(process, migration)
    return Loaded(process, migration, _effective(parser, values, process, migration))


def split_command(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The command word and the rest. Raises UsageError for a word that is no command."""
    if not argv or argv[0].startswith("-"):
        return "run", argv
    if argv[0] not in COMMANDS:
        refuse_command(argv[0], list(COMMANDS))
    return argv[0], argv[1:]


def _plain(config: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a configuration that hold one option each."""
    return {option.field: _value(option, values) for option in options_of(config) if "." not in option.field}


def _value(option: Option, values: Mapping[str, Any]) -> Any:
    value = values[option.field]
    if value is None:
        return option.unset
    return tuple(value) if option.repeats else value


def _migration(values: Mapping[str, Any]) -> MigrationConfig:
    given = MigrationConfig(**_plain(MigrationConfig, values))
    source = _side("source", given.region, given.source_table, values)
    target = _side("target", given.region, given.target_table, values)
    origin = source if given.origin is Side.SOURCE else target
    return dataclasses.replace(
        given,
        name=given.name or _name_in(given.target_table),
        source_table=given.source_table or _name_in(given.target_table),
        source=source,
        target=target,
        stream=_stream_side(origin, given.stream_arn, values),
    )


def _name_in(table: str) -> str:
    """Of a table's name or its ARN, the name."""
    return table.rpartition("/")[2]


def _region_in(arn: str | None, endpoint_url: str | None) -> str | None:
    """The region that an ARN names; None for a name, and where somebody else than AWS answers: an emulator
    may write any region into its ARNs, and keeps its tables by the one that signs.
    """
    parts = (arn or "").split(":")
    if len(parts) <= _REGION_IN_ARN or parts[0] != "arn":
        return None
    region = parts[_REGION_IN_ARN]
    return region if endpoint_url is None or f".{region}." in endpoint_url else None


def _side(side: str, region: str | None, table: str, values: Mapping[str, Any]) -> SideConfig:
    prefix = f"{side}."
    own = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    own["region"] = own["region"] or region or _region_in(table, own["endpoint_url"])
    return SideConfig(side, **own)


def _stream_side(origin: SideConfig, arn: str | None, values: Mapping[str, Any]) -> SideConfig:
    """The origin's access, but for what was given; a profile of its own reads without the origin's role."""
    profile = values["stream.profile"]
    endpoint_url = values["stream.endpoint_url"] or origin.endpoint_url
    region = _region_in(arn, endpoint_url) or origin.region
    if profile:
        return SideConfig("stream", profile, region, endpoint_url)
    return dataclasses.replace(origin, side="stream", region=region, endpoint_url=endpoint_url)


def _check_complete(process: ProcessConfig, migration: MigrationConfig) -> None:
    looks_at_tables = process.command in _NEED_TABLE or (
        process.command == "findings" and process.explain is not None
    )
    if looks_at_tables and not migration.target_table:
        raise UsageError(
            "no table is named", "give --target-table (and --source-table where its name differs)"
        )
    if process.command in _NEED_NAME and not migration.name and not process.facts:
        raise UsageError("no migration is named", "give --migration or --target-table")
    if process.command in _NEED_REDIS and not process.redis_url:
        raise UsageError("roles that run apart share one Redis", f"give {process.command} its --redis-url")
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


# --- the parser --------------------------------------------------------------------------------------------


class _Parser(configargparse.ArgumentParser):  # type: ignore[misc]
    """Raises UsageError, with the place that the value came from where it was not the command line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.words: Sequence[str] = ()
        self.environment: Mapping[str, str] = {}
        super().__init__(*args, config_file_parser_class=_YamlFile, **kwargs)

    def error(self, message: str) -> NoReturn:
        said = _EXPLICIT.sub("it takes no value", masked(message.removeprefix("argument ")))
        flag, _, problem = said.partition(": ")
        option = next((one for one in OPTIONS if one.flag == flag), None)
        raise UsageError(f"{self._place(option)}: {problem}" if option else said)

    def _place(self, option: Option) -> str:
        """As the parser goes by: flag, variable, file."""
        if any(word.partition("=")[0] == option.flag for word in self.words):
            return option.flag
        if option.variable in self.environment:
            return f"{option.variable} in the environment"
        file = (
            self._config_file_parser
        )  # ConfigArgParse's own name: it makes one of the class that it is given
        if option.name in file.lines:
            return f"{file.path}, line {file.lines[option.name]}: {option.name}"
        return option.flag


class _YamlFile(configargparse.ConfigFileParser):  # type: ignore[misc]
    """Option names and their values. ConfigArgParse's own reader turns an unknown key into a flag, `on` into
    `True`, and refuses an empty file.
    """

    def __init__(self) -> None:
        super().__init__()
        self.path = Path()
        self.lines: dict[str, int] = {}

    def parse(self, path: Path) -> dict[str, Any]:  # what config_file_open_func gave
        content = yaml_file.read(path)
        for name, entry in content.items():
            if entry.value != "":
                _check_entry(path, name, entry)
        self.path, self.lines = path, {name: entry.line for name, entry in content.items()}
        return {name: entry.value for name, entry in content.items() if entry.value != ""}

    def get_syntax_description(self) -> str:
        return "The file is YAML: one `name: value` on each line, names without the dashes in front."


def _check_entry(file: Path, name: str, entry: Entry) -> None:
    at, value = f"{file}, line {entry.line}", entry.value
    option = next((one for one in OPTIONS if one.name == name), None)
    if option is None:
        names = [one.name for one in OPTIONS]
        raise ConfigurationError(
            f"{at}: there is no option '{quoted(masked(name), 60)}'",
            did_you_mean(name, names, f"`{PROGRAM} --help` lists them"),
        )
    if isinstance(value, dict) or (isinstance(value, list) and not option.repeats):
        raise ConfigurationError(
            f"{at}: {name} takes one value, not a {'mapping' if isinstance(value, dict) else 'list'}"
        )
    if isinstance(value, list) and not all(isinstance(one, str) for one in value):
        raise ConfigurationError(f"{at}: {name} takes a list of names")
    if option.repeats and isinstance(value, str) and "," in value:
        raise ConfigurationError(f"{at}: {name} holds a comma", listing(option))
    if option.parse is None and str(value).lower() not in SWITCH_WORDS:
        raise ConfigurationError(f"{at}: {name} is neither true nor false", "write true or false")


def _parser(command: str) -> _Parser:
    from pipeline import __version__

    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [COMMAND] [OPTION …]",
        description=COMMANDS[command] if command != "run" else _overview(),
        formatter_class=configargparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_env_var_help=False,
        add_config_file_help=False,
        config_file_open_func=Path,
        epilog="Each option is also DDBMM_NAME in the environment, `name:` in YAML: docs/configuration.md",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument(
        "--config",
        is_config_file_arg=True,
        env_var=CONFIG_VARIABLE,
        metavar="FILE",
        help="YAML file of options",
    )
    if command == "mark":
        parser.add_argument("milestone", choices=MARKS, help="the milestone that is reached now")
    for heading, options in GROUPS.items():
        group = parser.add_argument_group(heading)
        for option in options:
            group.add_argument(
                option.flag, dest=option.field, env_var=option.variable, **_argparse_form(option)
            )
    return parser


def _argparse_form(option: Option) -> dict[str, Any]:
    default = option.default or option.otherwise
    form: dict[str, Any] = {
        "help": option.help.replace("%", "%%") + (f" (default: {default})" if default else "")
    }
    if option.parse is None:
        return form | {"action": "store_true"}
    form |= {"type": option.parse, "default": option.default, "metavar": option.metavar}
    return form | {"action": "append"} if option.repeats else form


def _overview() -> str:
    commands = "\n".join(f"  {name:<11}{text}" for name, text in COMMANDS.items())
    aim = "Tells whether the target of a DynamoDB migration equals its source, and how far behind it is."
    return f"{aim}\n\n{commands}"


# --- where values came from --------------------------------------------------------------------------------


def _effective(
    parser: _Parser, values: Mapping[str, Any], process: ProcessConfig, migration: MigrationConfig
) -> list[Effective]:
    sources: dict[str, str] = {}
    for source, settings in parser.get_source_to_settings_dict().items():
        kind, _, path = source.partition("|")
        label = {"environment_variables": "environment", "defaults": "default"}.get(kind, path)
        for action, _ in settings.values():
            if action is not None:
                sources[action.dest] = label
    held = {
        option.field: attrgetter(option.field)(config)
        for config in (process, migration)
        for option in options_of(type(config))
    }
    return [
        Effective(option, *_shown(option, held[option.field], values, sources.get(option.field)))
        for option in OPTIONS
    ]


def _shown(
    option: Option, value: object, values: Mapping[str, Any], source: str | None
) -> tuple[object, str]:
    """The value as it may be shown, and where it came from."""
    if source is None and values[option.field] in (None, False):
        source = f"default: {option.otherwise}" if option.otherwise else "default"
    return "(set)" if option.secret and value else value, source or "command line"

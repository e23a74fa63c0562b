"""The configuration: what the operator gave, checked, as one frozen value.

Reads: the command line, `DDBMM_…` variables, the YAML file of `--config`; in this order of precedence, then
the defaults. Writes: nothing. Never: AWS, Redis; the meaning of an option (that is `options`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import configargparse
import yaml

from pipeline.config.options import COMMANDS, GROUPS, OPTIONS, Option
from pipeline.core.gate import Limits
from pipeline.core.model import MARKS, Side
from pipeline.errors import ConfigurationError, UsageError

PROGRAM = "dynamodb-migration-monitor"
CONFIG_VARIABLE = "DDBMM_CONFIG"
#: Commands that look at AWS, and so need a table.
_NEED_TABLE = ("run", "reader", "validator", "doctor")
#: Commands that look at the state alone, and so need its name.
_NEED_NAME = ("monitor", "status", "findings", "gate", "mark")
#: Roles of several processes that find each other through one Redis.
_NEED_REDIS = ("reader", "validator", "monitor")


@dataclass(frozen=True)
class SideOptions:
    """How one side is reached; None: what AWS's own configuration says."""

    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    role_arn: str | None = None
    external_id: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Config:
    """Every option's effective value; picklable. Durations in ms, sample_rate in percent of keys.

    The last fields are known once the tables have been seen (`startup.prepare`); until then they are empty.
    """

    command: str = "run"
    migration: str = ""
    redis_url: str = field(default="", repr=False)  # "": the embedded server
    state_dir: str = ".ddbmm"
    source: SideOptions = SideOptions()
    target: SideOptions = SideOptions()
    stream: SideOptions = SideOptions()
    source_table: str = ""
    target_table: str = ""
    region: str | None = None
    verify_on: Side = Side.TARGET
    stream_arn: str | None = None
    iterator_type: str = "LATEST"
    sample_rate: float = 100.0
    partition_key: str | None = None
    sort_key: str | None = None
    converge_within_ms: int = 60_000
    stable_for_ms: int = 30_000
    ignore_attributes: tuple[str, ...] = ()
    workers: int = 2
    in_flight: int = 8
    reader_threads: int = 8
    max_rcu: float = 0.0
    max_backlog: int = 100_000
    reclaim_after_ms: int = 30_000
    gate_objective: float = 99.9  # percent of keys, as sample_rate
    gate_lag_ms: int = 60_000
    gate_reader_lag_ms: int = 60_000
    gate_backlog: int = 10_000
    statistics_every_ms: int = 30_000
    metrics_port: int = 9464
    bind_address: str = "127.0.0.1"
    log_format: str = "console"
    log_level: str = "info"
    verbose: bool = False
    show_keys: bool = False
    json: bool = False
    dry_run: bool = False
    milestone: str = ""  # what `mark` marks
    partition_type: str = ""
    sort_type: str = ""
    source_arn: str = ""
    target_arn: str = ""

    @property
    def origin(self) -> Side:
        """The side whose stream is read."""
        return self.verify_on.other

    def side(self, side: Side) -> SideOptions:
        return self.source if side is Side.SOURCE else self.target

    def table(self, side: Side) -> str:
        return self.source_table if side is Side.SOURCE else self.target_table

    def gate_limits(self) -> Limits:
        """What the gate demands, in the gate's units."""
        return Limits(
            objective=self.gate_objective / 100,
            lag_ms=self.gate_lag_ms,
            reader_lag_ms=self.gate_reader_lag_ms,
            backlog=self.gate_backlog,
        )

    def settings(self) -> dict[str, str]:
        """The fingerprint: what the stored state would mean something else without."""
        return {
            "source_table": self.source_arn or self.source_table,
            "target_table": self.target_arn or self.target_table,
            "verify_on": str(self.verify_on),
            "iterator_type": self.iterator_type,
            "sample_rate": str(self.sample_rate),
            "ignore_attributes": ",".join(sorted(self.ignore_attributes)),
            "partition_key": self.partition_key or "",
            "partition_type": self.partition_type,
            "sort_key": self.sort_key or "",
            "sort_type": self.sort_type,
        }


@dataclass(frozen=True)
class Effective:
    """One option's value and where it came from, as `config` shows them."""

    option: Option
    value: object
    source: str


def load(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[Config, list[Effective]]:
    """The configuration, and each value's origin.

    Raises UsageError for what the command line or a value says wrong, ConfigurationError for the file;
    SystemExit(0) after --help or --version.
    """
    command, rest = split_command(argv)
    parser = _parser(command)
    given = {name: text for name, text in environment.items() if text}  # compose passes unset ones as ""
    namespace, unknown = parser.parse_known_args(list(rest), env_vars=given)
    if unknown:
        hint = f": the command {unknown[0]!r} comes first" if unknown[0] in COMMANDS else "; see --help"
        raise UsageError(f"not understood: {' '.join(unknown)}{hint}")
    values = vars(namespace)
    config = _config(command, values)
    _check_complete(config)
    return config, _effective(parser, values, config)


def split_command(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The command word and the rest. Raises UsageError for a word that is no command."""
    if not argv or argv[0].startswith("-"):
        return "run", argv
    if argv[0] not in COMMANDS:
        raise UsageError(f"there is no command {argv[0]!r}: use one of {', '.join(COMMANDS)}")
    return argv[0], argv[1:]


def _config(command: str, values: Mapping[str, Any]) -> Config:
    plain = {name: value for name, value in values.items() if "." not in name and name != "config"}
    plain["verify_on"] = Side(plain["verify_on"])
    plain["ignore_attributes"] = tuple(plain["ignore_attributes"] or ())
    for name in ("redis_url", "migration", "source_table", "target_table"):
        plain[name] = plain[name] or ""
    plain["source_table"] = plain["source_table"] or plain["target_table"]
    plain["migration"] = plain["migration"] or plain["target_table"]
    source, target = _side("source", values), _side("target", values)
    stream = _stream_side(source if plain["verify_on"] is Side.TARGET else target, values)
    return Config(command=command, source=source, target=target, stream=stream, **plain)


def _side(side: str, values: Mapping[str, Any]) -> SideOptions:
    own = {one.name: values[f"{side}.{one.name}"] for one in dataclasses.fields(SideOptions)}
    own["region"] = own["region"] or values["region"]
    return SideOptions(**own)


def _stream_side(origin: SideOptions, values: Mapping[str, Any]) -> SideOptions:
    """The origin's access, but for what was given; a profile of its own reads without the origin's role."""
    arn, profile = values["stream_arn"], values["stream.profile"]
    region = arn.split(":")[3] if arn else origin.region
    endpoint_url = values["stream.endpoint_url"] or origin.endpoint_url
    if profile:
        return SideOptions(profile, region, endpoint_url)
    return dataclasses.replace(origin, region=region, endpoint_url=endpoint_url)


def _check_complete(config: Config) -> None:
    if config.command in _NEED_TABLE and not config.target_table:
        raise UsageError("which table? Give --target-table (and --source-table where its name differs)")
    if config.command in _NEED_NAME and not config.migration:
        raise UsageError("which migration? Give --migration or --target-table")
    if config.command in _NEED_REDIS and not config.redis_url:
        raise UsageError(
            f"which Redis? Roles that run apart share one: give {config.command} its --redis-url"
        )
    for side in (config.source, config.target):
        if side.external_id and not side.role_arn:
            raise UsageError("an external id serves a role: give --source-role-arn or --target-role-arn too")


# --- the parser --------------------------------------------------------------------------------------------


class _Parser(configargparse.ArgumentParser):  # type: ignore[misc]
    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


class _YamlFile(configargparse.ConfigFileParser):  # type: ignore[misc]
    """Option names and their values. ConfigArgParse's own reader turns an unknown key into a flag, `on` into
    `True`, and refuses an empty file."""

    def parse(self, path: Path) -> dict[str, Any]:  # what config_file_open_func gave
        content = _read_yaml(path)
        for name, value in content.items():
            _check_entry(path, name, value)
        return {name: value for name, value in content.items() if value != ""}

    def get_syntax_description(self) -> str:
        return "The file is YAML: one `name: value` on each line, names without the dashes in front."


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        # All scalars stay text: the options' own parsers read them, as on the command line.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader) or {}
    except OSError as error:
        raise ConfigurationError(
            f"--config {path}: {error.strerror}; give the path of a YAML file"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: write one `name: value` on each line, as in `sample-rate: 10`")
    return content


def _check_entry(file: Path, name: str, value: object) -> None:
    option = next((one for one in OPTIONS if one.name == name), None)
    if option is None:
        raise ConfigurationError(f"{file}: there is no option {name!r}; `{PROGRAM} --help` lists them")
    if isinstance(value, dict) or (isinstance(value, list) and not option.repeats):
        raise ConfigurationError(
            f"{file}: {name} takes one value, not a {'mapping' if isinstance(value, dict) else 'list'}"
        )


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
        config_file_parser_class=_YamlFile,
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


def _effective(parser: _Parser, values: Mapping[str, Any], config: Config) -> list[Effective]:
    sources: dict[str, str] = {}
    for source, settings in parser.get_source_to_settings_dict().items():
        kind, _, path = source.partition("|")
        label = {"environment_variables": "environment", "defaults": "default"}.get(kind, path)
        for action, _ in settings.values():
            if action is not None:
                sources[action.dest] = label
    return [
        Effective(option, *_value_and_source(option, values, config, sources.get(option.field)))
        for option in OPTIONS
    ]


def _value_and_source(
    option: Option, values: Mapping[str, Any], config: Config, source: str | None
) -> tuple[object, str]:
    side, _, name = option.field.rpartition(".")
    effective = getattr(getattr(config, side) if side else config, name)
    if source is None and values[option.field] in (None, False):
        source = f"default: {option.otherwise}" if option.otherwise else "default"
    if option.secret and effective:
        effective = "(set)"
    return effective, source or "command line"

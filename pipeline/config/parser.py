"""The parser of every option: command line, environment and YAML file, in this order of precedence.

Reads: words and variables that it is given, the file of `--config`. Writes: the help. Never: AWS, the store.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import configargparse

from pipeline.config.all_options import GROUPS, OPTIONS
from pipeline.config.declaration import Option
from pipeline.config.headings import COMMANDS
from pipeline.config.options_file import OptionsFile
from pipeline.core.model import MARKS
from pipeline.core.quoting import masked
from pipeline.errors import UsageError

PROGRAM = "dynamodb-migration-monitor"
CONFIG_VARIABLE = "DDBMM_CONFIG"
#: argparse repeats what stands behind a switch.
_EXPLICIT = re.compile(r"ignored explicit argument .*", re.DOTALL)
#: What argparse says also of a value that looks like a flag, as a table's name may.
_NO_VALUE = "expected one argument"


class Parser(configargparse.ArgumentParser):  # type: ignore[misc]
    """Raises UsageError, with the place that the value came from where it was not the command line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.words: Sequence[str] = ()
        self.environment: Mapping[str, str] = {}
        super().__init__(*args, config_file_parser_class=OptionsFile, **kwargs)

    def error(self, message: str) -> NoReturn:
        said = _EXPLICIT.sub("it takes no value", masked(message.removeprefix("argument ")))
        flag, _, problem = said.partition(": ")
        option = next((one for one in OPTIONS if one.flag == flag), None)
        remedy = f"write {flag}=VALUE where it begins with a dash" if problem == _NO_VALUE else ""
        raise UsageError(f"{self.place(option)}: {problem}" if option else said, remedy)

    def place(self, option: Option) -> str:
        """As the parser goes by: flag, variable, file."""
        if any(word.partition("=")[0] == option.flag for word in self.words):
            return option.flag
        if option.variable in self.environment:
            return f"{option.variable} in the environment"
        return self.file.place(option.name) or option.flag

    @property
    def file(self) -> OptionsFile:
        """ConfigArgParse's own name: it makes one of the class that it is given."""
        made: OptionsFile = self._config_file_parser
        return made


def parser_of(command: str) -> Parser:
    """A parser of the command's options, in every place that they may be given."""
    from pipeline import __version__

    parser = Parser(
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

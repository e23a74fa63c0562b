"""What the YAML file says of options: of all migrations, and of each one below `migrations:`; checked here.

Reads: the file. Writes: nothing. Never: AWS, the store. What a value means is not looked at.
"""

from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import configargparse

from pipeline.config import yaml_file
from pipeline.config.all_options import OPTIONS
from pipeline.config.declaration import Option, options_of
from pipeline.config.given import SWITCH_WORDS, did_you_mean, listing
from pipeline.config.options import MigrationConfig
from pipeline.config.parsers import migration_name
from pipeline.config.yaml_file import Entry
from pipeline.core.quoting import masked, quoted
from pipeline.errors import ConfigurationError

#: The name that all entries stand below; no option is called so.
MIGRATIONS = "migrations"
#: How YAML writes an entry that overrides nothing.
_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
_OPTIONS = {one.name: one for one in OPTIONS}
_OWN_OPTIONS = frozenset(one.name for one in options_of(MigrationConfig))
#: What names one table, or what is of one table alone: never of several migrations.
OF_ONE_TABLE = ("target-table", "source-table", "stream-arn", "source-export", "target-export")


class OptionsFile(configargparse.ConfigFileParser):  # type: ignore[misc]
    """Option names and their values. ConfigArgParse's own reader turns an unknown key into a flag, `on` into
    `True`, and refuses an empty file.

    entries: what stands below `migrations:`, by the migration's name; None where that is not in the file.
    chosen: the migration whose entry lies over the rest of the file in the next `parse`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.path: Path | None = None
        self.entries: dict[str, Entry] | None = None
        self.chosen = ""
        self._of_all: dict[str, Entry] = {}

    def parse(self, path: Path) -> dict[str, Any]:  # what config_file_open_func gave
        if self.path != path:
            self._read(path)
        own = self._own()
        given = {name: entry for name, entry in self._of_all.items() if entry.value != ""} | own
        return {name: entry.value for name, entry in given.items()}

    def get_syntax_description(self) -> str:
        return "The file is YAML: one `name: value` on each line, names without the dashes in front."

    def place(self, name: str) -> str:
        """Where the option stands, in words; "" where the file does not hold it."""
        if name in self._own():
            return f"{self.path}, line {self._own()[name].line}: {name} of migration {self.chosen}"
        return f"{self.path}, line {self._of_all[name].line}: {name}" if name in self._of_all else ""

    def source(self, name: str) -> str:
        """Where the option's value came from, as `config` shows it; "": the chosen migration's name."""
        if self.entries is None:
            return str(self.path)
        own = self._own().get(name) if name else self.entries[self.chosen]
        if own is None:
            return f"{self.path}, line {self._of_all[name].line}"
        return f"{self.path}, line {own.line} ({MIGRATIONS}: {self.chosen})"

    def line_of(self, migration: str) -> str:
        """Where the migration's entry stands."""
        return f"{self.path}, line {(self.entries or {})[migration].line}"

    def _own(self) -> dict[str, Entry]:
        """The options of the chosen entry."""
        own: dict[str, Entry] = (self.entries or {})[self.chosen].value if self.chosen else {}
        return own

    def _read(self, path: Path) -> None:
        content = yaml_file.read(path)
        below = content.pop(MIGRATIONS, None)
        for name, entry in content.items():
            if entry.value != "":
                _check_option(f"{path}, line {entry.line}", name, entry.value, {*_OPTIONS, MIGRATIONS})
        if below is not None:
            _refuse_of_one(path, content)
            self.entries = _entries(path, below)
        self.path, self._of_all = path, content


def _refuse_of_one(path: Path, content: Mapping[str, Entry]) -> None:
    """Beside `migrations:`, what can only be meant for one of them."""
    for name in ("migration", *OF_ONE_TABLE):
        if name in content and content[name].value != "":
            raise ConfigurationError(
                f"{path}, line {content[name].line}: {name} stands beside `{MIGRATIONS}:`, and would be that "
                "of every migration",
                "leave it out: the names below are the migrations'; --migration NAME takes one of them"
                if name == "migration"
                else "give it in the entry of the migration that it belongs to",
            )


def _entries(path: Path, below: Entry) -> dict[str, Entry]:
    """Each migration's options, checked."""
    at = f"{path}, line {below.line}"
    if not isinstance(below.value, dict):
        raise ConfigurationError(
            f"{at}: `{MIGRATIONS}:` holds no mapping of names",
            "write one `name: {}` on each line below it, indented",
        )
    if not below.value:
        raise ConfigurationError(f"{at}: `{MIGRATIONS}:` names no migration", "name one, or leave it out")
    return {name: _entry(path, name, entry) for name, entry in below.value.items()}


def _entry(path: Path, name: str, entry: Entry) -> Entry:
    at, said = f"{path}, line {entry.line}", quoted(masked(name), 60)
    try:
        migration_name(name)
    except ArgumentTypeError as error:
        raise ConfigurationError(
            f"{at}: a migration cannot be called so",
            f"{error} (the table's own name is `target-table` in it)",
        ) from None
    if isinstance(entry.value, str) and entry.value in _NOTHING:
        return Entry({}, entry.line)
    if not isinstance(entry.value, dict):
        raise ConfigurationError(
            f"{at}: migration {said} is no mapping of options",
            f"write `{said}: {{}}`, or options of its own as in `{said}: {{sample-rate: 10}}`",
        )
    for option, value in entry.value.items():
        _check_own(f"{path}, line {value.line}", said, option, value.value)
    return entry


def _check_own(at: str, migration: str, name: str, value: Any) -> None:
    """Raises ConfigurationError for what an entry may not hold."""
    of = f"{at}: migration {migration}"
    if name == "migration":
        raise ConfigurationError(
            f"{of}: an entry's name is its migration's", f"leave `migration` out, or rename {migration}"
        )
    if name in _OPTIONS and name not in _OWN_OPTIONS:
        raise ConfigurationError(
            f"{of}: {name} is an option of the process, which is one for all migrations",
            f"give it outside `{MIGRATIONS}:`",
        )
    if value == "":
        raise ConfigurationError(
            f"{of}: {name} has no value", "write one, or leave it out: that of all migrations holds then"
        )
    _check_option(of, name, value, _OWN_OPTIONS)


def _check_option(at: str, name: str, value: Any, known: Iterable[str]) -> None:
    option: Option | None = _OPTIONS.get(name)
    if option is None:
        raise ConfigurationError(
            f"{at}: there is no option '{quoted(masked(name), 60)}'",
            did_you_mean(name, known, "`--help` lists them"),
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

"""The YAML file of many migrations, made: options of all, and an entry for each table.

Reads: options that were given. Writes: nothing, the text is returned. Never: AWS, the store, files. What
may hold a password is named, and left out.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

import yaml

from pipeline.config.declaration import Option
from pipeline.config.headings import FINDINGS, PLAN, REPORT
from pipeline.config.load import Effective, Loaded
from pipeline.config.options_file import MIGRATIONS, OF_ONE_TABLE
from pipeline.config.parsers import duration_text
from pipeline.core.model import Side
from pipeline.core.quoting import masked

#: What is asked of one command alone, and so no setting of a file.
_OF_ONE_COMMAND = frozenset(
    {"migration", *OF_ONE_TABLE, "tables", "write", "json", "dry-run", "watch", "restart", "stop-after"}
)
#: Plain in YAML wherever it stands, unless it is one of YAML's own words.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def file_text(loaded: Loaded, tables: Sequence[str], alone: Mapping[Side, Iterable[str]], head: str) -> str:
    """The file. tables: on both sides. alone: on one side only. head: what it begins with, in one line.

    What was not given stays away, so that the file follows the program's defaults.
    """
    of_all = [one for one in loaded.effective[0] if _is_setting(one)]
    lines = [f"# {head}", *(line for one in of_all for line in _option(loaded, one)), f"{MIGRATIONS}:"]
    lines += [f"  {_key(name)}: {{}}" for name in tables]
    lines += [f"  # on the {side} only: {name}" for side, names in alone.items() for name in names]
    return "\n".join(lines) + "\n"


def _is_setting(one: Effective) -> bool:
    """Something was given, and it is no matter of the command that was given with it."""
    if not one.is_given or one.value in ("", ()):
        return False
    return one.option.group not in (FINDINGS, PLAN, REPORT) and one.option.name not in _OF_ONE_COMMAND


def _option(loaded: Loaded, one: Effective) -> list[str]:
    if one.option.secret:
        url = loaded.process.redis_url
        if one.option.name != "redis-url" or masked(url) != url:
            return [f"# {one.option.name}: left out, as it may be secret: give it as {one.option.variable}"]
        return _written(one.option.name, url)
    return _written(one.option.name, _plain_value(one.option, one.value))


def _plain_value(option: Option, value: object) -> object:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int) and option.is_duration:
        return duration_text(value)
    if isinstance(value, tuple):
        return [str(one) for one in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    return value if isinstance(value, int) else str(value)


def _written(name: str, value: object) -> list[str]:
    texts = value if isinstance(value, list) else [str(value)]
    text: str = yaml.safe_dump(
        {name: value},
        allow_unicode=True,
        width=1_000_000,
        default_flow_style=False,
        default_style=None if all(one.isprintable() for one in texts) else '"',
    )
    return text.rstrip("\n").split("\n")


def _key(name: str) -> str:
    """A name as YAML reads it back: `on`, `123` and the like in quotes, which others read as no text."""
    is_plain = _PLAIN.fullmatch(name) is not None and isinstance(yaml.safe_load(name), str)
    return name if is_plain else json.dumps(name)

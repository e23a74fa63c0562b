"""`config`: the effective value of every option, and where it came from.

Reads: what was loaded. Writes: standard output. Never: AWS, the store.
"""

from collections.abc import Iterable

import msgspec

from pipeline import exit_codes
from pipeline.config import Effective, Loaded, MigrationConfig
from pipeline.config.declaration import options_of
from pipeline.config.parsers import duration_text
from pipeline.core.quoting import printable, printable_json


def show(loaded: Loaded) -> int:
    """Print them: with several migrations the process's first, then those of each."""
    if len(loaded.migrations) == 1:
        (effective,) = loaded.effective
        print(_json(_fields(effective)) if loaded.process.json else "\n".join(map(_line, effective)))
        return exit_codes.FINE
    own = {option.name for option in options_of(MigrationConfig)}
    of_process = [one for one in loaded.effective[0] if one.option.name not in own]
    by_name = {
        migration.name: [one for one in effective if one.option.name in own]
        for migration, effective in zip(loaded.migrations, loaded.effective, strict=True)
    }
    if loaded.process.json:
        of_each = {name: _fields(effective) for name, effective in by_name.items()}
        print(_json({"process": _fields(of_process), "migrations": of_each}))
        return exit_codes.FINE
    sections = [("process", of_process), *((f"\nmigration {name}", one) for name, one in by_name.items())]
    for heading, effective in sections:
        print(heading)
        for one in effective:
            print(f"  {_line(one)}")
    return exit_codes.FINE


def _fields(effective: Iterable[Effective]) -> dict[str, object]:
    return {one.option.name: {"value": _shown(one), "source": one.source} for one in effective}


def _json(made: dict[str, object]) -> str:
    return printable_json(msgspec.json.format(msgspec.json.encode(made)).decode())


def _line(one: Effective) -> str:
    value = _shown(one)
    text = ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
    return printable(f"{one.option.name:<22} {text:<40} {one.source}".rstrip())


def _shown(one: Effective) -> object:
    return duration_text(one.value) if isinstance(one.value, int) and one.option.is_duration else one.value

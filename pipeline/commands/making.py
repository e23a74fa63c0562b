"""`config --write`: the YAML file of many migrations, made of the tables that both sides have.

Reads: both sides' lists of tables. Writes: the file, which must not be there yet; standard output and error.
Never: the store.
"""

import contextlib
import os
from pathlib import Path

from pipeline import exit_codes
from pipeline.commands import pairs
from pipeline.config import PROGRAM, Loaded, making
from pipeline.errors import ConfigurationError, UsageError
from pipeline.process import streams
from pipeline.report.words import many


def write(loaded: Loaded) -> int:
    """Make the file. Raises ConfigurationError when no table is on both sides, or it cannot be written."""
    if loaded.of_all is not None:
        raise UsageError(
            "the file of --config names its migrations already", "leave --config out, or `migrations:` of it"
        )
    pattern, path = loaded.process.tables or pairs.ALL, Path(loaded.process.write or "")
    to_file = loaded.process.write != "-"
    if to_file and os.path.lexists(path):  # of what no system takes as a name, opening says so
        raise _is_there(path)
    found = pairs.paired(pairs.connections(loaded.migrations[0]), pattern)
    for side, names in found.alone.items():
        for name in names:
            streams.say(f"on the {side} only: {name}")
    if not found.both:
        raise ConfigurationError(
            f"no table whose name matches {pattern} is on both sides",
            "check --tables, the profiles and the regions; nothing was written",
        )
    head = f"Made by `{PROGRAM} config --write` of the tables on both sides that match {pattern}."
    text = making.file_text(loaded, found.both, found.alone, head)
    if not to_file:
        print(text, end="")
        return exit_codes.FINE
    _create(path, text)
    print(f"{path}: {many(len(found.both), 'migration')}; `{PROGRAM} doctor --config {path}` checks each")
    return exit_codes.FINE


def _create(path: Path, text: str) -> None:
    """The whole file or none, and never in the place of another."""
    try:
        with path.open("x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:
                with contextlib.suppress(OSError):
                    path.unlink()
                raise
    except FileExistsError:
        raise _is_there(path) from None
    except (OSError, ValueError) as error:  # ValueError: a name that holds a zero byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(f"--write {path}: {reason}", "give a file that can be written") from error


def _is_there(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"--write {path}: there is such a file already", "give another name, or take it away"
    )

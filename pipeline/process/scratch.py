"""A directory for as long as a process group lives, where nobody cleans while it does.

Reads and writes: directories and locks in the state directory or where temporary files go. Nothing in them is
looked at.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ConfigurationError

_PREFIX = "ddbmm-metrics-"


@contextlib.contextmanager
def directory(home: str | None) -> Iterator[str]:
    """A directory of its own below `home`, or, for None, where temporary files go. Raises ConfigurationError.

    It is locked meanwhile: systemd-tmpfiles leaves locked directories alone (tmpfiles.d(5)), and what a
    killed run has left in `home` is not locked any more.
    """
    try:
        if home is not None:
            _sweep(Path(home))
        made = tempfile.mkdtemp(prefix=_PREFIX, dir=home)
        lock = os.open(made, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_SH)
    except OSError as error:
        raise ConfigurationError(
            f"no temporary directory can be made: {error.strerror or error}",
            "set TMPDIR to a directory that can be written",
        ) from error
    try:
        yield made
    finally:
        os.close(lock)
        shutil.rmtree(made, ignore_errors=True)


def _sweep(home: Path) -> None:
    for left in home.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # locked: a run beside us; or not ours
            found = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(found)

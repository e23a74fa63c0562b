"""The files in which the processes of one group count: made with room, and made anew when they are removed.

Reads and writes: slot files of one directory. Never: the store.

A cleaner of temporary directories takes the files of whoever runs for long: what is counted would go on being
counted, and be seen by nobody.
"""

import os
import shutil
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

#: The files of a slot, one a kind of metric, and how long they are made at once: more than they need for one
#: migration, and for each further one.
KINDS = ("counter", "gauge_min", "gauge_mostrecent", "histogram")
SLOT_FILE_BYTES, MIGRATION_BYTES = 1 << 17, 20 << 10
#: Where Linux shows the files that a process has open, also those without a name any more.
_OPEN_FILES = Path("/proc/self/fd")


def prepare_directory(path: str) -> None:
    """Make `path` an empty directory for slot files. At boot only: no process may be writing there.

    What an earlier run left is wiped: a file of length 0 would fail every scrape, and a slot that does
    not exist any more would be counted for ever. Only `*.db` files are touched.
    """
    directory = Path(path)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in directory.glob("*.db"):
        file.unlink(missing_ok=True)


class SlotFiles:
    """Of one process. prometheus_client calls it at every change, for the name that its files have."""

    def __init__(self, directory: str, slot: str, migrations: int = 1) -> None:
        self._directory = Path(directory)
        self._bytes = SLOT_FILE_BYTES + MIGRATION_BYTES * (migrations - 1)
        self._slot = self._name = slot
        self._generation = 0
        self._gone = False

    def reserve(self) -> bool:
        """Take the files' room now; False when the directory is full.

        prometheus_client maps files with holes: where a hole cannot be filled, the process dies of SIGBUS.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for kind in KINDS:
                with self._path(kind).open("ab") as file:
                    file.write(bytes(max(0, self._bytes - file.tell())))
        except OSError as error:
            log.error(
                "no room for metrics files: this process counts for itself alone",
                slot=self._slot,
                error=str(error),
            )
            return False
        return True

    def is_missing(self) -> bool:
        """Look, about once a second, whether the files are still there; the next change makes them anew."""
        if not self._gone and not all(self._path(kind).exists() for kind in KINDS):
            self._gone = True
            log.warning(
                "metrics files were removed: made anew",
                slot=self._slot,
                directory=str(self._directory),
                remedy="leave them out of what cleans there, or set TMPDIR",
            )
        return self._gone

    def __call__(self) -> str:
        if self._gone:  # prometheus_client holds its lock: nothing is counted meanwhile
            self._gone = False
            self._make_anew()
        return self._name

    def _make_anew(self) -> None:
        """Under another name, at which prometheus_client opens them; with what is in those that are open."""
        held = _open_files()
        old = {kind: self._path(kind) for kind in KINDS}
        self._generation += 1
        self._name = f"{self._slot}-{self._generation}"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for kind, path in old.items():
                if path.exists():
                    path.rename(self._path(kind))
                elif (still := held.get(f"{path} (deleted)")) is not None:
                    shutil.copyfile(still, self._path(kind))
            self.reserve()
        except OSError as error:
            log.error("metrics files cannot be made anew", slot=self._slot, error=str(error))

    def _path(self, kind: str) -> Path:
        return self._directory / f"{kind}_{self._name}.db"


def _open_files() -> dict[str, Path]:
    """What this process has open, by where it leads; nothing where the system does not show it."""
    found: dict[str, Path] = {}
    for one in _OPEN_FILES.iterdir() if _OPEN_FILES.is_dir() else ():
        try:
            found[os.readlink(one)] = one  # noqa: PTH115 - a Path would lose nothing but time
        except OSError:  # the one that lists the directory
            continue
    return found

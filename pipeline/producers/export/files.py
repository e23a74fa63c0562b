"""Where an export's files lie: in a local folder, which is here, or in a bucket (see `aws/s3`).

Reads: names, sizes and contents of files. Writes: nothing. Never: the store, AWS. What is in the files is
read by others.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from pipeline.errors import ExportRefused

#: The folder that AWS puts below the prefix, and in it one folder an export.
AWS_FOLDER = "AWSDynamoDB"
CHUNK_BYTES = 256 * 1024


class Files(Protocol):
    """Paths are relative to a root, with `/`. Raises ExportRefused, and AwsError from a bucket."""

    def size(self, path: str) -> int | None:
        """Bytes of a file, None where there is none."""
        ...

    def chunks(self, path: str) -> Iterator[bytes]:
        """A file's content, some hundred KB at a time."""
        ...

    def find(self, folder: str, name: str) -> list[str]:
        """Every file of that name in the folder and below it."""
        ...

    def sizes(self, folder: str) -> dict[str, int]:
        """Every file right in the folder, by path: its bytes. Nothing where there is no such folder."""
        ...

    def shown(self, path: str) -> str:
        """The path as a person would write it."""
        ...


class Folder:
    """A folder of this machine, or of a file system mounted here."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def size(self, path: str) -> int | None:
        there = self._root / path
        try:
            return there.stat().st_size if there.is_file() else None
        except OSError as error:
            raise _refused(error, self.shown(path)) from error

    def chunks(self, path: str) -> Iterator[bytes]:
        try:
            with (self._root / path).open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise _refused(error, self.shown(path)) from error

    def find(self, folder: str, name: str) -> list[str]:
        there = self._root / folder
        if not there.is_dir():
            raise ExportRefused(
                f"{self.shown(folder)}: no such folder", "name the folder that holds the export"
            )
        return sorted(found.relative_to(self._root).as_posix() for found in there.rglob(name))

    def sizes(self, folder: str) -> dict[str, int]:
        there = self._root / folder
        try:
            files = [one for one in there.iterdir() if one.is_file()] if there.is_dir() else []
            return {one.relative_to(self._root).as_posix(): one.stat().st_size for one in files}
        except OSError as error:
            raise _refused(error, self.shown(folder)) from error

    def shown(self, path: str) -> str:
        return str(self._root / path)


def open_folder(given: str) -> tuple[Folder, str]:
    """The files around a local path, and the path in them.

    An incremental export's data lies beside its own folder: the root is what holds `AWSDynamoDB`, where the
    path says so.
    """
    path = Path(given).absolute()
    parts = path.parts
    if AWS_FOLDER not in parts:
        return (Folder(path.parent), path.name) if path.is_file() else (Folder(path), "")
    at = len(parts) - 1 - parts[::-1].index(AWS_FOLDER)
    return Folder(Path(*parts[:at])), str(PurePosixPath(*parts[at:]))


def _refused(error: OSError, path: str) -> ExportRefused:
    return ExportRefused(f"{path}: {error.strerror}", "let this user read the export's files")

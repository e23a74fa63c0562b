"""Items sorted into buckets by key hash, on disk: what has no common order becomes joinable, in flat memory.

Reads: pages of items. Writes: one file for each partition read (a file of an export, a segment), in a
directory that nobody else may enter. Never: the store, AWS. A partition's file is there whole or not at all,
and no item is outside that directory. Which files count is the caller's to know: one that was overtaken
while it sorted may have left a part too.

The files hold items, so the directory is made 0700 and each file 0600, and both go when the comparison ends.
A file is written beside its place and moved there when it is whole: a partition that is read again, after a
crash or by another process, replaces its part and counts nothing twice.

Layout of a file: runs, one after the other, each of which held all buckets' items for a while in memory. A
run is its buckets' sections (deflate of lines: key, item, key, item …), then where each of them begins, as
64-bit offsets. The file's end is where those tables are, how many, the number of buckets, and a mark.
"""

import contextlib
import os
import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Self
from zlib import crc32

import msgspec
from isal import isal_zlib
from isal.igzip_lib import IsalError

from pipeline.core.comparing.pairs import Wire
from pipeline.core.model import Side
from pipeline.errors import SpillIncomplete, SpillUnusable

#: Held in memory by a writer before it goes to disk: with 10,000 buckets a section is then some KB.
RUN_BYTES = 32 * 1024 * 1024
_RAW_DEFLATE = -15
#: The level that packs four to one at a third of a microsecond an item (the next one costs twice as much).
_LEVEL = 1
_END = struct.Struct("<QQ8s")
_MARK = b"ddbmmsp1"
_OFFSET_BYTES = array("Q").itemsize

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Spill:
    """The directory of one comparison; `buckets` is part of its plan. Any number of processes share it."""

    def __init__(self, directory: Path, buckets: int) -> None:
        self.directory = directory
        self.buckets = buckets
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            there = directory.stat()
        except OSError as error:
            raise _unusable(directory, error) from error
        if there.st_uid != os.geteuid() or there.st_mode & 0o077:
            raise SpillUnusable(
                f"{directory}: items would lie where others may read them",
                "name a --spill-dir that is this user's alone (chmod 700), or a new one",
            )

    def writer(self, side: Side, partition: str, run_bytes: int = RUN_BYTES) -> "SpillWriter":
        """Of one partition's part; a context manager. What an earlier reading left stays until `finish`."""
        return SpillWriter(self._path(side, partition), self.buckets, run_bytes)

    def bucket(
        self, side: Side, bucket: int, partitions: Iterable[str]
    ) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """A bucket's keys and items of these partitions' parts, some at a time.

        Raises SpillIncomplete where a part is not there, and SpillUnusable.
        """
        for path in (self._path(side, partition) for partition in partitions):
            try:
                with path.open("rb") as file:
                    yield from _sections(file, bucket, self.buckets, path)
            except FileNotFoundError as error:
                raise missing(path) from error
            except OSError as error:
                raise _unusable(path, error) from error
            except (IsalError, struct.error) as error:  # type: ignore[misc]  # isal types it as an instance
                raise SpillUnusable(
                    f"{path}: does not hold what was written",
                    "check the disk, then begin anew with --restart",
                ) from error

    def _path(self, side: Side, partition: str) -> Path:
        return self.directory / f"{side}-{sha256(partition.encode()).hexdigest()[:32]}.items"


def clear(directory: Path) -> None:
    """Remove a spill's files and its directory, as far as they are ours. Several processes may do so."""
    for path in directory.glob("*.items*"):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody put other files there: theirs stay
        directory.rmdir()


class SpillWriter:
    """Sorts one partition's items. Nothing of it is seen by readers before `finish`. Not thread-safe."""

    def __init__(self, path: Path, buckets: int, run_bytes: int) -> None:
        self._path = path
        self._run_bytes = run_bytes
        self._partial = path.with_suffix(f".items.{os.getpid()}-{id(self):x}")
        self._buckets: list[list[bytes]] = [[] for _ in range(buckets)]
        self._held = 0
        self._tables: list[int] = []
        self.items = 0
        try:
            self._file = _create(self._partial)
        except OSError as error:
            raise _unusable(self._partial, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """What was not finished goes."""
        with contextlib.suppress(OSError):  # a full disk has been named before
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def add(self, keys: Sequence[bytes], items: Sequence[Wire]) -> None:
        lines = list(map(bytes, items))
        if b"\n" in b"".join(lines):
            # Between JSON's tokens, as nobody writes it: it would end the record's line.
            lines = [_encode(_decode(line)) for line in lines]
        buckets, count = self._buckets, len(self._buckets)
        for key, line in zip(keys, lines, strict=True):
            buckets[crc32(key) % count] += (key, line)
        self.items += len(keys)
        self._held += sum(map(len, keys)) + sum(map(len, lines))
        if self._held >= self._run_bytes:
            self._write_run()

    def finish(self) -> None:
        """The part takes its place, instead of an earlier one. Raises SpillUnusable (a full disk)."""
        self._write_run()
        try:
            self._file.write(array("Q", self._tables).tobytes())
            self._file.write(_END.pack(len(self._tables), len(self._buckets), _MARK))
            self._file.close()
            self._partial.replace(self._path)
        except OSError as error:
            raise _unusable(self._path, error) from error

    def _write_run(self) -> None:
        if not self._held:
            return
        offsets = array("Q")
        try:
            for records in self._buckets:
                offsets.append(self._file.tell())
                if records:
                    self._file.write(isal_zlib.compress(b"\n".join(records), _LEVEL, _RAW_DEFLATE))
                    records.clear()
            offsets.append(self._file.tell())
            self._tables.append(self._file.tell())
            self._file.write(offsets.tobytes())
        except OSError as error:
            raise _unusable(self._partial, error) from error
        self._held = 0


def _create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _sections(
    file: BinaryIO, bucket: int, buckets: int, path: Path
) -> Iterator[tuple[list[bytes], list[bytes]]]:
    for table in _tables(file, buckets, path):
        file.seek(table + bucket * _OFFSET_BYTES)
        offsets = array("Q", file.read(2 * _OFFSET_BYTES))
        for start, end in pairwise(offsets):
            if start == end:
                continue
            file.seek(start)
            parts = isal_zlib.decompress(file.read(end - start), _RAW_DEFLATE).split(b"\n")
            yield parts[::2], parts[1::2]


def _tables(file: BinaryIO, buckets: int, path: Path) -> "array[int]":
    """Where the runs' tables of offsets are."""
    file.seek(-_END.size, os.SEEK_END)
    count, written_for, mark = _END.unpack(file.read(_END.size))
    if mark != _MARK or written_for != buckets:
        raise SpillUnusable(
            f"{path}: was written by another comparison",
            "begin anew with --restart, or name another --spill-dir",
        )
    file.seek(-_END.size - count * _OFFSET_BYTES, os.SEEK_END)
    return array("Q", file.read(count * _OFFSET_BYTES))


def missing(path: Path) -> SpillIncomplete:
    """A part, or the whole, of what was sorted elsewhere and has to be here."""
    return SpillIncomplete(
        f"{path}: is missing, and another process has sorted items into it",
        "give every host the same --spill-dir, on a file system that they share; where somebody has "
        "emptied it, begin anew with --restart",
    )


def _unusable(path: Path, error: OSError) -> SpillUnusable:
    return SpillUnusable(
        f"{path}: {error.strerror}", "name a --spill-dir that this user may write and that has room"
    )

"""What an export says of itself: its two manifests, checked before anything is believed.

Reads: manifest-summary.json, manifest-files.json and their checksums. Writes: nothing. Never: the store, AWS.
No data file is opened.

The layout is AWS's (developer guide, "DynamoDB table export output format"), with what real exports add to
it: checksums end in `.md5`, paths are relative to the bucket and contain the prefix, a full export names no
type, and fields that are unknown today may come tomorrow.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from pipeline.core.quoting import quoted
from pipeline.errors import ExportDamaged, ExportRefused
from pipeline.producers.export.files import AWS_FOLDER, Files

SUMMARY = "manifest-summary.json"
#: A manifest of 50,000 files takes 12 MB.
MAX_MANIFEST_BYTES = 256 * 1024 * 1024
#: What all of an export that cannot be trusted needs.
COPY_AGAIN = "copy the export's whole folder again, or make another export"

Read = TypeVar("Read")


class ExportKind(StrEnum):
    """All of a table, or what changed in it within a window (`exportType`)."""

    FULL = "FULL_EXPORT"
    INCREMENTAL = "INCREMENTAL_EXPORT"


class Summary(msgspec.Struct, frozen=True, rename="camel"):
    """manifest-summary.json, as far as it is needed."""

    table_arn: str
    item_count: int
    output_format: str
    manifest_files_key: str = msgspec.field(name="manifestFilesS3Key")
    table_id: str | None = None
    export_arn: str | None = None
    export_type: ExportKind = ExportKind.FULL
    export_time: str | None = None
    export_from_time: str | None = None
    export_to_time: str | None = None
    billed_size_bytes: int = 0


class _Line(msgspec.Struct, frozen=True, rename="camel"):
    """A line of manifest-files.json."""

    item_count: int
    md5_checksum: str
    data_file_key: str = msgspec.field(name="dataFileS3Key")


class DataFile(msgspec.Struct, frozen=True):
    """One data file where it was found. size: of the compressed file."""

    path: str
    items: int
    md5: bytes
    size: int


class Export(msgspec.Struct, frozen=True):
    """An export whose manifests have been checked; its data files have not.

    from_ms, to_ms: the window of an incremental export, inclusive and exclusive. A full one shows the table
    as it was at to_ms (give or take a minute), and has no from_ms. checksum: of both manifests, and so of all
    that they list.
    """

    kind: ExportKind
    table_arn: str
    table_id: str | None
    arn: str | None
    files: tuple[DataFile, ...]
    items: int
    from_ms: int | None
    to_ms: int
    checksum: str

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def open_export(files: Files, start: str) -> Export:
    """The export at `start`: its folder, its summary, or a folder that holds one export and no other.

    Raises ExportRefused (ExportDamaged for checksums and counts that are wrong), AwsError.
    """
    path = _find_summary(files, start)
    raw = _checked(files, path)
    summary = _decode(msgspec.json.Decoder(Summary), raw, files.shown(path))
    _refuse_unfit(
        summary, _decode(msgspec.json.Decoder(dict[str, Any]), raw, files.shown(path)), files.shown(path)
    )
    resolver = _Resolver(files, path)
    listed_at = resolver.find(summary.manifest_files_key)
    listed = _checked(files, listed_at)
    data = tuple(_data_files(_lines(listed, files.shown(listed_at)), resolver))
    items = sum(file.items for file in data)
    if items != summary.item_count:
        raise ExportDamaged(
            f"{files.shown(listed_at)}: lists {items:,} items, the summary says {summary.item_count:,}",
            COPY_AGAIN,
        )
    from_ms, to_ms = _window(summary, files.shown(path))
    return Export(
        kind=summary.export_type,
        table_arn=summary.table_arn,
        table_id=summary.table_id,
        arn=summary.export_arn,
        files=data,
        items=items,
        from_ms=from_ms,
        to_ms=to_ms,
        checksum=_md5(_md5(raw) + _md5(listed)).hex(),
    )


def check_table(export: Export, table_arn: str, table_id: str | None) -> None:
    """Raises ExportRefused for the export of another table, or of an earlier one of the same name."""
    if export.table_arn != table_arn:
        raise ExportRefused(
            f"the export is of {quoted(export.table_arn)}, not of {table_arn}",
            "name the export of this side's table",
        )
    if table_id is not None and export.table_id not in (None, table_id):
        raise ExportRefused(
            f"the export is of an earlier table of the same name as {table_arn} (its id differs)",
            "make an export of the table as it is",
        )


def _find_summary(files: Files, start: str) -> str:
    if start.endswith(".json"):
        return start
    direct = _join(start, SUMMARY)
    if files.size(direct) is not None:
        return direct
    found = files.find(start, SUMMARY)
    if not found:
        raise ExportRefused(
            f"{files.shown(start)}: no {SUMMARY} there: not an export, or one that is not finished",
            f"name the folder {AWS_FOLDER}/<export id> of a finished export",
        )
    if len(found) > 1:
        names = ", ".join(files.shown(path) for path in found[:5])
        raise ExportRefused(f"{files.shown(start)}: holds {len(found)} exports", f"name one of them: {names}")
    return found[0]


def _checked(files: Files, path: str) -> bytes:
    """A manifest that matches its checksum file."""
    raw = _whole(files, path)
    base = path.removesuffix(".json")
    sums = [name for name in (f"{base}.md5", f"{base}.checksum") if files.size(name) is not None]
    if not sums:
        raise ExportDamaged(
            f"{files.shown(path)}: its checksum {base.rpartition('/')[2]}.md5 is missing", COPY_AGAIN
        )
    if md5_of(_whole(files, sums[0]).decode("latin-1"), files.shown(sums[0])) != _md5(raw):
        raise ExportDamaged(f"{files.shown(path)}: does not match its MD5 checksum", COPY_AGAIN)
    return raw


def _whole(files: Files, path: str) -> bytes:
    content = bytearray()
    for chunk in files.chunks(path):
        content += chunk
        if len(content) > MAX_MANIFEST_BYTES:
            raise ExportRefused(f"{files.shown(path)}: too large for a manifest", COPY_AGAIN)
    return bytes(content)


def _md5(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


def md5_of(text: str, where: str) -> bytes:
    """The 16 bytes of a checksum in base64. Raises ExportDamaged."""
    try:
        digest = base64.b64decode(text.strip(), validate=True)
    except ValueError as error:
        raise ExportDamaged(f"{where}: an MD5 checksum that is not base64", COPY_AGAIN) from error
    if len(digest) != hashlib.md5(usedforsecurity=False).digest_size:
        raise ExportDamaged(f"{where}: an MD5 checksum of {len(digest)} bytes", COPY_AGAIN)
    return digest


def _decode(decoder: "msgspec.json.Decoder[Read]", raw: bytes, where: str) -> Read:
    try:
        return decoder.decode(raw)
    except (ValueError, RecursionError) as error:
        raise ExportRefused(f"{where}: not a manifest: {quoted(str(error))}", COPY_AGAIN) from error


def _lines(raw: bytes, where: str) -> Iterator[_Line]:
    decoder = msgspec.json.Decoder(_Line)
    for line in raw.splitlines():
        if line.strip():
            yield _decode(decoder, line, where)


def _refuse_unfit(summary: Summary, fields: dict[str, Any], where: str) -> None:
    """What must not pass for the whole table, or cannot be read."""
    if summary.output_format != "DYNAMODB_JSON":
        raise ExportRefused(
            f"{where}: an export in {quoted(summary.output_format, 20)} format cannot be compared",
            "export the table once more with --export-format DYNAMODB_JSON",
        )
    if any(name.lower() == "filterspecification" and value for name, value in fields.items()):
        raise ExportRefused(
            f"{where}: a filtered export holds only a part of the table", "make an export without a filter"
        )


def _window(summary: Summary, where: str) -> tuple[int | None, int]:
    if summary.export_type is ExportKind.FULL:
        return None, _instant(summary.export_time, "exportTime", where)
    start = _instant(summary.export_from_time, "exportFromTime", where)
    return start, _instant(summary.export_to_time, "exportToTime", where)


def _instant(text: str | None, field: str, where: str) -> int:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError as error:
        raise ExportRefused(f"{where}: {field} is not an instant", COPY_AGAIN) from error
    if moment.tzinfo is None:
        raise ExportRefused(f"{where}: {field} has no time zone", COPY_AGAIN)
    return round(moment.timestamp() * 1000)


def _data_files(lines: Iterable[_Line], resolver: "_Resolver") -> Iterator[DataFile]:
    seen: set[str] = set()
    for line in lines:
        path, size = resolver.find_listed(line.data_file_key)
        if path in seen:
            raise ExportDamaged(f"{resolver.files.shown(path)}: listed twice in the manifest", COPY_AGAIN)
        seen.add(path)
        yield DataFile(path, line.item_count, md5_of(line.md5_checksum, quoted(line.data_file_key)), size)


class _Resolver:
    """Finds what a manifest names, also after the export was copied to another place or depth."""

    def __init__(self, files: Files, summary_path: str) -> None:
        self.files = files
        self._base = summary_path.rpartition("/")[0]
        before, found, _ = self._base.rpartition(AWS_FOLDER)
        self._holder = before.rstrip("/") if found else self._base
        self._folders: dict[str, dict[str, int]] = {}

    def find(self, key: str) -> str:
        """Raises ExportDamaged where the file is at none of its places."""
        for path in self._places(key):
            if self.files.size(path) is not None:
                return path
        raise self._missing(key)

    def find_listed(self, key: str) -> tuple[str, int]:
        """As `find`, and how many bytes it has, where an export has thousands: a folder is listed once."""
        for path in self._places(key):
            folder = path.rpartition("/")[0]
            if folder not in self._folders:
                self._folders[folder] = self.files.sizes(folder)
            if (size := self._folders[folder].get(path)) is not None:
                return path, size
        raise self._missing(key)

    def _missing(self, key: str) -> ExportDamaged:
        return ExportDamaged(f"{self.files.shown(self._base)}: {quoted(key)} is missing", COPY_AGAIN)

    def _places(self, key: str) -> Iterator[str]:
        """As it stands; below the folder that holds AWSDynamoDB; beside the manifest, by its name alone."""
        parts = key.split("/")
        if ".." not in parts and parts[0]:
            yield key
            if AWS_FOLDER in parts:
                yield _join(self._holder, *parts[parts.index(AWS_FOLDER) :])
            yield _join(self._holder, key)
        yield _join(self._base, "data", parts[-1])
        yield _join(self._base, parts[-1])
        # Incremental exports share one folder beside their own.
        yield _join(self._base.rpartition("/")[0], "data", parts[-1])


def _join(*parts: str) -> str:
    return "/".join(part.strip("/") for part in parts if part.strip("/"))

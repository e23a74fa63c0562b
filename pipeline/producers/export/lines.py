"""The items of one data file, page by page: unzipped, checked and taken apart while it is read.

Reads: gzip files of JSON lines. Writes: nothing. Never: the store, AWS. No more than a block and a line of a
file is held.

Nothing of a file is to be believed before it has been read to its end: only then its MD5 and its number of
items are known to be right. Both readers raise ExportDamaged there.
"""

import hashlib
from collections.abc import Iterable, Iterator

import msgspec
from isal import isal_zlib
from isal.igzip_lib import IsalError

from pipeline.core.canonical import KeySchema, MalformedItem
from pipeline.core.comparing.keys import KeyReader
from pipeline.core.quoting import quoted
from pipeline.errors import ExportDamaged, ExportRefused
from pipeline.producers.export.files import Files
from pipeline.producers.export.manifest import COPY_AGAIN, DataFile

#: Unzipped at a time: stays in a core's cache while it is decoded.
BLOCK_BYTES = 128 * 1024
#: An item is at most 400 KB; as JSON with both images and every character escaped far less than this.
MAX_LINE_BYTES = 16 * 1024 * 1024
#: zlib's parameter for a gzip header and the largest window.
_GZIP = 31


class ItemsPage(msgspec.Struct, frozen=True):
    """Some items of a full export; `items` are wire JSON.

    Their attributes are in the order of their names: exports have them in any order, and put in one here,
    once an item, most pairs are equal as they stand.
    """

    keys: list[bytes]
    items: list[bytes]


class ChangedItem(msgspec.Struct, frozen=True):
    """One line of an incremental export: the key, and what the table held at the end of the window.

    image: None when the item was not there any more. written_ms: the newest write within the window.
    """

    key: bytes
    image: msgspec.Raw | None
    written_ms: int


class _FullLine(msgspec.Struct, frozen=True, gc=False):
    item: dict[str, msgspec.Raw] = msgspec.field(name="Item")


class _Number(msgspec.Struct, frozen=True, gc=False):
    text: str = msgspec.field(name="N")


class _Metadata(msgspec.Struct, frozen=True, gc=False):
    written_us: _Number = msgspec.field(name="WriteTimestampMicros")


class _ChangeLine(msgspec.Struct, frozen=True, gc=False):
    metadata: _Metadata = msgspec.field(name="Metadata")
    keys: msgspec.Raw = msgspec.field(name="Keys")
    new_image: msgspec.Raw = msgspec.field(name="NewImage", default=msgspec.Raw())


_full_lines = msgspec.json.Decoder(_FullLine).decode_lines
_in_order = msgspec.json.Encoder(order="deterministic").encode
_change_lines = msgspec.json.Decoder(_ChangeLine).decode_lines


def read_items(files: Files, file: DataFile, keys: KeyReader) -> Iterator[ItemsPage]:
    """The items of a full export's file. Raises ExportDamaged, ExportRefused, AwsError."""
    where = files.shown(file.path)
    count = 0
    for block in _blocks(files, file):
        try:
            page = _page(block, keys)
        except (ValueError, RecursionError) as error:
            raise _unfit(where, error) from error
        count += len(page.keys)
        yield page
    _check_count(count, file, where)


def read_changes(files: Files, file: DataFile, schema: KeySchema) -> Iterator[list[ChangedItem]]:
    """The changed keys of an incremental export's file. Raises ExportDamaged, ExportRefused, AwsError."""
    where = files.shown(file.path)
    count = 0
    for block in _blocks(files, file):
        try:
            changes = [_changed(line, schema) for line in _change_lines(block)]
        except (ValueError, RecursionError) as error:
            raise _unfit(where, error) from error
        count += len(changes)
        yield changes
    _check_count(count, file, where)


def _page(block: bytes, keys: KeyReader) -> ItemsPage:
    items = [line.item for line in _full_lines(block)]
    return ItemsPage(keys.keys_of(items), list(map(_in_order, items)))


def _changed(line: _ChangeLine, schema: KeySchema) -> ChangedItem:
    written_ms = int(line.metadata.written_us.text) // 1000
    return ChangedItem(schema.compact(line.keys), line.new_image or None, written_ms)


def _unfit(where: str, error: Exception) -> ExportRefused:
    if isinstance(error, MalformedItem):
        return ExportRefused(
            f"{where}: the items' keys are not the table's: {error}", "name the export of this side's table"
        )
    # msgspec names a path and types, never a value.
    return ExportDamaged(f"{where}: a line that is not an item: {quoted(str(error))}", COPY_AGAIN)


def _check_count(count: int, file: DataFile, where: str) -> None:
    if count != file.items:
        raise ExportDamaged(f"{where}: holds {count:,} items, the manifest says {file.items:,}", COPY_AGAIN)


def _blocks(files: Files, file: DataFile) -> Iterator[bytes]:
    """Whole lines, some hundred KB at a time; the file's MD5 is checked at its end."""
    where = files.shown(file.path)
    md5 = hashlib.md5(usedforsecurity=False)
    yield from _whole_lines(_unzipped(_noting(files.chunks(file.path), md5), where), where)
    if md5.digest() != file.md5:
        raise ExportDamaged(f"{where}: does not match the MD5 checksum in the manifest", COPY_AGAIN)


def _noting(chunks: Iterable[bytes], md5: "hashlib._Hash") -> Iterator[bytes]:
    for chunk in chunks:
        md5.update(chunk)
        yield chunk


def _unzipped(chunks: Iterable[bytes], where: str) -> Iterator[bytes]:
    """A file may have several gzip members, as one that was put together from parts has."""
    inflater = isal_zlib.decompressobj(wbits=_GZIP)
    for chunk in chunks:
        left, full = chunk, False
        while left or full:
            if inflater.eof:
                inflater = isal_zlib.decompressobj(wbits=_GZIP)
            try:
                block = inflater.decompress(left, BLOCK_BYTES)
            except IsalError as error:  # type: ignore[misc]  # isal types it as an instance
                raise ExportDamaged(f"{where}: not a gzip file: {quoted(str(error))}", COPY_AGAIN) from error
            left = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            # A block of full size may have more behind it, though all input is taken.
            full = len(block) == BLOCK_BYTES and not inflater.eof
            if block:
                yield block
    if not inflater.eof:
        raise ExportDamaged(f"{where}: ends in the middle", COPY_AGAIN)


def _whole_lines(blocks: Iterable[bytes], where: str) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
            rest = block[end:]
        else:
            rest += block
        if len(rest) > MAX_LINE_BYTES:
            raise ExportDamaged(f"{where}: a line longer than any item", COPY_AGAIN)
    if rest:
        yield rest

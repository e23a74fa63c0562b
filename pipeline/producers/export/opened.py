"""The export that stands for one side of a comparison: found, checked, and told from every other.

Reads: its manifests, and the first bytes of one data file. Writes: nothing. Never: the store.
"""

from pathlib import Path

import msgspec

from pipeline.aws import Connection, TableInfo
from pipeline.core.comparing.state import ExportSeen
from pipeline.producers.export.files import Files
from pipeline.producers.export.location import locate
from pipeline.producers.export.manifest import Export, check_table, open_export


class SideExport(msgspec.Struct, frozen=True):
    """An export whose manifests are right, and its files. seen: what a comparison remembers of it."""

    files: Files
    export: Export
    seen: ExportSeen


def open_for(given: str, connection: Connection, table: TableInfo) -> SideExport:
    """The export that an operator named for the table. Raises ExportRefused and AwsError.

    connection: of the table's side. One data file is begun to be read, so that a permission that is missing
    (of the bucket's key, say) is told at the start.
    """
    files, start = locate(given, connection)
    export = open_export(files, start)
    check_table(export, table.arn, table.id)
    for file in export.files[:1]:
        next(iter(files.chunks(file.path)), None)
    location = given if given.startswith(("arn:", "s3://")) else str(Path(given).absolute())
    seen = ExportSeen(
        location=location,
        arn=export.arn,
        checksum=export.checksum,
        files=len(export.files),
        items=export.items,
        size=export.size,
        to_ms=export.to_ms,
        from_ms=export.from_ms,
    )
    return SideExport(files, export, seen)

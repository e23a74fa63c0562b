"""Exports as AWS writes them, made here: the documented layout, what real ones add, every trap on order.

Reads: items. Writes: files below a folder. Never: anything of the code under test.

Real exports (two of 2022 and 2026 were looked at) end their checksums in `.md5`, name paths relative to the
bucket and with the prefix, write a 20-byte gzip file for an empty partition, name no exportType when they are
full, and write an item's attributes in any order.
"""

import base64
import gzip
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Item = dict[str, Any]

TABLE_ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/t"
TABLE_ID = "11111111-2222-3333-4444-555555555555"
EXPORT_ID = "01768385930622-efd1a093"
EXPORT_TIME = "2026-01-14T10:18:50.622Z"
FROM_TIME, TO_TIME = "2026-01-14T10:00:00.000Z", "2026-01-14T10:18:00.000Z"


@dataclass(frozen=True)
class Change:
    """A line of an incremental export; no `new`: the item is gone."""

    keys: Item
    new: Item | None = None
    old: Item | None = None
    written_us: int = 1768386327803907


@dataclass
class ExportWriter:
    """Writes one export; the fields are its traps. `summary` and `lines` change single fields; None removes.

    data: other contents of the data files than lines of items, by number (raw bytes of the gzip file).
    """

    prefix: str = ""
    files: int = 2
    empty_files: int = 1
    id: str = EXPORT_ID
    table_arn: str = TABLE_ARN
    table_id: str | None = TABLE_ID
    checksum_suffix: str | None = ".md5"
    seed: int = 1
    summary: dict[str, Any] = field(default_factory=dict)
    line: dict[str, Any] = field(default_factory=dict)  # fields of the first line of manifest-files.json
    data: dict[int, bytes] = field(default_factory=dict)

    def full(self, bucket: Path, items: Sequence[Item]) -> Path:
        """A full export below `bucket`; its folder."""
        lines = [_line({"Item": self._shuffled(item)}) for item in items]
        return self._write(bucket, lines, {"exportTime": EXPORT_TIME}, f"{self._folder}/data")

    def incremental(self, bucket: Path, changes: Sequence[Change]) -> Path:
        """An incremental export below `bucket`; its folder. The data lies beside it, in the shared one."""
        said = {
            "exportFromTime": FROM_TIME,
            "exportToTime": TO_TIME,
            "outputView": "NEW_AND_OLD_IMAGES",
            "exportType": "INCREMENTAL_EXPORT",
            "version": "2023-08-01",
            "billedSizeBytes": 10_000_000,
        }
        return self._write(bucket, list(map(_change_line, changes)), said, f"{self._root}/data")

    @property
    def _root(self) -> str:
        return f"{self.prefix}/AWSDynamoDB" if self.prefix else "AWSDynamoDB"

    @property
    def _folder(self) -> str:
        return f"{self._root}/{self.id}"

    def _shuffled(self, item: Item) -> Item:
        names = sorted(item)
        random.Random(f"{self.seed} {item}").shuffle(names)
        return {name: item[name] for name in names}

    def _write(self, bucket: Path, lines: list[bytes], said: dict[str, Any], data_folder: str) -> Path:
        parts = [lines[number :: self.files] for number in range(self.files)] + [[]] * self.empty_files
        listed = []
        (bucket / data_folder).mkdir(parents=True, exist_ok=True)
        for number, part in enumerate(parts):
            name = base64.b32encode(hashlib.sha256(f"{self.id} {number}".encode()).digest())[:26].decode()
            key = f"{data_folder}/{name.lower()}.json.gz"
            content = gzip.compress(b"".join(part), mtime=0)
            assert part or len(content) == 20
            listed.append(
                {
                    "itemCount": len(part),
                    "md5Checksum": md5(content),
                    "etag": f"{hashlib.md5(content + b'part').hexdigest()}-1",
                    "dataFileS3Key": key,
                }
            )
            (bucket / key).write_bytes(self.data.get(number, content))
        listed[0] |= self.line
        folder = bucket / self._folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "_started").touch()
        summary = _removed(self._summary(len(lines)) | said | self.summary)
        self._manifest(folder / "manifest-files.json", b"".join(_line(each) for each in listed))
        self._manifest(folder / "manifest-summary.json", _line(summary).rstrip())
        return folder

    def _summary(self, items: int) -> dict[str, Any]:
        return {
            "version": "2020-06-30",
            "exportArn": f"{self.table_arn}/export/{self.id}",
            "startTime": "2026-01-14T10:18:50.622Z",
            "endTime": "2026-01-14T10:24:58.940Z",
            "tableArn": self.table_arn,
            "tableId": self.table_id,
            "s3Bucket": "bucket",
            "s3Prefix": self.prefix or None,
            "s3SseAlgorithm": "AES256",
            "s3SseKmsKeyId": None,
            "manifestFilesS3Key": f"{self._folder}/manifest-files.json",
            "billedSizeBytes": 0,
            "itemCount": items,
            "outputFormat": "DYNAMODB_JSON",
        }

    def _manifest(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        if self.checksum_suffix is not None:
            path.with_suffix(self.checksum_suffix).write_text(md5(content))


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def data_file(folder: Path, number: int = 0) -> Path:
    """A data file of the export in `folder`, in the manifest's order."""
    lines = (folder / "manifest-files.json").read_text().splitlines()
    name = json.loads(lines[number])["dataFileS3Key"].rpartition("/")[2]
    [found] = [*folder.parent.glob(f"data/{name}"), *folder.glob(f"data/{name}")]
    return found


def _change_line(change: Change) -> bytes:
    body: dict[str, Any] = {
        "Metadata": {"WriteTimestampMicros": {"N": str(change.written_us)}},
        "Keys": change.keys,
    }
    if change.old is not None:
        body["OldImage"] = change.old
    if change.new is not None:
        body["NewImage"] = change.new
    return _line(body)


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _removed(fields: dict[str, Any]) -> dict[str, Any]:
    """AWS writes null for two fields only; None takes any other away."""
    return {n: v for n, v in fields.items() if v is not None or n in ("s3Prefix", "s3SseKmsKeyId")}

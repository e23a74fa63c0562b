"""The comparison's parts as they are measured: a segment of both tables, an export's files through the spill.

Reads: the stub, an export made here. Writes: a spill directory. Never: parts other than production's.
"""

import base64
import gzip
import hashlib
import json
import random
import string
import uuid
from pathlib import Path
from typing import Any

from benchmarks.measure import Figures, Round, own_cpu_seconds, peak_memory_mb
from benchmarks.stub import SCAN_ITEMS, TABLE
from benchmarks.subjects import SCHEMA
from pipeline.aws import Connection, SideConfig, TableScanner
from pipeline.core.canonical import Digester
from pipeline.core.comparing.join import Join, JoinCounts
from pipeline.core.comparing.keys import KeyReader
from pipeline.core.comparing.pairs import PairComparer
from pipeline.core.model import Side
from pipeline.process import garbage
from pipeline.producers.export.buckets import bucket_count, join_bucket, sort_partition
from pipeline.producers.export.files import open_folder
from pipeline.producers.export.lines import read_items
from pipeline.producers.export.manifest import open_export
from pipeline.producers.export.spill import Spill, clear
from pipeline.producers.scan.segment import SegmentPair, SegmentReader

MAX_UNMATCHED_BYTES = 32 * 1024 * 1024
EXPORT_ITEMS = 60_000


def compare(url: str, tables: tuple[str, str], segment: int) -> Round:
    """A segment of both tables, read in step and joined."""
    scanners = [
        TableScanner(
            Connection(SideConfig("source", region="us-east-1", endpoint_url=url)), table, KeyReader(SCHEMA)
        )
        for table in tables
    ]
    pairs = PairComparer(Digester())
    garbage.freeze()

    def run() -> Figures:
        started = own_cpu_seconds()
        readers = {
            side: SegmentReader(scanner, segment, 9999) for side, scanner in zip(Side, scanners, strict=True)
        }
        pair = SegmentPair(readers, Join(pairs, MAX_UNMATCHED_BYTES))
        while not pair.finished:
            pair.step()
        assert pair.join.counts.equal == SCAN_ITEMS
        return {"us": (own_cpu_seconds() - started) / SCAN_ITEMS * 1e6}

    return run


def disjoint(url: str) -> Round:
    """Two tables of which no key meets its partner here: everything leaves as a suspect."""
    scanner = TableScanner(
        Connection(SideConfig("source", region="us-east-1", endpoint_url=url)), TABLE, KeyReader(SCHEMA)
    )
    pairs = PairComparer(Digester())
    garbage.freeze()

    def run() -> Figures:
        started = own_cpu_seconds()
        readers = {side: SegmentReader(scanner, segment, 9999) for segment, side in enumerate(Side)}
        pair = SegmentPair(readers, Join(pairs, MAX_UNMATCHED_BYTES))
        suspects = 0
        while not pair.finished:
            suspects += len(pair.step())
        assert suspects == 2 * SCAN_ITEMS
        return {
            "us": (own_cpu_seconds() - started) / suspects * 1e6,
            "memory_mb": peak_memory_mb("self"),
        }

    return run


def export(folders: tuple[Path, Path], spill_dir: Path) -> Round:
    """Both sides' exports: read and checked, sorted into buckets, joined. CPU per item and side."""
    keys, pairs = KeyReader(SCHEMA), PairComparer(Digester())
    garbage.freeze()

    def run() -> Figures:
        started = own_cpu_seconds()
        size = sum(path.stat().st_size for folder in folders for path in folder.rglob("*.gz"))
        spill = Spill(spill_dir / uuid.uuid4().hex, bucket_count(size * 4))
        parts: dict[Side, list[str]] = {side: [] for side in Side}
        for side, folder in zip(Side, folders, strict=True):
            files, start = open_folder(str(folder))
            for file in open_export(files, start).files:
                read = ((page.keys, page.items) for page in read_items(files, file, keys))
                sort_partition(read, spill.writer(side, file.path))
                parts[side].append(file.path)
        equal = sum(_joined(spill, bucket, pairs, parts).equal for bucket in range(spill.buckets))
        clear(spill.directory)
        assert equal == EXPORT_ITEMS
        return {
            "us": (own_cpu_seconds() - started) / EXPORT_ITEMS / 2 * 1e6,
            "memory_mb": peak_memory_mb("self"),
        }

    return run


def _joined(spill: Spill, bucket: int, pairs: PairComparer, parts: dict[Side, list[str]]) -> JoinCounts:
    join = Join(pairs, MAX_UNMATCHED_BYTES)
    assert not list(join_bucket(spill, bucket, join, parts))
    return join.counts


def make_export(folder: Path, seed: int) -> Path:
    """An export of EXPORT_ITEMS items in four files, as AWS lays it out; the seed gives the orders.

    Items of about 400 B, whose texts do not repeat: what repeats would be unzipped too cheaply.
    """
    order = random.Random(seed)
    numbers = list(range(EXPORT_ITEMS))
    order.shuffle(numbers)
    lines = [_line({"Item": _shuffled(_item(number), order)}) for number in numbers]
    export_id = "01768385930622-efd1a093"
    base = folder / "AWSDynamoDB" / export_id
    (base / "data").mkdir(parents=True)
    listed = []
    for number in range(4):
        part = lines[number::4]
        content = gzip.compress(b"".join(part), 6, mtime=0)
        key = f"AWSDynamoDB/{export_id}/data/file{number}.json.gz"
        (folder / key).write_bytes(content)
        listed.append(_line({"itemCount": len(part), "md5Checksum": _md5(content), "dataFileS3Key": key}))
    summary = {
        "tableArn": "arn:aws:dynamodb:us-east-1:123456789012:table/bench",
        "itemCount": EXPORT_ITEMS,
        "outputFormat": "DYNAMODB_JSON",
        "manifestFilesS3Key": f"AWSDynamoDB/{export_id}/manifest-files.json",
        "exportTime": "2026-01-14T10:18:50.622Z",
    }
    for name, content in (("files", b"".join(listed)), ("summary", _line(summary))):
        (base / f"manifest-{name}.json").write_bytes(content)
        (base / f"manifest-{name}.md5").write_text(_md5(content))
    return base


def _item(number: int) -> dict[str, Any]:
    texts = random.Random(number)

    def text(length: int) -> str:
        return "".join(texts.choices(string.ascii_lowercase, k=length))

    return {
        "pk": {"S": f"user#{number:010d}"},
        "name": {"S": f"{text(7).title()} {text(9).title()}"},
        "email": {"S": f"{text(8)}.{text(6)}@example.com"},
        "revision": {"N": str(number % 7)},
        "balance": {"N": f"{texts.randrange(1, 10**6)}.{texts.randrange(1, 10)}"},
        "active": {"BOOL": True},
        "roles": {"SS": ["admin", "editor"]},
        "address": {"M": {"city": {"S": text(11).title()}, "zip": {"S": f"{texts.randrange(10**5):05d}"}}},
        "note": {"S": text(110)},
    }


def _shuffled(item: dict[str, Any], order: random.Random) -> dict[str, Any]:
    names = list(item)
    order.shuffle(names)
    return {name: item[name] for name in names}


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()

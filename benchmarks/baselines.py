"""The baselines: what a plain boto3 program costs that does the same work.

Reads: the stub. Writes: nothing. Never: anything of the monitor's own; these are written as its users would.

They are kept cheap on purpose: one thread, no logging, no error handling, no state. What is read is compared
by digests, as whoever has only the digest of what is expected must do (nor is `==` of two items enough:
sets come in any order, and 1 is 1.0). What is expected is known beforehand and costs nothing.
"""

import gzip
import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.measure import Figures, Round, own_cpu_seconds
from benchmarks.stub import PARTITION_KEY, SCAN_ITEMS, STREAM_ARN, TABLE, shard_id

#: The seed tool: pages of 100, one second after every page, a GetItem for every record.
SEED_PAGE_RECORDS, SEED_PAUSE_SECONDS = 100, 1.0

Record = dict[str, Any]


def reader(url: str, percent: float, pages: int) -> Round:
    """get_records, and of a sample of the keys the digests of both images."""
    records_of = _pages(url)
    kept_below = int(percent / 100 * 2**64)

    def run() -> Figures:
        started, read = own_cpu_seconds(), 0
        for _ in range(pages):
            page = next(records_of)
            read += len(page)
            for record in page:
                change = record["dynamodb"]
                key = json.dumps(change["Keys"], sort_keys=True).encode()
                if int.from_bytes(hashlib.sha256(key).digest()[:8], "big") < kept_below:
                    for image in ("OldImage", "NewImage"):
                        if image in change:
                            digest(change[image])
        return {"us": (own_cpu_seconds() - started) / read * 1e6}

    return run


def digest(item: Record) -> bytes:
    """Equal for equal items: sets in order, numbers by value, attributes sorted."""
    canonical = {name: _canonical(value) for name, value in item.items()}
    text = json.dumps(canonical, sort_keys=True, default=lambda binary: binary.hex())
    return hashlib.sha256(text.encode()).digest()[:16]


def _canonical(value: Record) -> Record:
    ((tag, content),) = value.items()
    if tag == "N":
        return {tag: str(Decimal(content).normalize())}
    if tag == "NS":
        return {tag: sorted(str(Decimal(number).normalize()) for number in content)}
    if tag in ("SS", "BS"):
        return {tag: sorted(content)}
    if tag == "L":
        return {tag: [_canonical(member) for member in content]}
    if tag == "M":
        return {tag: {name: _canonical(member) for name, member in content.items()}}
    return value


def get_item(url: str, keys: int) -> Round:
    """get_item for each key, compared with the stream's image."""
    table = _client("dynamodb", url)
    expected = _expected(_pages(url), keys)

    def run() -> Figures:
        started = own_cpu_seconds()
        for key, wanted in expected:
            assert digest(table.get_item(TableName=TABLE, Key=key)["Item"]) == wanted
        return {"us": (own_cpu_seconds() - started) / len(expected) * 1e6}

    return run


def batch_get_item(url: str, keys: int) -> Round:
    """batch_get_item of 100, each compared with the stream's image."""
    table = _client("dynamodb", url)
    expected = _expected(_pages(url), keys)

    def run() -> Figures:
        started = own_cpu_seconds()
        for first in range(0, len(expected), 100):
            part = expected[first : first + 100]
            answer = table.batch_get_item(RequestItems={TABLE: {"Keys": [key for key, _ in part]}})
            items = {item[PARTITION_KEY]["S"]: item for item in answer["Responses"][TABLE]}
            for key, wanted in part:
                assert digest(items[key[PARTITION_KEY]["S"]]) == wanted
        return {"us": (own_cpu_seconds() - started) / len(expected) * 1e6}

    return run


def pipeline(url: str, changes: int) -> Round:
    """get_records, and for each record get_item, compared."""
    table, records_of = _client("dynamodb", url), _pages(url, changes)

    def run() -> Figures:
        started = own_cpu_seconds()
        page = next(records_of)
        for record in page:
            assert _equal(table, record)
        return {"us": (own_cpu_seconds() - started) / len(page) * 1e6}

    return run


def compare(url: str, tables: tuple[str, str], segment: int) -> Round:
    """Both scans of a segment by paginator, joined in a dict, compared by sorted JSON."""
    scans = _client("dynamodb", url).get_paginator("scan")

    def items(table: str) -> Iterator[Record]:
        for page in scans.paginate(TableName=table, Segment=segment, TotalSegments=9999):
            yield from page["Items"]

    def run() -> Figures:
        started = own_cpu_seconds()
        source = {item[PARTITION_KEY]["S"]: item for item in items(tables[0])}
        pairs = 0
        for item in items(tables[1]):
            pairs += _sorted_json(item) == _sorted_json(source.pop(item[PARTITION_KEY]["S"]))
        assert pairs == SCAN_ITEMS and not source
        return {"us": (own_cpu_seconds() - started) / pairs * 1e6}

    return run


def export(path: Path) -> Round:
    """A data file of an export: unzipped, parsed, a digest of each item's sorted JSON."""

    def run() -> Figures:
        started, digests = own_cpu_seconds(), set()
        with gzip.open(path) as lines:
            for line in lines:
                digests.add(hashlib.sha256(_sorted_json(json.loads(line)["Item"]).encode()).digest())
        return {"us": (own_cpu_seconds() - started) / len(digests) * 1e6}

    return run


def _sorted_json(item: Record) -> str:
    return json.dumps(item, sort_keys=True)


def seed_loop(url: str, shards: int, seconds: float) -> Round:
    """The seed tool's loop, a thread for each shard (it has five at most): changes/s."""
    table = _client("dynamodb", url, pool_size=shards)

    def read_shard(shard: int) -> int:
        records_of, checked = _pages(url, SEED_PAGE_RECORDS, shard), 0
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for record in next(records_of):
                checked += _equal(table, record)
            time.sleep(SEED_PAUSE_SECONDS)
        return checked

    def run() -> Figures:
        started = time.monotonic()
        with ThreadPoolExecutor(shards) as pool:
            checked = sum(pool.map(read_shard, range(shards)))
        return {"changes_per_second": checked / (time.monotonic() - started)}

    return run


def _client(service: str, url: str, pool_size: int = 10) -> Any:
    return boto3.client(service, endpoint_url=url, config=Config(max_pool_connections=pool_size))


def _pages(url: str, limit: int = 1000, shard: int = 0) -> Iterator[list[Record]]:
    streams = _client("dynamodbstreams", url)
    iterator = streams.get_shard_iterator(
        StreamArn=STREAM_ARN, ShardId=shard_id(shard), ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    while True:
        answer = streams.get_records(ShardIterator=iterator, Limit=limit)
        yield answer["Records"]
        iterator = answer["NextShardIterator"]


def _expected(pages: Iterator[list[Record]], count: int) -> list[tuple[Record, bytes]]:
    """Keys, and the digests of their newest images."""
    found: list[tuple[Record, bytes]] = []
    while len(found) < count:
        found += [(each["dynamodb"]["Keys"], digest(each["dynamodb"]["NewImage"])) for each in next(pages)]
    return found[:count]


def _equal(table: Any, record: Record) -> bool:
    change = record["dynamodb"]
    answer = table.get_item(TableName=TABLE, Key=change["Keys"])
    return digest(answer["Item"]) == digest(change["NewImage"])

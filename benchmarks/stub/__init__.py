"""The stub that stands for AWS: compiled here with the machine's C compiler, run as a process of its own.

Reads: stub.c. Writes: the binary, into a directory of its own under the temporary one. Never: a fixed port, a
process that outlives this one.
"""

import atexit
import contextlib
import functools
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).with_name("stub.c")
TABLE = "bench"
STREAM_ARN = f"arn:aws:dynamodb:us-east-1:123456789012:table/{TABLE}/stream/2026-01-01T00:00:00.000"
#: A table of the same items with their attributes in another order.
REORDERED_TABLE = "bench-reordered"
#: In each segment of either table, as in stub.c.
SCAN_ITEMS = 25_000
PARTITION_KEY = "pk"
#: What boto3 needs to sign with; the stub does not look.
AWS_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


class NoCompiler(Exception):
    """There is no C compiler on this machine."""


@functools.cache
def build() -> Path:
    """The stub's binary, compiled once a run. Raises NoCompiler, CalledProcessError."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompiler("the benchmarks compile a small C program: install gcc or clang")
    directory = tempfile.TemporaryDirectory(prefix="ddbmm-stub-")
    atexit.register(directory.cleanup)
    binary = Path(directory.name) / "stub"
    subprocess.run([compiler, "-O2", "-Wall", "-pthread", "-o", binary, SOURCE, "-lm"], check=True)
    return binary


@contextlib.contextmanager
def serve(
    *,
    shards: int = 8,
    records: int = 0,
    item_bytes: int = 400,
    page_bytes: int = 0,
    latency_ms: int = 0,
    gated: bool = False,
    rate: int = 0,
    dated: bool = False,
    **scan: int,
) -> Iterator["Stub"]:
    """A running stub. records: in each shard, 0 = endless. page_bytes: 0 = pages of 1000 records of any size.

    gated: no record is there before `Stub.begin`. rate: records/s that then appear in each shard, 0 = all.
    dated: answers carry a Date header, as AWS's do; without it everything asks for the time once a second.
    scan: what a scan shows: scan_items, reordered, lacks, apart, collection (see stub.c).
    """
    options = {
        "parent": os.getpid(),
        "shards": shards,
        "records": records,
        "item-bytes": item_bytes,
        "page-bytes": page_bytes,
        "latency-us": latency_ms * 1000,
        "gated": int(gated or rate > 0),
        "rate": rate,
        "dated": int(dated),
        **{name.replace("_", "-"): value for name, value in scan.items()},
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with subprocess.Popen([str(build()), *words], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield Stub(process.pid, int(process.stdout.readline()))
        finally:
            process.kill()


class Stub:
    """Where a stub listens."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.url = f"http://127.0.0.1:{port}"

    def begin(self) -> float:
        """Open the gate; the Unix time at which the records begin to appear."""
        request = urllib.request.Request(self.url, b"{}", {"X-Amz-Target": "Stub.Begin"})
        with urllib.request.urlopen(request) as answer:
            return float(json.load(answer)["begun"])


def key_of(shard: int, record: int) -> str:
    """The key text that a record is about."""
    return f"user#{shard:04d}{record:06d}"


def shard_id(shard: int) -> str:
    return f"shardId-{shard:020d}-aabbccdd"

"""What a comparison is made of in a test: two tables, planted truth, and the command as an operator runs it.

Reads and writes: tables of the fake or of an emulator; real processes. Never: the code under test.
"""

import base64
import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3

from tests import servers
from tests.exports import Change, ExportWriter
from tests.system import CONVERGE, REGION, STABLE, Table

#: Every way to lose or spoil what nobody writes any more: key → (source, target), and the finding.
PLANTED: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None, str]] = {
    "missing": ({"v": {"S": "a"}}, None, "missing"),
    "extra": (None, {"v": {"S": "a"}}, "extra"),
    "different": ({"v": {"S": "a"}}, {"v": {"S": "b"}}, "different"),
    "type": ({"v": {"S": "1"}}, {"v": {"N": "1"}}, "different"),
    "nested": ({"v": {"M": {"x": {"N": "1"}}}}, {"v": {"M": {"x": {"N": "2"}}}}, "different"),
    "respelled": ({"v": {"N": "10"}}, {"v": {"N": "1E1"}}, ""),
    "reordered": ({"v": {"SS": ["a", "b"]}}, {"v": {"SS": ["b", "a"]}}, ""),
    "expired": ({"v": {"S": "a"}, "expires": {"N": "PAST"}}, None, ""),
}
COLD = 200


class Tables:
    """A source and a target that a comparison is made of."""

    def __init__(self, directory: Path, source: Table, target: Table, redis_url: str = "") -> None:
        self.source, self.target, self.log = source, target, directory / "compare.log"
        self.migration = f"cmp-{uuid.uuid4().hex[:12]}"
        self.redis_url, self.state_dir = redis_url, directory / "state"
        self.words = [
            *("--migration", self.migration, "--source-table", source.name, "--target-table", target.name),
            *("--source-endpoint-url", source.url + "/", "--target-endpoint-url", target.url),
            *("--region", REGION, "--converge-within", CONVERGE, "--stable-for", STABLE),
            *("--metrics-port", "0", "--log-format", "json", "--reclaim-after", "2s", "--json"),
            *(("--redis-url", redis_url) if redis_url else ("--state-dir", str(self.state_dir))),
        ]

    def fill(self, items: int = COLD) -> None:
        for number in range(items):
            for table in (self.source, self.target):
                table.put({"pk": {"S": f"cold-{number}"}, "v": {"N": str(number)}})

    def plant(self) -> dict[str, str]:
        """What has to be found."""
        past = str(int(time.time()) - 100_000)
        for key, (source, target, _) in PLANTED.items():
            for table, item in ((self.source, source), (self.target, target)):
                if item is not None:
                    shown = {"N": past} if "expires" in item else {"N": "1"}
                    table.put({"pk": {"S": key}, **item, **({"expires": shown} if "expires" in item else {})})
        return {key: kind for key, (_, _, kind) in PLANTED.items() if kind}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "pipeline.cli", words[0], *self.words, *words[1:]]

    def compare(self, *options: str) -> tuple[int, dict[str, Any]]:
        done = subprocess.run(
            self.command("compare", *options), capture_output=True, text=True, timeout=120, check=False
        )
        lines = done.stdout.splitlines()
        assert lines, done.stderr[-3000:]
        return done.returncode, json.loads(lines[-1])

    def refused(self, *options: str) -> tuple[int, str]:
        done = subprocess.run(
            self.command("compare", *options), capture_output=True, text=True, timeout=120, check=False
        )
        return done.returncode, done.stderr

    @contextlib.contextmanager
    def comparing(self, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
        with servers.process(self.command("compare", *options), log=self.log, env=dict(os.environ)) as child:
            yield child

    def pids(self, slot: str) -> list[int]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [one["pid"] for one in lines if one.get("event") == "process started" and one["slot"] == slot]

    def findings(self) -> dict[str, str]:
        done = subprocess.run(
            self.command("findings", "--show-keys"), capture_output=True, text=True, timeout=60, check=False
        )
        found = [json.loads(line) for line in done.stdout.splitlines()]
        return {one["key"]["pk"]["S"]: one["kind"] for one in found}


def items_of(table: Table) -> list[dict[str, Any]]:
    """All that a table holds, as wire JSON."""
    client = boto3.client("dynamodb", endpoint_url=table.url, region_name=REGION)
    pages = client.get_paginator("scan").paginate(TableName=table.name)
    return [wire(item) for page in pages for item in page["Items"]]


def arn_of(table: Table) -> str:
    arn: str = _described(table)["TableArn"]
    return arn


def _described(table: Table) -> Any:
    client = boto3.client("dynamodb", endpoint_url=table.url, region_name=REGION)
    return client.describe_table(TableName=table.name)["Table"]


def _names(table: Table) -> dict[str, Any]:
    """What an export calls its table; an emulator may know no id."""
    described = _described(table)
    return {"table_arn": described["TableArn"], "table_id": described.get("TableId")}


def wire(value: Any) -> Any:
    """boto3 gives binaries as bytes."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: wire(one) for name, one in value.items()}
    return [wire(one) for one in value] if isinstance(value, list) else value


def instant(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def exported(table: Table, directory: Path, items: list[dict[str, Any]] | None = None, **writer: Any) -> Path:
    """A full export of a table as it is (or of `items`), with its time; writer: traps of the layout."""
    summary = {"exportTime": instant(time.time() * 1000), **writer.pop("summary", {})}
    made = ExportWriter(**{**_names(table), "summary": summary, **writer})
    return made.full(directory, items_of(table) if items is None else items)


def changes_of(table: Table, directory: Path, keys: list[str], from_ms: float, to_ms: float) -> Path:
    """An incremental export of a table: these keys changed."""
    window = {"exportFromTime": instant(from_ms), "exportToTime": instant(to_ms)}
    made = ExportWriter(**_names(table), summary=window)
    return made.incremental(directory, [Change({"pk": {"S": key}}, {"pk": {"S": key}}) for key in keys])

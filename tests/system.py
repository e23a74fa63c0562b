"""The whole program from outside: real processes, a real server, two tables that a test writes into."""

import base64
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import boto3

from pipeline.errors import StoreError
from tests import servers
from tests.fake import Fake, FakeProcess
from tests.whole_store import watch

#: Quick enough for a test, slow enough for a replica that is a second behind.
CONVERGE, STABLE = "3s", "1s"
REGION = "us-east-1"

#: Wire JSON: `{"pk": {"S": "a"}}`, binaries as base64 text.
Item = dict[str, Any]


class Table(Protocol):
    """One table as a writer reaches it."""

    url: str
    name: str

    def put(self, item: Item) -> None: ...
    def delete(self, key: Item) -> None: ...


class FakeTable:
    """A table of the fake, which exists already."""

    def __init__(self, fake: Fake | FakeProcess, name: str) -> None:
        self.url, self.name = fake.url, name
        self._steer = fake.steer

    def put(self, item: Item) -> None:
        self._steer("put", table=self.name, item=item)

    def delete(self, key: Item) -> None:
        self._steer("delete", table=self.name, key=key)


class RealTable:
    """A new table of an emulator. keys: name → S, N or B, partition key first; view: the stream's, if any."""

    def __init__(self, url: str, name: str, keys: Mapping[str, str], view: str | None = None) -> None:
        self.url, self.name = url, name
        self._client = boto3.client("dynamodb", endpoint_url=url, region_name=REGION)
        kinds = zip(keys, ("HASH", "RANGE"), strict=False)
        stream = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": view}} if view else {}
        self._client.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in kinds],
            AttributeDefinitions=[
                {"AttributeName": key, "AttributeType": type_} for key, type_ in keys.items()
            ],
            BillingMode="PAY_PER_REQUEST",
            **stream,
        )

    def put(self, item: Item) -> None:
        self._client.put_item(TableName=self.name, Item=_for_boto3(item))

    def delete(self, key: Item) -> None:
        self._client.delete_item(TableName=self.name, Key=_for_boto3(key))


def _for_boto3(item: Item) -> Item:
    """boto3 takes binaries as bytes. Only top-level ones are translated: no test needs others."""
    return {
        name: {"B": base64.b64decode(value["B"])} if "B" in value else value for name, value in item.items()
    }


def string_key(name: str) -> Item:
    return {"pk": {"S": name}}


class System:
    """A migration from one table to another. The test plays writer and replicator through `write`."""

    def __init__(
        self,
        directory: Path,
        redis_url: str,
        source: Table,
        target: Table,
        migration: str,
        *options: str,
        key: Callable[[str], Item] = string_key,
        also: Item | None = None,
        verify_on: str = "target",
    ) -> None:
        """key: the wire key of a name that the test uses. also: attributes that every item has."""
        self.log = directory / f"{migration}.log"
        self.tables = source, target
        self.source: dict[str, str | None] = {}
        self.target: dict[str, str | None] = {}
        self.older: dict[str, set[str]] = {}
        self.writes = 0  # change records that the origin's stream must hold
        self.store = watch(redis_url, migration)
        self._key, self._also = key, also or {}
        self._names: dict[str, str] = {}
        self._sides = (("source", source, self.source), ("target", target, self.target))
        self._origin = "source" if verify_on == "target" else "target"
        self._state = [
            *("--migration", migration, "--redis-url", redis_url, "--target-table", target.name),
            *("--log-format", "json"),
        ]
        self._options = [
            *("--source-table", source.name, "--region", REGION, "--verify-on", verify_on),
            *("--source-endpoint-url", source.url + "/", "--target-endpoint-url", target.url),
            *("--converge-within", CONVERGE, "--stable-for", STABLE, "--iterator-type", "TRIM_HORIZON"),
            *("--reclaim-after", "2s", "--statistics-every", "1s", "--metrics-port", "0", *options),
        ]

    # --- the world -----------------------------------------------------------------------------------------

    def write(self, key: str, value: str | None, replica: str | None = "same") -> None:
        """Write `value` (None: delete) to the source, `replica` to the target ("none" = nothing)."""
        before = self.source.get(key)
        if before is not None:
            self.older.setdefault(key, set()).add(before)
        self._put(0, key, value)
        if replica != "none":
            self.replicate(key, value if replica == "same" else replica)

    def replicate(self, key: str, value: str | None) -> None:
        """Write to the target alone."""
        self._put(1, key, value)

    def _put(self, which: int, name: str, value: str | None) -> None:
        side, table, held = self._sides[which]
        before = held.get(name)
        held[name] = value
        if value == before:
            return  # DynamoDB makes no change record of it
        key = self._key(name)
        self._names[_text(key)] = name
        if value is None:
            table.delete(key)
        else:
            table.put({**key, **self._also, "value": {"S": value}})
        self.writes += side == self._origin

    def truth(self) -> dict[str, str]:
        """Every key that diverges now, and how."""
        return {key: kind for key in self.source if (kind := self._kind(key)) is not None}

    def _kind(self, key: str) -> str | None:
        source, target = self.source[key], self.target.get(key)
        if source == target:
            return None
        if target is None:
            return "missing"
        if source is None:
            return "extra"
        return "stale" if target in self.older.get(key, ()) else "different"

    # --- the program ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def running(self, role: str = "run", *options: str) -> Iterator["subprocess.Popen[bytes]"]:
        command = [sys.executable, "-m", "pipeline.cli", role, *self._state, *self._options, *options]
        with servers.process(command, log=self.log_of(role), env=dict(os.environ)) as child:
            yield child

    def log_of(self, role: str) -> Path:
        return self.log if role == "run" else self.log.with_suffix(f".{role}.log")

    def compared(self) -> dict[str, Any]:
        """The object that `compare --json` printed last."""
        return dict(json.loads(self.log_of("compare").read_text().splitlines()[-1]))

    def pids(self, slot: str, role: str = "run") -> list[int]:
        """Every process that has played `slot`, oldest first."""
        return [line["pid"] for line in self.logged("process started", role) if line["slot"] == slot]

    def logged(self, event: str, role: str = "run") -> list[dict[str, Any]]:
        """The log lines of one event."""
        return [line for line in self._lines(role) if line.get("event") == event]

    def _lines(self, role: str = "run") -> Iterator[dict[str, Any]]:
        log = self.log_of(role)
        for line in log.read_text().splitlines() if log.exists() else ():
            with contextlib.suppress(ValueError):
                yield json.loads(line)

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "pipeline.cli", *words, *self._state]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.command("status", "--json").stdout))

    def findings(self) -> dict[str, str]:
        """key → kind, of every open finding; a key that nobody planted stands for itself."""
        lines = self.command("findings", "--json", "--show-keys").stdout.splitlines()
        found = [(_text(one["key"]), one["kind"]) for one in map(json.loads, lines)]
        assert len(dict(found)) == len(found)
        return {self._names.get(key, key): kind for key, kind in found}

    def at_rest(self) -> dict[str, Any] | None:
        """The status once every change written is judged, else None."""
        with contextlib.suppress(StoreError):  # asked here first: a command costs half a second
            ledger = self.store.ledger()
            if ledger.records_read == self.writes and ledger.outstanding == 0:
                return self.status()
        return None


def _text(key: Item) -> str:
    return json.dumps(key, sort_keys=True)


def balanced(status: dict[str, Any]) -> bool:
    """The accounting identity, from what `status --json` shows."""
    ledger = status["ledger"]
    accounted = sum(
        ledger[term] for term in ("reached", "alarmed", "expired", "indeterminate", "dead", "outstanding")
    )
    return (
        ledger["records_read"] + ledger["suspects_published"]
        == ledger["not_sampled"] + ledger["versions_published"]
        and ledger["versions_published"] == accounted
    )

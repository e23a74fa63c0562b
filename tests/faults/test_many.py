"""Twenty migrations in one set of processes: hot, gone, absent, refused, hanging, of 1,000 shards, and quiet.

None of them takes another with it, or has others wait; each has its own truth.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest

from pipeline.store import StoreView
from tests import servers
from tests.fake import FakeProcess
from tests.faults import accounts
from tests.servers import eventually
from tests.system import CONVERGE, REGION, STABLE, FakeTable, string_key
from tests.whole_store import watch

#: The key that each quiet one lacks.
MISSING = "missing"
HOT, GONE, REFUSED, WIDE, ABSENT = "hot", "gone", "refused", "wide", "absent"
HANGING = "hanging"
#: In sync but for one key each, and written to now and then.
QUIET = [f"quiet-{number}" for number in range(14)]
SHARDS, HANGING_SHARDS = 1_000, 50
#: Rounds of a write to each quiet one; a write of so many keys to the hot one each time.
ROUNDS, HOT_KEYS = 25, 300
ROUND_SECONDS = 1.0


class Many:
    """Twenty migrations, the program on all of them, and what a test writes."""

    def __init__(
        self, directory: Path, redis_url: str, fake: FakeProcess, other: FakeProcess, mute: FakeProcess
    ) -> None:
        """other: where the target of the refused one is. mute: where both tables of the hanging one are."""
        self.names = [HOT, GONE, REFUSED, WIDE, ABSENT, HANGING, *QUIET]
        self.log = directory / "many.log"
        self.fake, self.other, self.mute, self.url = fake, other, mute, redis_url
        self.written: dict[tuple[str, str], float] = {}  # migration, key → Unix time
        self._file = directory / "many.yml"
        for name in self.names:
            shards = SHARDS if name == WIDE else 1
            fake.steer("create_table", name=name, view="NEW_AND_OLD_IMAGES", shards=shards)
            if name != ABSENT:
                fake.steer("create_table", name=f"{name}-copy")
        mute.steer("create_table", name=HANGING, view="NEW_AND_OLD_IMAGES", shards=HANGING_SHARDS)
        mute.steer("create_table", name=f"{HANGING}-copy")
        other.steer("create_table", name=f"{REFUSED}-copy")
        other.steer("fail", kind="access_denied", operation="BatchGetItem", calls=None)
        entries = {name: {"target-table": f"{name}-copy", "source-table": name} for name in self.names}
        entries[REFUSED]["target-endpoint-url"] = other.url
        entries[HANGING] |= {"source-endpoint-url": mute.url, "target-endpoint-url": mute.url}
        self._file.write_text(json.dumps(self._defaults() | {"migrations": entries}))

    def _defaults(self) -> dict[str, Any]:
        return {
            "redis-url": self.url,
            "region": REGION,
            "workers": 2,
            "metrics-port": 0,
            "verbose": True,
            "source-endpoint-url": self.fake.url,
            "target-endpoint-url": self.fake.url,
            "iterator-type": "TRIM_HORIZON",
            "converge-within": CONVERGE,
            "stable-for": STABLE,
            "reclaim-after": "2s",
            "statistics-every": "1s",
            "log-format": "json",
        }

    @contextlib.contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        command = [sys.executable, "-m", "pipeline.cli", "run", "--config", str(self._file)]
        with servers.process(command, log=self.log, env=dict(os.environ)) as child:
            yield child

    def lines(self, event: str) -> Iterator[dict[str, Any]]:
        for line in self.log.read_text().splitlines() if self.log.exists() else ():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("event") == event:
                    yield entry

    def write(self, migration: str, key: str, value: str, *, copy: bool = True) -> None:
        item = {**string_key(key), "value": {"S": value}}
        if copy:
            FakeTable(self.fake, f"{migration}-copy").put(item)
        FakeTable(self.fake, migration).put(item)
        self.written[migration, key] = time.time()

    def served(self) -> dict[tuple[str, str], float]:
        """(migration, role) → 1 or 0, as exported."""
        if not (line := next(self.lines("metrics served"), None)):
            return {}
        with urllib.request.urlopen(line["url"]) as answer:
            text = answer.read().decode()
        samples = re.findall(r"^ddbmm_migration_served\{(.+)\} (\S+)$", text, re.MULTILINE)
        labelled = [(dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)) for labels, value in samples]
        return {(labels["migration"], labels["expected_role"]): value for labels, value in labelled}

    def delays(self) -> list[float]:
        """From a write to the verdict, of what is in sync in the quiet ones."""
        hashes = {
            watched.key_hash(f'"{key}"'.encode()): at
            for name in QUIET
            if (watched := StoreView.open(self.url, name)) is not None
            for (migration, key), at in self.written.items()
            if migration == name and key != MISSING
        }
        judged = {one["key"]: one["timestamp"] for one in reversed(list(self.lines("verdict")))}
        return [
            datetime.fromisoformat(judged[key]).timestamp() - at
            for key, at in hashes.items()
            if key in judged
        ]


@pytest.fixture
def many(tmp_path: Path, valkey_url: str) -> Iterator[Many]:
    with FakeProcess() as fake, FakeProcess() as other, FakeProcess() as mute:
        yield Many(tmp_path, valkey_url, fake, other, mute)


@pytest.mark.slow
def test_twenty_migrations_do_not_wait_for_the_worst_of_them(many: Many) -> None:
    """Delays are told in the table, and not asserted; each migration's findings are its own truth."""
    with many.running():
        roles = ("reader", "validator")
        well = {(name, role) for name in many.names if name != ABSENT for role in roles}
        eventually(lambda: _goes_well(many) == well, 120, "all that can be are taken up")
        there = [watch(many.url, name) for name in many.names if name != ABSENT]
        eventually(lambda: all(store.partitions() for store in there), 120, "all are read")
        for name in (GONE, REFUSED, *QUIET):
            many.write(name, MISSING, "x", copy=False)
        eventually(lambda: watch(many.url, GONE).ledger().records_read, 60)
        many.mute.steer("fill", table=HANGING, count=HOT_KEYS)
        for operation in ("GetRecords", "BatchGetItem", "DescribeStream"):
            many.mute.steer("fail", kind="stall", operation=operation, calls=None)
        for name in (GONE, f"{GONE}-copy"):
            many.fake.steer("delete_table", table=name)
        _traffic(many)
        for name in (*QUIET, HOT, WIDE):
            _settled(many, name)
        not_well = {(GONE, "validator"), (REFUSED, "validator")}
        eventually(lambda: _goes_well(many) == well - not_well, 90, "who is refused is exported")
        p99 = quantiles(many.delays(), n=100)[98]
        accounts.ROWS.append(_row(many, f"twenty migrations, p99 of those that nothing befell {p99:.1f} s"))
        many.other.steer("clear_faults")
        many.fake.steer("create_table", name=f"{ABSENT}-copy")
        well |= {(ABSENT, role) for role in roles}
        eventually(
            lambda: _goes_well(many) == well - {(GONE, "validator")}, 120, "what was put right is served"
        )
        eventually(lambda: sum(watch(many.url, REFUSED).ledger().open.values()) == 1, 60)
    assert {one["migration"] for one in many.lines("migration is not served")} == {GONE, REFUSED, ABSENT}


def _goes_well(many: Many) -> set[tuple[str, str]]:
    return {who for who, served in many.served().items() if served == 1.0}


def _traffic(many: Many) -> None:
    """A write to each quiet migration a second, and hundreds to the hot one."""
    for number in range(ROUNDS):
        began = time.monotonic()
        many.fake.steer(
            "fill", table=HOT, count=HOT_KEYS, mirror=f"{HOT}-copy", start=HOT_KEYS * number, streamed=True
        )
        for name in (*QUIET, WIDE):
            many.write(name, f"key-{number}", "x")
        threading.Event().wait(max(0.0, began + ROUND_SECONDS - time.monotonic()))


def _settled(many: Many, name: str) -> None:
    store = watch(many.url, name)
    writes = HOT_KEYS * ROUNDS if name == HOT else sum(one == name for one, _ in many.written)
    wrong = 1 if name in QUIET else 0

    def judged() -> bool:
        ledger = store.ledger()
        return ledger.records_read == writes and not ledger.outstanding

    eventually(judged, 120, f"every change of {name} judged")
    accounts.assert_books_balance(store)
    assert sum(store.ledger().open.values()) == wrong, f"{name}: {list(store.findings())}"
    assert store.ledger().recovered == 0


def _row(many: Many, case: str) -> accounts.Row:
    stores = [watch(many.url, name) for name in (*QUIET, HOT, WIDE)]
    published = sum(store.ledger().versions_published for store in stores)
    return accounts.Row(case, 0, published, 0, 0, 0, 0)

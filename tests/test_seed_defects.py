"""What the first tool of this kind got wrong (research on peers, 1 to 10), one test or more for each defect.

Most look at the running program from outside; where the defect was one component's, at that component.
"""

import contextlib
import functools
import hashlib
import json
import re
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline import metrics
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.canonical import Digester
from pipeline.core.model import SideConfig, StreamView
from pipeline.demo import datadel, datagen
from pipeline.producers.stream.position import Position
from pipeline.reader.role import run_reader
from pipeline.store import ValidatorStore, codec
from pipeline.store.messages import Claim
from tests.fake import Fake, Kind
from tests.servers import ROOT, eventually
from tests.system import FakeTable, Item, System, balanced
from tests.whole_store import watch

WRONG, LACKING, RIGHT, DELETES = 50, 20, 25, 5


# --- one migration between two accounts, running while the tests look at it ---------------------------------


@dataclass
class Migration:
    """From `orders` in one account and region to `orders-v2` in another.

    shards, status: when everything planted at the beginning was judged; tests write more, in any order.
    """

    old: Fake
    new: Fake
    arn: str
    system: System
    shards: list[dict[str, Any]] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)

    def at_rest(self) -> dict[str, Any]:
        return eventually(self.system.at_rest, 60)


def numbered_key(name: str) -> Item:
    """`7/10`: partition key 7, sort key 10."""
    pk, sk = name.split("/")
    return {"pk": {"N": pk}, "sk": {"N": sk}}


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> Iterator[System]:
    """A running migration of a table with number keys: two faults are planted."""
    with Fake() as fake:
        for name, view in (("source", "NEW_AND_OLD_IMAGES"), ("target", None)):
            fake.control.create_table(name, partition_type="N", sort_key="sk", sort_type="N", view=view)
        tables = FakeTable(fake, "source"), FakeTable(fake, "target")
        name = f"numbers-{uuid.uuid4().hex[:12]}"
        system = System(
            tmp_path_factory.mktemp(name), valkey_url, *tables, name, "--workers", "1", key=numbered_key
        )
        for number in range(1, 25):
            system.write(f"7/{number}", "right", replica=None if number == 9 else "same")
        for sort_key in ("-1", "-0.5", "0", "1.25", "1000000000000"):
            system.write(f"-3/{sort_key}", "right")
        system.write("-3/-1", None, replica="none")
        with system.running():
            yield system


@pytest.fixture(scope="module")
def migration(
    tmp_path_factory: pytest.TempPathFactory, valkey_url: str, numbers: System
) -> Iterator[Migration]:
    """Everything planted at the beginning is judged when this is handed out; tests may write more.

    numbers: started before, so that the two are waited for at the same time.
    """
    with (
        Fake(account="111111111111", region="eu-west-1") as old,
        Fake(account="222222222222", region="us-west-2") as new,
    ):
        arn = old.control.create_table("orders", view="NEW_AND_OLD_IMAGES", shards=12)
        assert arn is not None
        new.control.create_table("orders-v2")
        system = System(
            tmp_path_factory.mktemp("seed-defects"),
            valkey_url,
            FakeTable(old, "orders"),
            FakeTable(new, "orders-v2"),
            f"seed-{uuid.uuid4().hex[:12]}",
            *("--source-region", "eu-west-1", "--target-region", "us-west-2", "--workers", "1"),
            *("--stream-arn", arn, "--reader-threads", "4"),
        )
        plant(system)
        one = Migration(old, new, arn, system)
        with system.running():
            one.status, one.shards = one.at_rest(), old.control.shards("orders")
            yield one


def plant(system: System) -> None:
    for number in range(WRONG):
        system.write(f"wrong-{number}", "right", replica="wrong")
    for number in range(LACKING):
        system.write(f"lacking-{number}", "right", replica=None)
    for number in range(RIGHT):
        system.write(f"right-{number}", "right")
    for number in range(DELETES):
        system.write(f"kept-{number}", "deleted later")
        system.write(f"kept-{number}", None, replica="none")
        system.write(f"gone-{number}", "deleted later")
        system.write(f"gone-{number}", None)


def asked(fake: Fake, name: str, how: bytes = b"") -> bool:
    """Whether the last BatchGetItem asked for a key, and in this way."""
    body = fake.received["BatchGetItem"]
    return f'"{name}"'.encode() in body and how in body


def planted(migration: Migration, name: str) -> dict[str, str]:
    return {key: kind for key, kind in migration.system.findings().items() if key.startswith(name)}


def test_a_target_that_lacks_items_is_not_reported_as_a_success(migration: Migration):
    """1: the table that was read was the table that was queried: an empty target gave 100 % success."""
    assert planted(migration, "lacking") == {f"lacking-{n}": "missing" for n in range(LACKING)}
    success = migration.status["success"]
    assert success["keys"] == WRONG + LACKING + RIGHT + 2 * DELETES
    assert success["ratio"] == pytest.approx((RIGHT + DELETES) / success["keys"])


def test_wrong_values_are_found(migration: Migration):
    """1: only existence was checked: 50 wrong values planted, 50 of 50 successful."""
    assert planted(migration, "wrong") == {f"wrong-{n}": "different" for n in range(WRONG)}


def test_deletes_are_validated(migration: Migration):
    """3: deletes were skipped."""
    assert migration.status["ledger"]["records"]["REMOVE"] == 2 * DELETES
    assert planted(migration, "kept") == {f"kept-{n}": "extra" for n in range(DELETES)}
    assert planted(migration, "gone") == {}


def test_every_record_of_twelve_open_shards_is_accounted_for(migration: Migration):
    """5, 6: at most 5 shards were read, and what was left out was counted nowhere."""
    shards = migration.shards
    assert len(shards) == 12 and all(shard["records"] for shard in shards)
    assert migration.status["ledger"]["records_read"] == sum(shard["records"] for shard in shards)
    assert balanced(migration.status)


def test_the_stream_that_was_given_is_the_one_that_is_read(migration: Migration):
    """2: --stream-arn was only a switch; which stream was read was found out from the table's name."""
    assert [line["stream"] for line in migration.system.logged("reader started")] == [migration.arn]


def test_each_side_is_asked_in_its_own_region_under_its_own_table_name(migration: Migration):
    """9: one region and one table name for both sides."""
    looks = (
        (migration.old, b"/eu-west-1/dynamodb/", b'"orders"'),
        (
            migration.new,
            b"/us-west-2/dynamodb/",
            b'"orders-v2"',
        ),
    )
    for fake, scope, table in looks:
        assert scope in fake.headers["BatchGetItem"]
        assert table in fake.received["BatchGetItem"]
    assert b"/eu-west-1/dynamodb/" in migration.old.headers["GetRecords"]


def test_each_side_needs_only_the_permissions_that_are_shipped_for_it(migration: Migration):
    """9: the list of permissions had the sides swapped."""
    for fake, file in ((migration.old, "source.json"), (migration.new, "target.json")):
        policy = json.loads((ROOT / "deploy/iam" / file).read_text())
        actions = [statement["Action"] for statement in policy["Statement"]]
        allowed = {
            one.removeprefix("dynamodb:")
            for many in actions
            for one in ([many] if isinstance(many, str) else many)
        }
        assert {name for name, calls in fake.calls.items() if calls} <= allowed
    assert "GetRecords" not in migration.new.calls


def test_no_key_and_no_value_is_in_the_log(migration: Migration):
    """8: every key was logged at INFO."""
    logged = migration.system.log.read_text()
    assert "statistics" in logged
    assert not re.search(r"(wrong|lacking|kept|gone|right)-\d|deleted later", logged)


def test_exit_codes_tell_mismatches(migration: Migration):
    """8: the exit code was always 0."""
    codes = {name: migration.system.command(name).returncode for name in ("status", "findings", "gate")}
    assert codes == {"status": 1, "findings": 1, "gate": 1}


def test_metrics_and_a_list_of_mismatches_are_exported(migration: Migration):
    """8: no metrics, no state, no list of mismatches. A finding does not show its key unless asked to."""
    [line] = migration.system.logged("metrics served")
    with urllib.request.urlopen(line["url"], timeout=10) as answer:
        exported = answer.read().decode()
    shown = dict(re.findall(r'^ddbmm_mismatches_open\{.*?kind="(\w+)".*?\} (\S+)$', exported, re.MULTILINE))
    assert {kind: float(count) for kind, count in shown.items()} == migration.status["open"]
    listed = migration.system.command("findings", "--json").stdout.splitlines()
    assert len(listed) == WRONG + LACKING + DELETES
    assert not any("lacking" in line or "wrong-" in line for line in listed)


def test_what_matches_leaves_nothing_behind(migration: Migration):
    """5: an unbounded map of event ids. Here only keys with an open finding keep a history."""
    store, open_findings = migration.system.store, sum(migration.status["open"].values())
    eventually(lambda: store._redis.hlen(store._key("history")) == open_findings)


def test_a_replica_that_is_late_is_not_a_mismatch(migration: Migration):
    """4: no grace: one look, and what was not there yet was a failure."""
    opened = migration.at_rest()["ledger"]["mismatches"]
    migration.system.write("late", "right", replica="none")
    eventually(lambda: asked(migration.new, "late"), 30, "a look that finds nothing")
    migration.system.replicate("late", "right")
    assert migration.at_rest()["ledger"]["mismatches"] == opened
    assert planted(migration, "late") == {}


def test_a_suspect_is_read_strongly_consistent_on_both_sides_and_a_mended_one_recovers(migration: Migration):
    """4: no recheck, no consistent read: a finding could never go away again."""
    recovered = migration.at_rest()["ledger"]["recovered"]
    migration.system.write("mended", "right", replica="none")
    for fake in (migration.new, migration.old):
        strongly = functools.partial(asked, fake, "mended", b'"ConsistentRead":true')
        eventually(strongly, 30, "a strongly consistent read of the suspect")
    eventually(lambda: planted(migration, "mended") == {"mended": "missing"}, 30)
    migration.system.replicate("mended", "right")
    eventually(lambda: migration.at_rest()["ledger"]["recovered"] == recovered + 1, 30)
    assert planted(migration, "mended") == {}


# --- migrations of their own --------------------------------------------------------------------------------


def test_one_missing_item_among_number_keys_is_one_finding(numbers: System):
    """3: a number-keyed table was never validated, a number sort key gave 100 % false failures. And AWS's
    bulk `diff` compares number sort keys as text: 23 false differences for one missing item.
    """
    status = eventually(numbers.at_rest, 60)
    assert numbers.findings() == {"7/9": "missing", "-3/-1": "extra"}
    assert (status["success"]["keys"], status["ledger"]["records_read"]) == (29, 30)
    assert balanced(status)


def test_reads_that_fail_are_not_mismatches_however_long_they_fail(tmp_path: Path, valkey_url: str):
    """4: read errors (throttling, an expired token) counted as failures of the data."""
    with Fake() as fake:
        fake.control.create_table("source", view="NEW_AND_OLD_IMAGES")
        fake.control.create_table("target")
        tables = FakeTable(fake, "source"), FakeTable(fake, "target")
        options = ("--workers", "1", "--converge-within", "1s")
        system = System(tmp_path, valkey_url, *tables, f"storm-{uuid.uuid4().hex[:12]}", *options)

        with system.running():
            eventually(lambda: system.logged("validator started"))
            fake.control.fail(Kind.EXPIRED_TOKEN, "BatchGetItem", calls=None)
            read, refused = fake.control.keys_read(), fake.calls["BatchGetItem"]
            for number in range(40):
                system.write(f"right-{number}", "right")
            system.write("lacking", "right", replica=None)
            eventually(lambda: fake.calls["BatchGetItem"] > refused)
            fake.control.fail(Kind.THROTTLE, "BatchGetItem", calls=None)
            over_ms = system.store.now_ms() + 4_000  # past every deadline, and proven to be
            eventually(lambda: system.store.reader_state().watermark_ms > over_ms)
            eventually(lambda: fake.calls["BatchGetItem"] > refused + 3)
            assert fake.control.keys_read() == read
            storm = system.status()
            assert (sum(storm["ledger"]["mismatches"].values()), storm["success"]["keys"]) == (0, 0)
            assert storm["queue"]["outstanding"] == 41
            fake.control.clear_faults()
            status = eventually(system.at_rest, 60)
        assert system.findings() == {"lacking": "missing"}
        assert status["success"]["ratio"] == pytest.approx(40 / 41)


def program(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pipeline.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_no_stream_or_another_tables_stream_is_refused(valkey_url: str):
    """2: without --stream-arn the tool ended with 0, silently; with a wrong one it did not notice."""
    with Fake() as fake:
        other = fake.control.create_table("other", view="NEW_AND_OLD_IMAGES")
        for name in ("source", "target"):
            fake.control.create_table(name)
        words = [
            *("run", "--source-table", "source", "--target-table", "target", "--region", "us-east-1"),
            *("--source-endpoint-url", fake.url, "--target-endpoint-url", fake.url),
            *("--redis-url", valkey_url, "--migration", f"refused-{uuid.uuid4().hex}"),
        ]
        without = program(*words)
        assert (without.returncode, "has no enabled stream" in without.stderr) == (4, True), without.stderr
        fake.control.enable_stream("source")
        wrong = program(*words, "--stream-arn", str(other))
        assert (wrong.returncode, "not a stream of the source table" in wrong.stderr) == (4, True)


def test_only_stream_views_that_exist_are_named():
    """9: the README asked for a view `NEW_IMAGES`, which does not exist."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "pipeline").rglob("*.py")]
    named = {view for page in pages for view in re.findall(r"\b[A-Z_]+_IMAGES?\b", page.read_text())}
    assert StreamView.NEW_AND_OLD_IMAGES in named
    assert named <= set(StreamView)


# --- the stream reader --------------------------------------------------------------------------------------


class Stream:
    """A table `orders` with a stream, and the role that reads it, in a thread."""

    def __init__(self, fake: Fake, redis_url: str, shards: int = 1) -> None:
        self.fake, self.url = fake.control, redis_url
        self.fake.create_table("orders", view="NEW_AND_OLD_IMAGES", shards=shards)
        self.migration = f"test-{uuid.uuid4().hex}"
        self.store = watch(redis_url, self.migration)
        self._sides: dict[str, Any] = {
            side: SideConfig(side, region="us-east-1", endpoint_url=fake.url)
            for side in ("source", "target", "stream")
        }

    @contextlib.contextmanager
    def reading(self, *, reader_threads: int = 8, **options: Any) -> Iterator[None]:
        migration = MigrationConfig(
            name=self.migration,
            **self._sides,
            source_table="orders",
            target_table="orders",
            **{"iterator_type": "TRIM_HORIZON", **options},
        )
        stop = threading.Event()
        arguments = (
            ProcessConfig(redis_url=self.url, reader_threads=reader_threads),
            (migration,),
            stop,
            metrics.start(None, "reader"),
            lambda **_: None,
        )
        role = threading.Thread(target=run_reader, args=arguments)
        role.start()
        try:
            yield
        finally:
            stop.set()
            role.join(120)
        assert not role.is_alive()

    def wait_until_read(self, count: int, deadline_seconds: float = 30.0) -> None:
        eventually(lambda: self.store.ledger().records_read >= count, deadline_seconds, f"{count} records")
        assert self.store.ledger().records_read == count

    def claim(self, consumer: str, count: int, reclaim_after_ms: int) -> Claim:
        store = ValidatorStore.open(self.url, self.migration)
        assert store is not None
        return store.claim(consumer, count, reclaim_after_ms)

    def open_shard(self) -> str:
        [shard] = [one["id"] for one in self.fake.shards("orders") if not one["closed"]]
        return str(shard)


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        yield one


@pytest.fixture
def stream(fake: Fake, valkey_url: str) -> Stream:
    return Stream(fake, valkey_url)


def test_open_shards_do_not_keep_others_from_being_read(fake: Fake, valkey_url: str):
    """6: five open shards held the five slots for ever; the rest were never read."""
    stream = Stream(fake, valkey_url, shards=20)
    for shard in stream.fake.shards("orders"):
        stream.fake.append("orders", shard["id"], 2)
    with stream.reading(reader_threads=2):
        stream.wait_until_read(40)


def test_shards_beyond_the_first_page_of_the_listing_are_read(fake: Fake, valkey_url: str):
    """6: DescribeStream was not paginated: it lists at most 100 shards a page."""
    stream = Stream(fake, valkey_url, shards=210)
    for shard in stream.fake.shards("orders"):
        stream.fake.append("orders", shard["id"], 1)
    with stream.reading():
        stream.wait_until_read(210)


def test_a_child_shard_that_is_found_late_is_read_from_its_beginning(stream: Stream):
    """6: LATEST was used for child shards found up to 60 s late: what they held by then was lost."""
    with stream.reading(iterator_type="LATEST"):
        eventually(lambda: any(Position.of(at).at_ms for at in stream.store.partitions().values()))
        stream.fake.fill("orders", 5)
        stream.wait_until_read(5)
        [child] = stream.fake.split("orders", stream.open_shard(), ways=1)
        stream.fake.hide_shard("orders", child, walks=1)
        stream.fake.fill("orders", 7, start=5)
        stream.wait_until_read(12)


def test_a_parent_is_read_before_its_children(stream: Stream):
    """6: no parent before child: a key's older change came after its newer one."""
    for generation in range(4):
        for number in range(30):
            stream.fake.put("orders", {"pk": {"S": f"k{number}"}, "generation": {"N": str(generation)}})
        stream.fake.split("orders", stream.open_shard(), ways=1)
    with stream.reading():
        stream.wait_until_read(120)
    entries = stream.claim("test", 100, 0).entries
    assert len(entries) == 30
    for entry in entries:
        key = {"pk": {"S": json.loads(entry.key)}}
        items = [{**key, "generation": {"N": str(generation)}} for generation in range(4)]
        digests = [digest for digest, _ in codec.decode(entry.raw).versions]
        assert digests[1:] == [Digester().digest_item(item) for item in items]


@pytest.mark.parametrize("kind", [Kind.INTERNAL_ERROR, Kind.THROTTLE, Kind.EXPIRED_ITERATOR, Kind.TRUNCATE])
def test_an_error_does_not_end_a_shard(stream: Stream, kind: Kind):
    """6: any error dropped the shard for good."""
    stream.fake.fill("orders", 5)
    stream.fake.fail(kind, "GetRecords", calls=3)
    with stream.reading():
        stream.wait_until_read(5)


def test_records_that_are_trimmed_are_a_named_gap_that_status_tells(stream: Stream):
    """6: a trimmed shard was silent."""
    stream.fake.fill("orders", 10)
    with stream.reading():
        stream.wait_until_read(10)
    stream.fake.fill("orders", 10, start=10)
    stream.fake.trim("orders", records=15)
    with stream.reading():
        stream.wait_until_read(15)
    [gap] = stream.store.gaps()
    assert (gap.reason, gap.partition.endswith(stream.open_shard())) == ("trimmed", True)
    told = program("status", "--migration", stream.migration, "--redis-url", stream.url)
    assert "1 gap: stream records were lost" in told.stdout


def test_a_page_is_a_thousand_records_and_the_next_follows_at_once(fake: Fake, stream: Stream):
    """7: pages of 100 records, 1 s after each, 10 s before the first: 8,000 records took 90 s a shard."""
    stream.fake.fill("orders", 8_000)
    with stream.reading():
        stream.wait_until_read(8_000, 30)
        assert stream.fake.calls("GetRecords") <= 8 + 2  # some may have found nothing more meanwhile
    assert json.loads(fake.received["GetRecords"])["Limit"] == 1000


def test_sampling_is_by_key_whatever_the_number_of_its_changes(stream: Stream):
    """5: every n-th event was sampled: hot keys dominated, and no key's changes were followed throughout."""
    names = [f"k{number}" for number in range(200)]
    sampled = {name for name in names if _hash_share(name) < 0.2}
    hot, hot_left_out = next(iter(sampled)), next(name for name in names if name not in sampled)
    for name in names:
        stream.fake.put("orders", {"pk": {"S": name}, "v": {"N": "0"}})
    for value in range(1, 101):
        for name in (hot, hot_left_out):
            stream.fake.put("orders", {"pk": {"S": name}, "v": {"N": str(value)}})
    with stream.reading(sample_rate=20.0):
        stream.wait_until_read(400)
    ledger = stream.store.ledger()
    assert {json.loads(entry.key) for entry in stream.claim("test", 1000, 0).entries} == sampled
    assert ledger.versions_published == len(sampled) + 100
    assert ledger.not_sampled == 400 - ledger.versions_published


def _hash_share(name: str) -> float:
    """Where a string key's hash lies between 0 and 1, by the documented rule and not by our code."""
    return int.from_bytes(hashlib.sha256(f'"{name}"'.encode()).digest()[:8]) / 2**64


# --- test data ----------------------------------------------------------------------------------------------


def test_datagen_and_datadel_count_what_was_done_without_a_sort_key(
    fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """10: UnprocessedItems were ignored, counts were false; no updates or deletes; a sort key was a must."""
    fake.control.create_table("orders", partition_type="N")
    keys = tmp_path / "keys.csv"
    at = ["--table", "orders", "--region", "us-east-1", "--endpoint-url", fake.url, "--batch"]
    fake.control.fail(Kind.UNPROCESSED, "BatchWriteItem", calls=2, detail=10)
    many = ["--count", "50", "--updates", "20", "--deletes", "5", "--output", str(keys)]
    assert datagen.main([*at, *many]) == 0
    assert "50 inserted, 20 updated, 5 deleted, 0 failed, 20 put off" in capsys.readouterr().out
    table = fake.world.table("orders")
    assert len(table.items) == 45
    fake.control.fail(Kind.UNPROCESSED, "BatchWriteItem", calls=1, detail=10)
    assert datadel.main([*at, "--input", str(keys)]) == 0
    assert "50 deleted, 0 failed, 10 put off" in capsys.readouterr().out
    assert table.items == {}

"""The comparer's engine with exports, against the fake and a real store: every item once, come what may."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.aws import Connection, SideConfig, TableScanner, describe_table
from pipeline.comparer import comparer as engine
from pipeline.comparer.comparer import Comparer
from pipeline.comparer.hand import LetGo
from pipeline.comparer.pace import SidePace
from pipeline.comparer.role import _spilling
from pipeline.comparer.work import Sizes, Spilling, TableWork
from pipeline.config import ProcessConfig
from pipeline.core.canonical import Digester, KeySchema
from pipeline.core.comparing.keys import KeyReader
from pipeline.core.comparing.state import CompareSettings, Comparison
from pipeline.core.model import UNKNOWN, Side
from pipeline.core.sampling import Sampler
from pipeline.errors import AwsUnavailable, ExportDamaged, NotFound, SpillIncomplete, SpillUnusable
from pipeline.producers.export.files import Files
from pipeline.producers.export.opened import SideExport, open_for
from pipeline.store import codec
from pipeline.store.compare_store import Beginning, Standing
from tests.exports import Change, ExportWriter
from tests.fake import Fake
from tests.validating import own_store
from tests.whole_store import WholeStore

SCHEMA = KeySchema("pk", "S")
LONG_MS = 600_000


def item(number: int, value: str = "x") -> dict[str, Any]:
    return {"pk": {"S": f"k{number}"}, "v": {"S": value}}


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as fake:
        for side in Side:
            fake.control.create_table(side)
        fake.world.scans.page_bytes = 2_000
        yield fake


@pytest.fixture
def store(valkey_url: str) -> Iterator[WholeStore]:
    with own_store(valkey_url) as store:
        yield store


class Unsteady:
    """Files of which the first readings fail in the middle."""

    def __init__(self, files: Files, *errors: Exception) -> None:
        self._files, self._errors = files, list(errors)

    def chunks(self, path: str) -> Iterator[bytes]:
        [whole] = self._files.chunks(path)
        yield whole[: len(whole) // 2]
        if self._errors:
            raise self._errors.pop()
        yield whole[len(whole) // 2 :]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)


class Bench:
    """A comparison of the source's export with the target's segments, and comparers of it."""

    def __init__(
        self, fake: Fake, store: WholeStore, directory: Path, folder: Path, *, percent: float = 100
    ) -> None:
        self.store, self.directory, self.percent = store, directory, percent
        self.connection = Connection(SideConfig("source", region="us-east-1", endpoint_url=fake.url))
        self.source = open_for(str(folder), self.connection, describe_table(self.connection, "source"))
        changes = self.source.export.from_ms is not None
        self.settings = CompareSettings(
            0, percent, None if changes else 2, self.source.seen, buckets=0 if changes else 3
        )
        self.id = store.begin_comparison(self.settings, Beginning.BEGIN).id
        self.stop = threading.Event()

    def comparer(self, owner: str = "me", spill: str = "spill", files: Files | None = None) -> Comparer:
        source = msgspec.structs.replace(self.source, files=files) if files else self.source
        return self._comparer(owner, self.directory / spill, source)

    def _comparer(self, owner: str, spill: Path, source: SideExport) -> Comparer:
        process = ProcessConfig(spill_dir=str(spill))
        spilling: Spilling = _spilling(process, self.store, self.comparison())
        keys = KeyReader(SCHEMA)
        work = TableWork(
            keys,
            Digester(),
            {Side.TARGET: TableScanner(self.connection, "target", keys)},
            Sizes(10**8, 1),
            {side: SidePace(0) for side in Side},
            exports={Side.SOURCE: source},
            spilling=spilling,
            sampler=Sampler(self.percent) if self.percent < 100 else None,
        )
        return Comparer(
            self.store,
            self.id,
            self.settings.partitions(),
            work,
            owner=owner,
            leads=False,
            most_waiting=10**9,
            stop=self.stop,
        )

    def run(self, **how: Any) -> Comparison:
        comparer = self.comparer(**how)
        while comparer.step():
            pass
        return self.comparison()

    def comparison(self) -> Comparison:
        found = self.store.figures().comparison
        assert found is not None
        return found


def made(fake: Fake, directory: Path, source: int = 30, target: int = 30) -> Path:
    """An export of `source` items; the target has the first `target` of them."""
    for number in range(target):
        fake.control.put("target", item(number))
    table = fake.world.table("source")
    writer = ExportWriter(table_arn=table.arn, table_id=table.id)
    return writer.full(directory / "export", [item(number) for number in range(source)])


def test_files_and_segments_are_sorted_before_the_first_bucket_is_joined(
    fake: Fake, store: WholeStore, tmp_path: Path
) -> None:
    bench = Bench(fake, store, tmp_path, made(fake, tmp_path, 30, 28))
    names = [str(bench.settings.partitions().at(ordinal)) for ordinal in range(8)]
    assert names == [
        *("source:file 0", "source:file 1", "source:file 2", "target:segment 0", "target:segment 1"),
        *("bucket 0", "bucket 1", "bucket 2"),
    ]
    comparer = bench.comparer()
    for _ in range(4):
        comparer.step()
    standing, part = store.take(bench.id, "other", LONG_MS)
    assert standing is Standing.TAKEN and part is not None and part.ordinal == 4
    assert store.take(bench.id, "me", LONG_MS) == (Standing.WAIT, None)
    store.renew_parts(bench.id, "other", [part], 0)
    found = bench.run()
    tally = found.tally
    assert (tally.items(Side.SOURCE), tally.items(Side.TARGET), tally.equal) == (30, 28, 28)
    assert (tally.suspects, tally.imbalance, found.done) == (2, "", 8)
    for key in (b'"k28"', b'"k29"'):  # what an export showed is long ago: it is read again
        raw = store._redis.hget(store._key("history"), key)
        assert isinstance(raw, bytes) and codec.decode(raw).versions[0][0] == UNKNOWN
    assert not list((tmp_path / "spill").iterdir())


def test_hosts_that_share_no_spill_are_told_so_and_count_nothing_wrong(
    fake: Fake, store: WholeStore, tmp_path: Path
) -> None:
    bench = Bench(fake, store, tmp_path, made(fake, tmp_path))
    here, there = bench.comparer("here", "here"), bench.comparer("there", "there")
    for one in (here, there, here, there, here):
        one.step()
    assert bench.comparison().done == 5
    for one in (here, there):
        with pytest.raises(SpillIncomplete, match="the same --spill-dir"):
            one.step()
    assert bench.comparison().done == 5 and store.ledger().suspects_published == 0
    with pytest.raises(SpillIncomplete, match="the same --spill-dir"):  # who comes later sees it at once
        bench.comparer("late", "late")


def test_of_two_who_sorted_a_segment_only_the_one_that_was_counted_is_joined(
    fake: Fake, store: WholeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first was suspended, and the table has changed when it goes on."""
    bench = Bench(fake, store, tmp_path, made(fake, tmp_path))
    suspended = bench.comparer("suspended")
    monkeypatch.setattr(suspended, "_finish", lambda *_: None)
    while suspended.step():
        pass
    assert len(store._redis.hgetall(store._key("comparison-leases"))) == 5
    for number in range(30, 40):
        fake.control.put("target", item(number))
    for ordinal in range(5):  # its leases run out
        store._redis.hset(store._key("comparison-leases"), str(ordinal), "1|0|suspended")
    tally = bench.run(owner="other").tally
    assert (tally.equal, tally.items(Side.TARGET), tally.suspects, tally.imbalance) == (30, 40, 10, "")


def test_who_was_overtaken_and_finds_the_spill_removed_says_nothing(
    fake: Fake, store: WholeStore, tmp_path: Path
) -> None:
    bench = Bench(fake, store, tmp_path, made(fake, tmp_path))
    comparer = bench.comparer()
    for _ in range(5):
        comparer.step()
    standing, part = store.take(bench.id, "suspended", LONG_MS)
    assert standing is Standing.TAKEN and part is not None
    store._redis.hset(store._key("comparison-leases"), str(part.ordinal), "99|0|suspended")
    bench.run(owner="other")
    with comparer._holding(part) as hand, pytest.raises(LetGo):
        comparer._compare(hand)
    assert bench.comparison().tally.equal == 30


def test_who_joins_just_when_all_is_read_and_the_spill_is_removed_is_not_refused(
    fake: Fake, store: WholeStore, tmp_path: Path
) -> None:
    bench = Bench(fake, store, tmp_path, made(fake, tmp_path))
    comparer = bench.comparer()
    comparer.step()
    joined = bench.comparison()
    assert 0 < joined.done < joined.planned
    bench.run()
    assert not list((tmp_path / "spill").iterdir())
    process = ProcessConfig(spill_dir=str(tmp_path / "spill"))
    assert _spilling(process, store, joined)
    store._redis.hset(store._key("comparison"), "done", joined.done)
    with pytest.raises(SpillIncomplete):
        _spilling(process, store, joined)


def test_a_file_that_breaks_off_is_read_again_from_its_beginning_and_counted_once(
    fake: Fake, store: WholeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.backoff import Backoff

    monkeypatch.setattr(engine, "RETRIES", Backoff(0.01, 0.05))
    bench = Bench(fake, store, tmp_path, made(fake, tmp_path))
    files = Unsteady(bench.source.files, AwsUnavailable("gone"), AwsUnavailable("gone"))
    tally = bench.run(files=files).tally
    assert (tally.equal, tally.items(Side.SOURCE), tally.imbalance) == (30, 30, "")


def test_a_file_that_goes_missing_ends_it(fake: Fake, store: WholeStore, tmp_path: Path) -> None:
    bench = Bench(fake, store, tmp_path, made(fake, tmp_path))
    with pytest.raises(ExportDamaged, match="is missing"):
        bench.comparer(files=Unsteady(bench.source.files, NotFound("s3://b/x: is missing"))).step()
    assert bench.comparison().done == 0 and not list((tmp_path / "spill").rglob("*.items*"))


def test_a_sample_counts_what_it_leaves_out_on_both_sides(
    fake: Fake, store: WholeStore, tmp_path: Path
) -> None:
    bench = Bench(fake, store, tmp_path, made(fake, tmp_path, 200, 150), percent=30)
    tally = bench.run().tally
    kept = [number for number in range(200) if Sampler(30).keeps(b'"k%d"' % number)]
    assert tally.equal == len([number for number in kept if number < 150])
    assert tally.suspects == len([number for number in kept if number >= 150])
    assert (tally.not_sampled_source, tally.imbalance) == (200 - len(kept), "")


def test_changed_keys_are_suspects_once_also_when_their_file_is_read_again(
    fake: Fake, store: WholeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.backoff import Backoff

    monkeypatch.setattr(engine, "RETRIES", Backoff(0.01, 0.05))
    changes = [Change({"pk": {"S": f"k{number}"}}) for number in range(3_000)]
    table = fake.world.table("source")
    folder = ExportWriter(table_arn=table.arn, table_id=table.id, files=1).incremental(
        tmp_path / "export", changes
    )
    bench = Bench(fake, store, tmp_path, folder)
    found = bench.run(files=Unsteady(bench.source.files, AwsUnavailable("gone")))
    assert (found.tally.source_only, found.tally.suspects, found.tally.imbalance) == (3_000, 3_000, "")
    ledger = store.ledger()
    assert (ledger.suspects_published, ledger.suspects_waiting, ledger.balanced) == (3_000, 3_000, True)


@pytest.mark.parametrize("to", ["a file", "nobody else's directory"])
def test_a_spill_that_cannot_be_used_ends_it(fake: Fake, store: WholeStore, tmp_path: Path, to: str) -> None:
    bench = Bench(fake, store, tmp_path, made(fake, tmp_path))
    there = tmp_path / "spill"
    if to == "a file":
        there.touch()
    else:
        (there / bench.id).mkdir(parents=True)
        (there / bench.id).chmod(0o755)
    with pytest.raises(SpillUnusable, match="--spill-dir") as refused:
        bench.comparer().step()
    assert refused.value.is_final  # starting a comparer again makes no room
    assert bench.comparison().done == 0

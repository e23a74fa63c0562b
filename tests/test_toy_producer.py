"""A producer that knows nothing of streams, served by the same publisher, leases and checkpoints as one."""

import ctypes
import itertools
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import cast

import pytest

from pipeline import metrics
from pipeline.core.model import ABSENT, Change, Checkpoint, Counts
from pipeline.producers.base import Batch, Discovery, Found, PartitionReader
from pipeline.store import ReaderStore
from tests.fake.server import Fake
from tests.servers import eventually
from tests.test_publisher import SETTINGS, Rig, _config, _read_for_ever
from tests.test_publisher import serve as serve_alone

LINES_A_BATCH = 10
#: Slow enough to be killed in the middle.
SPACING_SECONDS = 0.01


class LineProducer:
    """Every file of a folder is a partition, every line a key; a position is an offset, and holds a "|"."""

    name = "toy"
    holds_watermark = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def discover(self, tracked: Mapping[str, Checkpoint], watermarks: Mapping[str, int]) -> Discovery:
        names = (f"toy:{file.name}" for file in sorted(self._folder.iterdir()))
        return Discovery(found=[Found(name, Checkpoint(b"at|0")) for name in names if name not in tracked])

    def open(self, partition: str, checkpoint: Checkpoint) -> PartitionReader:
        return LineReader(self._folder / partition.removeprefix("toy:"), checkpoint)

    def published(self, batch: Batch) -> None:
        pass


class LineReader:
    def __init__(self, file: Path, checkpoint: Checkpoint) -> None:
        self._file = file
        self._offset = int(checkpoint.position.removeprefix(b"at|"))

    def next_batch(self) -> Batch:
        with self._file.open("rb") as file:
            file.seek(self._offset)
            lines = list(itertools.islice(file, LINES_A_BATCH))
        self._offset += sum(map(len, lines))
        at = Checkpoint(b"at|%d" % self._offset, finished=not lines)
        changes = [Change(line.strip(), ABSENT, b"d" * 16, 1_000) for line in lines]
        counts = Counts(len(lines), 0, {"LINE": len(lines)})
        return Batch(at, changes=changes, counts=counts, spacing_seconds=SPACING_SECONDS)


# --- what the same publisher does with it ------------------------------------------------------------------


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        yield one


@pytest.fixture
def rig(fake: Fake, valkey_url: str, tmp_path: Path) -> Rig:
    """A migration whose table has a stream; the toy is the second producer beside it."""
    return Rig(fake, valkey_url, tmp_path, shards=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "lines"
    made.mkdir()
    return made


def fill(folder: Path, files: int, lines: int) -> None:
    for file in range(files):
        (folder / f"file {file} | of {files}").write_text("".join(f"line-{file}-{n}\n" for n in range(lines)))


def serve(url: str, migration: str, settings: dict[str, str], folder: Path, stop: threading.Event) -> None:
    store = ReaderStore.begin(url, migration, settings)
    own = metrics.start(None, "reader").of_reader(migration, "source")
    serve_alone(store, LineProducer(folder), own, stop, threads=2)


@contextmanager
def serving(rig: Rig, folder: Path) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(rig.store_url, rig.migration, SETTINGS, folder, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(120)
    assert not thread.is_alive()


def records(rig: Rig) -> dict[str, int]:
    return {name: number for name, number in rig.store.ledger().records.items() if number}


def published(rig: Rig, kind: str, number: int) -> None:
    eventually(lambda: records(rig).get(kind, 0) >= number, 60, f"{number} of {kind} published")


def assert_all_once(rig: Rig, lines: int, inserts: int) -> None:
    ledger = rig.store.ledger()
    assert records(rig) == {"LINE": lines, "INSERT": inserts} and ledger.balanced
    assert ledger.records_read == ledger.versions_published == lines + inserts
    versions = rig.versions_by_key()
    assert len(versions) == lines + inserts and set(versions.values()) == {2}


def test_two_producers_of_one_migration_are_served_side_by_side(rig: Rig, folder: Path):
    fill(folder, files=4, lines=95)
    rig.fake.fill("orders", 50)

    with rig.reading(), serving(rig, folder):
        published(rig, "LINE", 380)
        published(rig, "INSERT", 50)
        # Whoever reads lines says nothing about the changes: the stream's watermark moves on alone.
        begun = eventually(lambda: rig.store.reader_state().watermark_ms)
        eventually(lambda: rig.store.reader_state().watermark_ms > begun)
        eventually(lambda: rig.store.reader_state().partitions["toy"].finished == 4)

    assert_all_once(rig, lines=380, inserts=50)
    assert rig.store.reader_state().partitions["stream"].open == 3


def test_a_reader_of_one_producer_takes_no_share_from_the_readers_of_another(rig: Rig, folder: Path):
    """A fair share is counted among the readers of one producer: else half of the shards had no reader."""
    with serving(rig, folder):
        eventually(lambda: rig.store.reader_state().readers == 1)
        with rig.reading():
            eventually(lambda: _owners(rig)["stream"] == 3, 30, "all three shards have a reader")


def _owners(rig: Rig) -> Counter[str]:
    """Producer → leases of its partitions that have not run out."""
    raw = cast(dict[bytes, bytes], rig.store._redis.hgetall(rig.store._key("leases")))
    now = rig.store.now_ms()
    alive = [name.decode() for name, lease in raw.items() if int(lease.split(b"|")[1]) > now]
    return Counter(name.partition(":")[0] for name in alive if ":" in name)


def _serve_for_ever(url: str, migration: str, settings: dict[str, str], folder: Path, parent: int) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # dies with the test
    if os.getppid() == parent:
        serve(url, migration, settings, folder, threading.Event())


def _kill(process: SpawnProcess) -> None:
    assert process.pid is not None and process.is_alive()
    os.kill(process.pid, signal.SIGKILL)
    process.join()


@pytest.mark.slow
def test_readers_of_two_producers_killed_again_and_again_publish_everything_once(rig: Rig, folder: Path):
    """kill -9 of real processes in the middle of their work: nothing is lost, nothing is there twice."""
    lines, inserts, lives = 6_000, 3_000, 3
    fill(folder, files=3, lines=lines // 3)
    config = _config(rig)
    rig.store._redis.delete(rig.store._key("meta"))  # begun by the readers, with their settings
    context = multiprocessing.get_context("spawn")
    toy_arguments = (rig.store_url, rig.migration, config[1][0].settings(), folder, os.getpid())
    for life in range(1, lives + 1):
        rig.fake.fill("orders", inserts // lives, start=(life - 1) * inserts // lives)
        toy = context.Process(target=_serve_for_ever, args=toy_arguments)
        stream = context.Process(target=_read_for_ever, args=(config, os.getpid()))
        toy.start()
        stream.start()
        last = life == lives
        published(rig, "LINE", lines if last else records(rig).get("LINE", 0) + 1)
        _kill(toy)
        published(rig, "INSERT", inserts if last else (life - 1) * inserts // lives + 1)
        _kill(stream)

    assert_all_once(rig, lines, inserts)

"""The bucket sort: nothing lost, nothing twice, private, flat; and an export joined with another source."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.core.canonical import Digester, KeySchema
from pipeline.core.comparing.join import Join, JoinCounts, Showed, Suspect
from pipeline.core.comparing.keys import KeyReader
from pipeline.core.comparing.pairs import PairComparer
from pipeline.core.model import Side
from pipeline.core.sampling import Sampler
from pipeline.errors import ConfigurationError, ExportDamaged, SpillIncomplete
from pipeline.producers.export.buckets import bucket_count, join_bucket, sort_partition
from pipeline.producers.export.files import open_folder
from pipeline.producers.export.lines import read_items
from pipeline.producers.export.manifest import open_export
from pipeline.producers.export.spill import Spill, clear
from tests.exports import ExportWriter, data_file

KEYS = KeyReader(KeySchema("pk", "S"))
BUCKETS = 5

Pages = Iterator[tuple[list[bytes], Any]]


def item(number: int, value: str = "x") -> dict[str, Any]:
    return {"pk": {"S": f"key-{number}"}, "v": {"S": value}, "text": {"S": "a\nb"}}


def pages(items: list[dict[str, Any]], size: int = 10) -> Pages:
    for start in range(0, len(items), size):
        body = msgspec.json.encode(items[start : start + size])
        yield KEYS.keys(body), msgspec.json.decode(body, type=list[msgspec.Raw])


class Sorted(Spill):
    """Knows what was sorted into it."""

    def __init__(self, directory: Path, buckets: int) -> None:
        super().__init__(directory, buckets)
        self.parts: dict[Side, list[str]] = {side: [] for side in Side}

    def sort(self, side: Side, partition: str, read: Pages, run_bytes: int = 500, **how: Any) -> Any:
        sorted_ = sort_partition(read, self.writer(side, partition, run_bytes), **how)
        if partition not in self.parts[side]:
            self.parts[side].append(partition)
        return sorted_


@pytest.fixture
def spill(tmp_path: Path) -> Sorted:
    return Sorted(tmp_path / "spill", BUCKETS)


def fill(
    spill: Sorted, side: Side, partition: str, items: list[dict[str, Any]], run_bytes: int = 500
) -> None:
    spill.sort(side, partition, pages(items), run_bytes)


def held(spill: Sorted, side: Side) -> list[tuple[bytes, Any]]:
    return [
        (key, msgspec.json.decode(item))
        for bucket in range(BUCKETS)
        for part in spill.bucket(side, bucket, spill.parts[side])
        for key, item in zip(*part, strict=True)
    ]


def joined(spill: Sorted, most: int = 1_000_000) -> tuple[list[Suspect], JoinCounts]:
    suspects: list[Suspect] = []
    sums = JoinCounts()
    for bucket in range(BUCKETS):
        join = Join(PairComparer(Digester()), most)
        suspects += join_bucket(spill, bucket, join, spill.parts)
        assert join.counts.balanced
        for name in JoinCounts.__struct_fields__:
            setattr(sums, name, getattr(sums, name) + getattr(join.counts, name))
    return suspects, sums


def test_what_goes_in_comes_out_in_some_bucket_the_same_on_both_sides(spill: Sorted) -> None:
    items = list(map(item, range(200)))
    fill(spill, Side.SOURCE, "a", items[:120])
    fill(spill, Side.SOURCE, "b", items[120:])
    fill(spill, Side.TARGET, "c", items[::-1], run_bytes=1_000_000)
    expected = sorted(((b'"key-%d"' % number, item(number)) for number in range(200)), key=lambda one: one[0])
    assert sorted(held(spill, Side.SOURCE), key=lambda one: one[0]) == expected
    suspects, counts = joined(spill)
    assert suspects == []
    assert (counts.equal, counts.source_items, counts.target_items) == (200, 200, 200)


def test_a_partition_that_is_read_again_replaces_its_part(spill: Sorted) -> None:
    fill(spill, Side.SOURCE, "a", list(map(item, range(50))))
    fill(spill, Side.SOURCE, "b", list(map(item, range(50, 60))))
    fill(spill, Side.SOURCE, "a", list(map(item, range(40))))
    assert len(held(spill, Side.SOURCE)) == 50


def test_a_reading_that_fails_leaves_the_earlier_part_and_no_file(spill: Sorted) -> None:
    fill(spill, Side.SOURCE, "a", list(map(item, range(50))))
    files = set(spill.directory.iterdir())

    def failing() -> Pages:
        yield from pages(list(map(item, range(30))))
        raise ExportDamaged("broken")

    with pytest.raises(ExportDamaged):
        sort_partition(failing(), spill.writer(Side.SOURCE, "a", 100))
    assert set(spill.directory.iterdir()) == files
    assert len(held(spill, Side.SOURCE)) == 50


def test_nobody_else_may_read_what_is_spilled(tmp_path: Path) -> None:
    os.umask(mask := os.umask(0o022))
    assert mask is not None
    spill = Sorted(tmp_path / "deep" / "spill", BUCKETS)
    fill(spill, Side.SOURCE, "a", [item(1)])
    assert stat.S_IMODE(spill.directory.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in spill.directory.iterdir()] == [0o600]
    spill.directory.chmod(0o755)
    with pytest.raises(ConfigurationError, match="others may read"):
        Spill(spill.directory, BUCKETS)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="file"):
        Spill(tmp_path / "file", BUCKETS)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named(spill: Sorted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "pipeline.producers.export.spill._create",
        lambda _: os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb"),
    )
    with pytest.raises(ConfigurationError, match="No space left"):
        fill(spill, Side.SOURCE, "a", list(map(item, range(500))))
    assert held(spill, Side.SOURCE) == []


def test_another_comparisons_files_are_not_taken_for_this_ones(spill: Sorted) -> None:
    fill(spill, Side.SOURCE, "a", [item(1)])
    with pytest.raises(ConfigurationError, match="another comparison"):
        list(Spill(spill.directory, BUCKETS + 1).bucket(Side.SOURCE, 0, ["a"]))


def test_a_file_that_was_spoiled_on_disk_is_an_error(spill: Sorted) -> None:
    fill(spill, Side.SOURCE, "a", [item(1)], run_bytes=1)
    [path] = spill.directory.iterdir()
    content = path.read_bytes()
    path.write_bytes(b"\xff" * 20 + content[20:])
    with pytest.raises(ConfigurationError, match="does not hold"):
        held(spill, Side.SOURCE)


def test_of_two_takings_of_a_partition_only_the_one_that_was_counted_is_read(spill: Sorted) -> None:
    """Who was overtaken has sorted it as well, and comes last."""
    fill(spill, Side.SOURCE, "0-2", list(map(item, range(50))))
    sort_partition(pages(list(map(item, range(40)))), spill.writer(Side.SOURCE, "0-1"))
    assert len(held(spill, Side.SOURCE)) == 50


def test_a_part_that_another_host_has_is_missed(spill: Sorted) -> None:
    fill(spill, Side.SOURCE, "a", [item(1)])
    spill.parts[Side.SOURCE].append("elsewhere")
    with pytest.raises(SpillIncomplete, match="the same --spill-dir"):
        held(spill, Side.SOURCE)


def test_everything_goes_in_the_end_but_what_is_not_ours(spill: Sorted) -> None:
    fill(spill, Side.SOURCE, "a", [item(1)])
    theirs = spill.directory / "theirs"
    theirs.touch()
    clear(spill.directory)
    assert list(spill.directory.iterdir()) == [theirs]
    theirs.unlink()
    clear(spill.directory)
    assert not spill.directory.exists()


def test_json_with_line_breaks_between_its_tokens_is_kept_whole(spill: Sorted) -> None:
    odd = [b'{"pk":\n {"S":"a"}}', b'{"pk":{"S":"b"}}']
    spill.sort(Side.SOURCE, "a", iter([([b'"a"', b'"b"'], odd)]))
    assert {key for key, _ in held(spill, Side.SOURCE)} == {b'"a"', b'"b"'}


def test_a_sample_keeps_the_samplers_keys_and_counts_the_rest(spill: Sorted) -> None:
    sampler = Sampler(30)
    sorted_ = spill.sort(Side.SOURCE, "a", pages(list(map(item, range(100)))), sampler=sampler)
    kept = {b'"key-%d"' % number for number in range(100) if sampler.keeps(b'"key-%d"' % number)}
    assert {key for key, _ in held(spill, Side.SOURCE)} == kept
    assert (sorted_.items, sorted_.not_sampled) == (100, 100 - len(kept))


def test_there_are_as_many_buckets_as_fit_in_memory_one_by_one() -> None:
    assert bucket_count(0) == 1
    assert bucket_count(200 * 1024**3) * 12 * 1024**2 >= 200 * 1024**3


def test_an_export_is_joined_with_another_whatever_the_order_of_items_and_attributes(
    spill: Sorted, tmp_path: Path
) -> None:
    items = list(map(item, range(300)))
    changed = [*items[1:11], item(11, "y"), *items[12:], item(900)]
    sides = {Side.SOURCE: (items, 3), Side.TARGET: (changed[::-1], 5)}
    for side, (held_there, count) in sides.items():
        folder = ExportWriter(files=count, seed=count).full(tmp_path / side, held_there)
        files, start = open_folder(str(folder))
        for file in open_export(files, start).files:
            read = ((page.keys, page.items) for page in read_items(files, file, KEYS))
            spill.sort(side, file.path, read)
    suspects, counts = joined(spill)
    assert {(suspect.key, suspect.showed) for suspect in suspects} == {
        (b'"key-0"', Showed.SOURCE),
        (b'"key-11"', Showed.BOTH),
        (b'"key-900"', Showed.TARGET),
    }
    assert (counts.equal, counts.source_items, counts.target_items) == (298, 300, 300)


def test_a_damaged_file_leaves_nothing_in_the_buckets(spill: Sorted, tmp_path: Path) -> None:
    folder = ExportWriter(files=1, empty_files=0, line={"itemCount": 300}, summary={"itemCount": 300}).full(
        tmp_path / "e", list(map(item, range(299)))
    )
    assert data_file(folder).is_file()
    files, start = open_folder(str(folder))
    [file] = open_export(files, start).files
    with pytest.raises(ExportDamaged):
        sort_partition(
            ((page.keys, page.items) for page in read_items(files, file, KEYS)),
            spill.writer(Side.SOURCE, file.path),
        )
    assert held(spill, Side.SOURCE) == []

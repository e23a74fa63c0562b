"""How a comparison with exports is cut, which of them are one comparison, which gaps each closes."""

import msgspec
import pytest

from pipeline.core.comparing.closing import Closes, closes
from pipeline.core.comparing.partitions import Mode, Step
from pipeline.core.comparing.state import CompareSettings, Comparison, ExportSeen, Tally
from pipeline.core.model import Side

MINUTE = 60_000
FULL = ExportSeen("/there", "arn:export", "abc", files=3, items=9, size=90, to_ms=10 * MINUTE)
CHANGES = ExportSeen("s3://b/p", "arn:changes", "def", 2, 5, 50, to_ms=30 * MINUTE, from_ms=10 * MINUTE)


def test_files_come_first_then_segments_then_buckets() -> None:
    partitions = CompareSettings(0, segments=2, source_export=FULL, buckets=2).partitions()
    assert (partitions.mode, partitions.sorting, partitions.planned) == (Mode.EXPORT, 5, 7)
    assert [str(partitions.at(ordinal)) for ordinal in range(7)] == [
        *("source:file 0", "source:file 1", "source:file 2", "target:segment 0", "target:segment 1"),
        *("bucket 0", "bucket 1"),
    ]
    assert [partitions.phases(done) for done in (0, 4, 6)] == [
        {"sort": (0, 5), "bucket": (0, 2)},
        {"sort": (4, 5), "bucket": (0, 2)},
        {"sort": (5, 5), "bucket": (1, 2)},
    ]
    other = CompareSettings(0, segments=2, target_export=FULL, buckets=1).partitions()
    assert [str(other.at(ordinal)) for ordinal in (1, 2)] == ["source:segment 1", "target:file 0"]


def test_two_exports_scan_nothing() -> None:
    partitions = CompareSettings(10**12, source_export=FULL, target_export=FULL, buckets=4).partitions()
    assert (partitions.sorting, partitions.planned) == (6, 10)


def test_of_an_incremental_export_nothing_but_its_files_is_read() -> None:
    settings = CompareSettings(10**12, source_export=CHANGES)
    partitions = settings.partitions()
    assert (partitions.mode, partitions.sorting, partitions.planned) == (Mode.CHANGES, 0, 2)
    assert {partitions.at(ordinal).step for ordinal in (0, 1)} == {Step.CHANGES}
    assert partitions.phases(1) == {"changes": (1, 2)}
    assert not settings.whole


def test_without_exports_it_is_segments_as_ever() -> None:
    partitions = CompareSettings(0, segments=3).partitions()
    assert (partitions.mode, partitions.sorting, partitions.planned) == (Mode.SCAN, 0, 3)
    assert sorted(partitions.at(ordinal).number for ordinal in range(3)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"location": "/a/copy", "size": 1}, True),
        ({"checksum": "other"}, False),
        ({"arn": "arn:other"}, False),
        ({"to_ms": 1}, False),
    ],
)
def test_an_export_is_the_same_wherever_it_lies_and_no_other_is(
    changes: dict[str, object], same: bool
) -> None:
    settings = CompareSettings(0, source_export=FULL)
    other = CompareSettings(5, source_export=msgspec.structs.replace(FULL, **changes), buckets=9)
    assert settings.same_as(other) is same
    assert not settings.same_as(CompareSettings(0)) and not settings.same_as(
        CompareSettings(0, target_export=FULL)
    )


def test_a_sample_of_an_export_is_one_of_keys_and_cuts_no_segment() -> None:
    settings = CompareSettings(0, 10, 50, source_export=FULL, buckets=1)
    assert len(settings.plan().segments) == 50 and not settings.whole
    assert CompareSettings(0, 100, 50, source_export=FULL, buckets=1).whole


def test_a_watch_vouches_from_a_minute_before_the_older_export_on() -> None:
    def since(**exports: ExportSeen) -> int:
        settings = CompareSettings(0, **exports)  # type: ignore[arg-type]
        return Comparison("c", settings, 1, 1, 60 * MINUTE, None, Tally()).vouches_from_ms

    later = msgspec.structs.replace(FULL, to_ms=20 * MINUTE)
    assert since() == 60 * MINUTE
    assert since(source_export=FULL) == 9 * MINUTE
    assert since(source_export=later, target_export=FULL) == 9 * MINUTE


@pytest.mark.parametrize(
    ("settings", "origin", "percent", "expected"),
    [
        (CompareSettings(0), Side.SOURCE, 100, (0, None)),
        (CompareSettings(0, 50, 1_000), Side.SOURCE, 100, None),
        (CompareSettings(0, source_export=FULL), Side.SOURCE, 100, (0, 9 * MINUTE)),
        (CompareSettings(0, 50, source_export=FULL), Side.SOURCE, 10, None),
        (CompareSettings(0, source_export=CHANGES), Side.SOURCE, 100, (11 * MINUTE, 29 * MINUTE)),
        (CompareSettings(0, target_export=CHANGES), Side.TARGET, 100, (11 * MINUTE, 29 * MINUTE)),
        (CompareSettings(0, target_export=CHANGES), Side.SOURCE, 100, None),
        (CompareSettings(0, source_export=CHANGES), Side.TARGET, 100, None),
        (CompareSettings(0, 10, source_export=CHANGES), Side.SOURCE, 20, None),
        (CompareSettings(0, 20, source_export=CHANGES), Side.SOURCE, 20, (11 * MINUTE, 29 * MINUTE)),
    ],
)
def test_a_gap_is_closed_by_what_shows_every_key_that_changed_on_the_streams_side(
    settings: CompareSettings, origin: Side, percent: float, expected: tuple[int, int | None] | None
) -> None:
    found: Closes | None = closes(settings, origin, percent)
    assert (found and (found.from_ms, found.to_ms)) == expected

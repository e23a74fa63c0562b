"""Exports: what real ones look like is read; what cannot stand for the table is refused."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.core.canonical import KeySchema
from pipeline.core.comparing.keys import KeyReader
from pipeline.errors import ExportDamaged, ExportRefused
from pipeline.producers.export import lines
from pipeline.producers.export.files import Files, open_folder
from pipeline.producers.export.lines import ChangedItem, read_changes, read_items
from pipeline.producers.export.manifest import Export, ExportKind, check_table, open_export
from tests.exports import TABLE_ARN, TABLE_ID, Change, ExportWriter, data_file, md5

SCHEMA = KeySchema("pk", "S")
KEYS = KeyReader(SCHEMA)


def item(number: int) -> dict[str, Any]:
    return {
        "pk": {"S": f"key-{number}"},
        "count": {"N": str(number)},
        "text": {"S": 'Grüße\n\u2028"quoted"'},
        "map": {"M": {"b": {"BOOL": True}, "a": {"NULL": True}}},
    }


ITEMS = [item(number) for number in range(7)]


def opened(path: Path) -> tuple[Files, Export]:
    files, start = open_folder(str(path))
    return files, open_export(files, start)


def read(path: Path) -> dict[bytes, Any]:
    files, export = opened(path)
    found: dict[bytes, Any] = {}
    for file in export.files:
        for page in read_items(files, file, KEYS):
            assert len(page.keys) == len(page.items)
            found |= zip(page.keys, map(msgspec.json.decode, page.items), strict=True)
    return found


EXPECTED = {SCHEMA.compact_of(one): one for one in ITEMS}


# What real exports look like


@pytest.mark.parametrize("prefix", ["", "some/prefix"])
def test_an_export_is_read_whole(tmp_path: Path, prefix: str) -> None:
    folder = ExportWriter(prefix=prefix, files=3, empty_files=3).full(tmp_path, ITEMS)
    _, export = opened(folder)
    assert (export.kind, export.items, len(export.files)) == (ExportKind.FULL, 7, 6)
    assert (export.table_arn, export.table_id, export.from_ms) == (TABLE_ARN, TABLE_ID, None)
    assert export.to_ms == 1768385930622
    assert export.size == sum(data_file(folder, number).stat().st_size for number in range(6))
    assert read(folder) == EXPECTED


def test_the_folder_may_be_named_or_its_manifest_or_what_holds_it(tmp_path: Path) -> None:
    folder = ExportWriter(prefix="p").full(tmp_path, ITEMS)
    for given in (folder, folder / "manifest-summary.json", folder.parent, tmp_path):
        assert read(given) == EXPECTED


def test_of_several_exports_one_must_be_named(tmp_path: Path) -> None:
    ExportWriter().full(tmp_path, ITEMS)
    ExportWriter(id="01768385930623-efd1a093").full(tmp_path, ITEMS)
    with pytest.raises(ExportRefused, match="holds 2 exports"):
        opened(tmp_path)


def test_where_there_is_no_export_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExportRefused, match=r"no manifest-summary\.json"):
        opened(tmp_path)
    with pytest.raises(ExportRefused, match="no such folder"):
        opened(tmp_path / "elsewhere")


@pytest.mark.parametrize("depth", ["flat", "moved", "renamed"])
def test_a_copied_export_is_read_where_it_lies(tmp_path: Path, depth: str) -> None:
    folder = ExportWriter(prefix="a/b").full(tmp_path / "bucket", ITEMS)
    copy = tmp_path / "copy"
    if depth == "flat":  # everything beside the manifest
        copy.mkdir()
        for path in folder.rglob("*"):
            if path.is_file():
                shutil.copy(path, copy / path.name)
    elif depth == "moved":  # below another prefix
        shutil.copytree(folder, copy / "x" / "AWSDynamoDB" / folder.name)
    else:  # the export's own folder under another name
        shutil.copytree(folder, copy)
    shutil.rmtree(tmp_path / "bucket")
    assert read(copy) == EXPECTED


def test_paths_without_the_prefix_are_found(tmp_path: Path) -> None:
    """As other writers of this layout make them."""
    writer = ExportWriter(
        prefix="p", summary={"manifestFilesS3Key": f"AWSDynamoDB/{ExportWriter.id}/manifest-files.json"}
    )
    assert read(writer.full(tmp_path, ITEMS)) == EXPECTED


def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.json.gz").write_bytes(gzip.compress(b""))
    folder = ExportWriter(line={"dataFileS3Key": "../secret.json.gz"}).full(tmp_path / "bucket", ITEMS)
    with pytest.raises(ExportDamaged, match="is missing"):
        opened(folder)
    folder = ExportWriter(line={"dataFileS3Key": str(tmp_path / "secret.json.gz")}).full(
        tmp_path / "b", ITEMS
    )
    with pytest.raises(ExportDamaged, match="is missing"):
        opened(folder)


def test_unknown_fields_and_a_named_type_change_nothing(tmp_path: Path) -> None:
    writer = ExportWriter(
        summary={"exportType": "FULL_EXPORT", "somethingNew": {"a": 1}, "filterSpecification": {}},
        line={"somethingNew": 1},
    )
    assert read(writer.full(tmp_path, ITEMS)) == EXPECTED


def test_the_documented_name_of_the_checksum_serves_as_well(tmp_path: Path) -> None:
    assert read(ExportWriter(checksum_suffix=".checksum").full(tmp_path, ITEMS)) == EXPECTED


def test_a_file_of_several_gzip_members_is_read_to_its_end(tmp_path: Path) -> None:
    folder = ExportWriter(files=1, empty_files=0).full(tmp_path, ITEMS)
    whole = gzip.decompress(data_file(folder).read_bytes())
    parts = gzip.compress(whole[:100]) + gzip.compress(whole[100:])
    again = ExportWriter(files=1, empty_files=0, data={0: parts}, line={"md5Checksum": md5(parts)})
    assert read(again.full(tmp_path / "again", ITEMS)) == EXPECTED


def test_large_items_and_many_blocks_are_taken_apart_at_lines(tmp_path: Path) -> None:
    items = [item(number) | {"blob": {"S": "x" * (number % 5 * 90_000)}} for number in range(60)]
    found = read(ExportWriter(files=1).full(tmp_path, items))
    assert found == {SCHEMA.compact_of(one): one for one in items}


# What is refused


def refused(folder: Path, kind: type[ExportRefused] = ExportRefused) -> str:
    with pytest.raises(ExportRefused) as raised:
        read(folder)
    assert type(raised.value) is kind
    return str(raised.value)


def test_a_manifest_that_was_changed_is_damaged(tmp_path: Path) -> None:
    for name in ("manifest-summary", "manifest-files"):
        folder = ExportWriter().full(tmp_path / name, ITEMS)
        manifest = folder / f"{name}.json"
        manifest.write_bytes(manifest.read_bytes().replace(b"itemCount", b"itemCounT"))
        assert "does not match its MD5" in refused(folder, ExportDamaged)


def test_a_manifest_without_its_checksum_is_not_believed(tmp_path: Path) -> None:
    assert "is missing" in refused(ExportWriter(checksum_suffix=None).full(tmp_path, ITEMS), ExportDamaged)


def test_a_data_file_with_another_md5_is_damaged(tmp_path: Path) -> None:
    other = gzip.compress(b"".join(_line(one) for one in ITEMS[1:] + ITEMS[:1]))
    folder = ExportWriter(files=1, data={0: other}).full(tmp_path, ITEMS)
    assert "does not match the MD5" in refused(folder, ExportDamaged)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "ends in the middle"),
        (b"not gzip at all", "not a gzip file"),
        (gzip.compress(b'{"Item":' * 100)[:-9], "ends in the middle"),
        (gzip.compress(b'{"Item":{"pk":{"S":"a"}}}\n{"Item":{"pk":'), "not an item"),
        (gzip.compress(b'{"Other":{}}\n'), "not an item"),
        (gzip.compress(b"x" * (lines.MAX_LINE_BYTES + 1)), "longer than any item"),
    ],
    ids=["empty", "not gzip", "truncated", "half a line", "another line", "endless line"],
)
def test_a_file_that_holds_something_else_is_damaged(tmp_path: Path, content: bytes, said: str) -> None:
    folder = ExportWriter(files=1, data={0: content}).full(tmp_path, ITEMS)
    assert said in refused(folder, ExportDamaged)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = ExportWriter().full(tmp_path, ITEMS)
    data_file(folder).unlink()
    assert "is missing" in refused(folder, ExportDamaged)


def test_counts_that_do_not_add_up_are_damage(tmp_path: Path) -> None:
    folder = ExportWriter(summary={"itemCount": 8}).full(tmp_path / "a", ITEMS)
    assert "lists 7 items, the summary says 8" in refused(folder, ExportDamaged)
    folder = ExportWriter(files=1, line={"itemCount": 8}, summary={"itemCount": 8}).full(
        tmp_path / "b", ITEMS
    )
    assert "holds 7 items, the manifest says 8" in refused(folder, ExportDamaged)


def test_a_file_that_is_listed_twice_is_damage(tmp_path: Path) -> None:
    name = json.loads(
        (ExportWriter().full(tmp_path / "a", ITEMS) / "manifest-files.json").read_text().split("\n")[1]
    )
    folder = ExportWriter(line={"dataFileS3Key": name["dataFileS3Key"]}).full(tmp_path / "b", ITEMS)
    assert "listed twice" in refused(folder, ExportDamaged)


def test_ion_is_refused_with_the_way_out(tmp_path: Path) -> None:
    said = refused(ExportWriter(summary={"outputFormat": "ION"}).full(tmp_path, ITEMS))
    assert "ION" in said
    assert "DYNAMODB_JSON" in said


def test_a_filtered_export_is_no_baseline(tmp_path: Path) -> None:
    for field in ("filterSpecification", "FilterSpecification"):
        writer = ExportWriter(summary={field: {"filterExpression": "a = :a"}})
        assert "only a part of the table" in refused(writer.full(tmp_path / field, ITEMS))


@pytest.mark.parametrize(
    "changed",
    [
        {"itemCount": None},
        {"tableArn": 7},
        {"exportTime": None},
        {"exportTime": "yesterday"},
        {"exportTime": "2026-01-14T10:18:50"},
        {"exportType": "SIDEWAYS_EXPORT"},
    ],
)
def test_a_summary_that_lacks_what_is_needed_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert "manifest-summary.json" in refused(ExportWriter(summary=changed).full(tmp_path, ITEMS))


def test_another_tables_export_is_refused_and_an_earlier_table_of_the_same_name(tmp_path: Path) -> None:
    _, export = opened(ExportWriter().full(tmp_path, ITEMS))
    check_table(export, TABLE_ARN, TABLE_ID)
    check_table(export, TABLE_ARN, None)
    with pytest.raises(ExportRefused, match="not of"):
        check_table(export, TABLE_ARN + "2", TABLE_ID)
    with pytest.raises(ExportRefused, match="earlier table"):
        check_table(export, TABLE_ARN, "another")


def test_items_with_other_keys_than_the_tables_are_refused(tmp_path: Path) -> None:
    folder = ExportWriter().full(tmp_path, [{"id": {"S": "a"}, "value": {"S": "private"}}])
    said = refused(folder)
    assert "keys are not the table's" in said
    assert "private" not in said


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ExportWriter().full(tmp_path, ITEMS)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert "Permission denied" in refused(folder)


# Incremental exports


def test_an_incremental_export_is_a_list_of_changed_keys(tmp_path: Path) -> None:
    keys = [{"pk": one["pk"]} for one in ITEMS]
    changes = [
        Change(keys[0], new=ITEMS[0], written_us=1_768_386_327_803_907),
        Change(keys[1], new=ITEMS[1], old=ITEMS[0] | keys[1]),
        Change(keys[2], old=ITEMS[2]),
        Change(keys[3]),
    ]
    files, export = opened(ExportWriter(prefix="p").incremental(tmp_path, changes))
    assert (export.kind, export.items) == (ExportKind.INCREMENTAL, 4)
    assert (export.from_ms, export.to_ms) == (1768384800000, 1768385880000)
    found: list[ChangedItem] = []
    for file in export.files:
        for part in read_changes(files, file, SCHEMA):
            found += part
    assert {one.key for one in found} == {SCHEMA.compact_of(key) for key in keys[:4]}
    images = {one.key: one.image and msgspec.json.decode(one.image) for one in found}
    assert images[SCHEMA.compact_of(keys[1])] == ITEMS[1]
    assert images[SCHEMA.compact_of(keys[2])] is images[SCHEMA.compact_of(keys[3])] is None
    assert next(one for one in found if one.key == b'"key-0"').written_ms == 1_768_386_327_803


def test_incremental_lines_that_are_none_are_damage(tmp_path: Path) -> None:
    content = gzip.compress(b'{"Keys":{"pk":{"S":"a"}}}\n')
    writer = ExportWriter(files=1, data={0: content})
    files, export = opened(writer.incremental(tmp_path, [Change({"pk": {"S": "a"}})]))
    with pytest.raises(ExportDamaged, match="not an item"):
        list(read_changes(files, export.files[0], SCHEMA))


def _line(one: dict[str, Any]) -> bytes:
    return json.dumps({"Item": one}).encode() + b"\n"

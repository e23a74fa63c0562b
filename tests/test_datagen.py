"""`datagen` and `datadel` against moto over HTTP, and against a fake that puts writes off."""

import csv
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from pipeline.demo import datadel, datagen, seeding
from tests.fake import Fake, Kind
from tests.servers import eventually


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as running:
        yield running


def create(url: str, partition_type: str, sort_type: str | None = None) -> tuple[str, str]:
    """A new table with keys `id` and, if asked for, `at`: (the URL, the table's name)."""
    name = f"table-{uuid.uuid4().hex[:8]}"
    types = {"id": partition_type} | ({"at": sort_type} if sort_type else {})
    client(url).create_table(
        TableName=name,
        KeySchema=[
            {"AttributeName": each, "KeyType": kind}
            for each, kind in zip(types, ("HASH", "RANGE"), strict=False)
        ],
        AttributeDefinitions=[{"AttributeName": each, "AttributeType": kind} for each, kind in types.items()],
        BillingMode="PAY_PER_REQUEST",
    )
    return url, name


def client(url: str):
    return boto3.client("dynamodb", endpoint_url=url, region_name="us-east-1")


def items(url: str, table: str) -> list[dict]:
    return client(url).scan(TableName=table)["Items"]


def held(fake: Fake) -> list[bytes]:
    """The items of the fake's table `orders`, as wire JSON."""
    return list(fake.world.table("orders").items.values())


def at(url: str, table: str) -> list[str]:
    return ["--table", table, "--region", "us-east-1", "--endpoint-url", url]


@pytest.mark.parametrize("sort_type", [None, "S", "N", "B"])
@pytest.mark.parametrize("partition_type", ["S", "N", "B"])
def test_keys_of_every_type_are_made_and_deleted_again(
    moto_url: str, tmp_path: Path, partition_type: str, sort_type: str | None
):
    url, table = create(moto_url, partition_type, sort_type)
    keys = tmp_path / "keys.csv"
    assert datagen.main([*at(url, table), "--count", "30", "--batch", "--output", str(keys)]) == 0
    assert len(items(url, table)) == 30
    assert datadel.main([*at(url, table), "--input", str(keys), "--batch"]) == 0
    assert items(url, table) == []


def test_updates_and_deletes_come_after_the_inserts(
    moto_url: str, capsys: pytest.CaptureFixture, tmp_path: Path
):
    url, table = create(moto_url, "S")
    keys = tmp_path / "keys.csv"
    numbers = ["--count", "6", "--updates", "9", "--deletes", "2"]
    code = datagen.main([*at(url, table), *numbers, "--output", str(keys)])
    assert code == 0
    assert "6 inserted, 9 updated, 2 deleted, 0 failed" in capsys.readouterr().out
    revisions = sorted(int(item["revision"]["N"]) for item in items(url, table))
    assert revisions == [2, 3, 3, 3]  # three updated twice, three once; the last two are gone
    with keys.open() as source:
        assert len(list(csv.DictReader(source))) == 6


def test_the_seed_tools_flags_are_accepted(moto_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """--profile --table --count 10 --partition-key pk --sort-key sk --region --wait 0 --output CSV --batch"""
    profile = tmp_path / "config"
    profile.write_text(
        "[profile seed]\nregion = us-east-1\naws_access_key_id = x\naws_secret_access_key = x\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profile))
    url, table = create(moto_url, "S", "S")
    keys = str(tmp_path / "keys.csv")
    shared = ["--profile", "seed", *at(url, table), "--partition-key", "id", "--sort-key", "at"]
    assert datagen.main([*shared, "--count", "10", "--wait", "0", "--output", keys, "--batch"]) == 0
    assert len(items(url, table)) == 10
    assert datadel.main([*shared, "--input", keys, "--verbose"]) == 0
    assert items(url, table) == []


def test_dry_run_deletes_nothing(moto_url: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    url, table = create(moto_url, "N")
    keys = str(tmp_path / "keys.csv")
    datagen.main([*at(url, table), "--count", "3", "--output", keys])
    capsys.readouterr()
    assert datadel.main([*at(url, table), "--input", keys, "--dry-run", "--verbose"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(items(url, table)) == 3
    assert len(printed) == 4
    assert printed[-1] == f"{table}: 3 keys would be deleted; nothing was"


def test_unprocessed_writes_are_repeated_and_counted_once(fake: Fake, capsys: pytest.CaptureFixture):
    """Seed defect 10: UnprocessedItems were ignored, so the counts were false."""
    fake.control.create_table("orders", partition_key="id")
    fake.control.fail(Kind.UNPROCESSED, "BatchWriteItem", calls=3, detail=10)
    assert datagen.main([*at(fake.url, "orders"), "--count", "60", "--batch"]) == 0
    assert "60 inserted, 0 updated, 0 deleted, 0 failed, 30 put off" in capsys.readouterr().out
    assert len(held(fake)) == 60


def test_throttled_writes_are_repeated(fake: Fake, capsys: pytest.CaptureFixture):
    fake.control.create_table("orders", partition_key="id")
    fake.control.fail(Kind.THROTTLE, "BatchWriteItem", calls=5)
    assert datagen.main([*at(fake.url, "orders"), "--count", "25", "--batch"]) == 0
    assert len(held(fake)) == 25
    assert "25 inserted" in capsys.readouterr().out


def test_writes_that_are_put_off_for_ever_are_counted_as_failed(
    fake: Fake, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(seeding, "BACKOFF", seeding.BACKOFF._replace(longest_seconds=0.01))
    fake.control.create_table("orders", partition_key="id")
    fake.control.fail(Kind.UNPROCESSED, "BatchWriteItem", calls=None, detail=5)
    assert datagen.main([*at(fake.url, "orders"), "--count", "25", "--batch"]) == 1
    # Each attempt but the last few has 5 writes put off: 20 are done at once, then never any.
    assert "20 inserted, 0 updated, 0 deleted, 5 failed" in capsys.readouterr().out
    assert len(held(fake)) == 20


def test_deletions_put_off_are_repeated(fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture):
    fake.control.create_table("orders", partition_key="id", partition_type="B", sort_key="at", sort_type="N")
    keys = str(tmp_path / "keys.csv")
    datagen.main([*at(fake.url, "orders"), "--count", "40", "--batch", "--output", keys])
    fake.control.fail(Kind.UNPROCESSED, "BatchWriteItem", calls=2, detail=7)
    assert datadel.main([*at(fake.url, "orders"), "--input", keys, "--batch"]) == 0
    assert "40 deleted, 0 failed, 14 put off" in capsys.readouterr().out
    assert held(fake) == []


def test_after_a_kill_the_file_names_every_item(fake: Fake, tmp_path: Path):
    """The file is written as it goes: what is in the table is in the file, whenever the power goes."""
    fake.control.create_table("orders", partition_key="id")
    keys = tmp_path / "keys.csv"
    command = [*at(fake.url, "orders"), "--count", "100000", "--output", str(keys)]
    program = "import sys; from pipeline.demo import datagen; sys.exit(datagen.main(sys.argv[1:]))"
    with subprocess.Popen([sys.executable, "-c", program, *command], stderr=subprocess.DEVNULL) as running:
        eventually(lambda: fake.control.calls("PutItem") >= 20, 30)
        running.kill()
        running.wait()
    with keys.open() as source:
        named = {row["id"] for row in csv.DictReader(source)}
    assert {json.loads(item)["id"]["S"] for item in held(fake)} <= named


def test_an_existing_output_is_not_overwritten(moto_url: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    url, table = create(moto_url, "S")
    keys = tmp_path / "keys.csv"
    keys.write_text("id\nprecious\n")
    assert datagen.main([*at(url, table), "--output", str(keys)]) == 2
    assert "name another file" in capsys.readouterr().err
    assert keys.read_text() == "id\nprecious\n"
    assert items(url, table) == []


def test_a_wrong_key_name_is_refused_with_the_right_one(moto_url: str, capsys: pytest.CaptureFixture):
    url, table = create(moto_url, "S")
    assert datagen.main([*at(url, table), "--partition-key", "pk"]) == 4
    assert "say --partition-key id" in capsys.readouterr().err
    assert datagen.main([*at(url, table), "--sort-key", "sk"]) == 4
    assert "leave it out" in capsys.readouterr().err


def test_a_missing_table_is_one_clear_line(moto_url: str, capsys: pytest.CaptureFixture):
    assert datagen.main(at(moto_url, "nowhere")) == 4
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "check the name, the region and the account" in said[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the first line must name the key attributes id, at"),
        ("id,when\n1,2\n", "the first line must name the key attributes id, at"),
        ("id,at\n1,AAAA\nx,AAAA\n", "line 3: id is not a number: 'x'"),
        ("id,at\n1,*\n", "line 2: at is not base64: '*'"),
        ("id,at\n1\n", "line 2: too few columns"),
        ("id,at\n,AAAA\n", "line 2: id is empty"),
    ],
)
def test_a_wrong_file_deletes_nothing(
    moto_url: str, tmp_path: Path, capsys: pytest.CaptureFixture, content: str, said: str
):
    url, table = create(moto_url, "N", "B")
    client(url).put_item(TableName=table, Item={"id": {"N": "1"}, "at": {"B": b"\x00\x00\x00"}})
    keys = tmp_path / "keys.csv"
    keys.write_text(content)
    assert datadel.main([*at(url, table), "--input", str(keys)]) == 2
    assert said in capsys.readouterr().err
    assert len(items(url, table)) == 1


def test_equal_numbers_in_the_file_are_one_key(moto_url: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    """BatchWriteItem refuses a key that comes twice, and `1` and `1.0` are one key."""
    url, table = create(moto_url, "N")
    keys = tmp_path / "keys.csv"
    keys.write_text("id\n1\n1.0\n1E0\n2\n")
    assert datadel.main([*at(url, table), "--input", str(keys), "--batch"]) == 0
    assert "2 deleted" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options", [["--count", "-1"], ["--wait", "-1"], ["--deletes", "11"], ["--tab", "x"]]
)
def test_wrong_options_are_a_usage_error(options: list[str]):
    with pytest.raises(SystemExit) as ended:
        datagen.main(["--table", "t", *options])
    assert ended.value.code == 2

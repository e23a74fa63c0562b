"""`compare` with exports from outside: real processes, planted truth, every trap of the layout, kill -9."""

import gzip
import json
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from pipeline.store import embedded
from tests.comparing import COLD, PLANTED, Tables, changes_of, exported, instant, items_of
from tests.exports import EXPORT_ID, data_file
from tests.fake import FakeProcess
from tests.servers import eventually
from tests.system import FakeTable, RealTable, System, Table
from tests.whole_store import watch

BOTH = ("source", "target")
OTHERS_ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/other"


@pytest.fixture
def fake() -> Iterator[FakeProcess]:
    with FakeProcess() as one:
        for name in BOTH:
            one.steer("create_table", name=name, ttl="expires", view="NEW_AND_OLD_IMAGES")
        yield one


@pytest.fixture
def tables(tmp_path: Path, fake: FakeProcess) -> Tables:
    return Tables(tmp_path, FakeTable(fake, "source"), FakeTable(fake, "target"))


def exports(tables: Tables, directory: Path, *sides: str, **writer: Any) -> list[str]:
    """The options that name a full export of each of these sides, as it is now."""
    words: list[str] = []
    for side in sides:
        table = getattr(tables, side)
        words += (f"--{side}-export", str(exported(table, directory / f"export-{side}", **writer)))
    return words


def spilled(tables: Tables) -> list[Path]:
    return list((tables.state_dir / "spill").rglob("*"))


# --- what is found -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sides", [("source",), ("target",), BOTH], ids=" and ".join)
def test_what_is_planted_is_found_whichever_side_is_an_export(
    tables: Tables, tmp_path: Path, sides: tuple[str, ...]
) -> None:
    tables.fill()
    planted = tables.plant()
    code, found = tables.compare(*exports(tables, tmp_path, *sides, files=3), "--segments", "4")
    assert code == 1 and found["answer"] == "findings"
    assert tables.findings() == planted
    assert (found["mode"], found["whole"], found["excused"]) == ("export", True, 1)
    assert (found["equal"], found["suspects"]) == (COLD + 2, len(planted) + 1)
    for side in BOTH:
        assert found[side]["items"] == COLD + len(PLANTED) - (1 if side == "source" else 2)
        assert (found[side]["read_units"] == 0) is (side in sides)
        assert (found[side]["export"] is not None) is (side in sides)
        assert found[side]["not_sampled"] == 0
    assert found["phases"]["sort"] == {"planned": 8, "read": 8}  # 3 files and an empty one, or 4 segments
    assert found["phases"]["bucket"]["read"] == found["phases"]["bucket"]["planned"]
    assert spilled(tables) == []


def test_what_changed_since_the_export_is_no_finding_and_what_did_not_arrive_is_one(
    tables: Tables, tmp_path: Path
) -> None:
    """The export shows what was; a key is judged by what is."""
    tables.fill(50)
    for table in (tables.source, tables.target):
        for key in ("arrived", "deleted"):
            table.put({"pk": {"S": key}, "v": {"S": "old"}})
    tables.source.put({"pk": {"S": "stale"}, "v": {"S": "old"}})
    tables.target.put({"pk": {"S": "stale"}, "v": {"S": "older"}})
    words = exports(tables, tmp_path, "source")
    for table in (tables.source, tables.target):
        table.put({"pk": {"S": "arrived"}, "v": {"S": "new"}})
        table.put({"pk": {"S": "born"}, "v": {"S": "new"}})
        table.delete({"pk": {"S": "deleted"}})
    tables.source.put({"pk": {"S": "stale"}, "v": {"S": "new"}})
    tables.target.put({"pk": {"S": "stale"}, "v": {"S": "old, but not as the export has it"}})
    code, found = tables.compare(*words)
    assert (code, tables.findings()) == (1, {"stale": "different"})
    assert (found["equal"], found["suspects"]) == (50, 4)


def test_a_target_that_stayed_at_what_was_exported_is_found_when_its_key_is_a_suspect(
    tables: Tables, tmp_path: Path
) -> None:
    """Both exports differ, and since then the target has become what the source's showed: still wrong."""
    tables.fill(10)
    tables.source.put({"pk": {"S": "k"}, "v": {"S": "exported"}})
    tables.target.put({"pk": {"S": "k"}, "v": {"S": "before"}})
    words = exports(tables, tmp_path, *BOTH)
    tables.source.put({"pk": {"S": "k"}, "v": {"S": "now"}})
    tables.target.put({"pk": {"S": "k"}, "v": {"S": "exported"}})
    code, _ = tables.compare(*words)
    assert (code, tables.findings()) == (1, {"k": "different"})


def test_empty_tables_prove_nothing_and_an_empty_target_lacks_everything(
    tables: Tables, tmp_path: Path
) -> None:
    words = exports(tables, tmp_path / "empty", *BOTH)
    code, found = tables.compare(*words)
    assert (code, found["answer"], found["success"]) == (3, "inconclusive", None)
    for number in range(30):
        tables.source.put({"pk": {"S": f"k{number}"}})
    code, found = tables.compare(*exports(tables, tmp_path / "full", "source"))
    assert (code, found["findings"]["missing"], found["equal"]) == (1, 30, 0)


def test_tables_that_share_nothing_are_all_findings(tables: Tables, tmp_path: Path) -> None:
    for number in range(40):
        tables.source.put({"pk": {"S": f"s{number}"}})
        tables.target.put({"pk": {"S": f"t{number}"}})
    code, found = tables.compare(*exports(tables, tmp_path, *BOTH))
    assert (code, found["equal"], found["suspects"]) == (1, 0, 80)
    assert (found["findings"]["missing"], found["findings"]["extra"]) == (40, 40)


def test_a_sample_is_one_of_keys_on_both_sides(tables: Tables, tmp_path: Path) -> None:
    tables.fill(400)
    code, found = tables.compare(*exports(tables, tmp_path, "source"), "--sample-rate", "25")
    assert code == 0 and not found["whole"] and 50 < found["equal"] < 150
    for side in BOTH:
        assert (found[side]["items"], found[side]["not_sampled"]) == (400, 400 - found["equal"])
    success = found["success"]
    assert (success["unit"], success["high"]) == ("key", 1.0) and 0.9 < success["low"] < 1


@pytest.mark.parametrize("how", ["scan", *BOTH])
@pytest.mark.parametrize("keys", [{"pk": "S", "sk": "N"}, {"pk": "N", "sk": "B"}, {"pk": "B"}], ids=str)
def test_large_deep_and_odd_items_under_keys_of_every_kind(
    tmp_path: Path, moto_url: str, fake: FakeProcess, keys: dict[str, str], how: str
) -> None:
    """400 KB, 32 levels, empty values; and each of them once with a difference at its far end.

    A table of binary keys alone is the fake's: moto does not scan it in segments.
    """
    name = uuid.uuid4().hex[:8]
    source: Table
    target: Table
    if keys == {"pk": "B"}:
        for side in BOTH:
            fake.steer("create_table", name=f"{side}-b", partition_type="B")
        source, target = FakeTable(fake, "source-b"), FakeTable(fake, "target-b")
    else:
        source, target = RealTable(moto_url, f"s-{name}", keys), RealTable(moto_url, f"t-{name}", keys)
    tables = Tables(tmp_path, source, target)
    spelled = {"S": "k{}", "N": "{}", "B": "AAA{}"}
    deep: Callable[[str], Any] = lambda leaf: _nested(leaf, 30)  # noqa: E731
    bodies: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"v": {"S": "x" * 390_000}}, {"v": {"S": "x" * 390_000}}),
        ({"v": {"S": "x" * 390_000}}, {"v": {"S": "x" * 389_999 + "y"}}),
        (deep("a"), deep("a")),
        (deep("a"), deep("b")),
        ({"v": {"S": ""}, "l": {"L": []}, "m": {"M": {}}}, {"m": {"M": {}}, "l": {"L": []}, "v": {"S": ""}}),
        ({"v": {"S": ""}}, {"v": {"NULL": True}}),
        ({"v": {"NS": ["1", "20"]}}, {"v": {"NS": ["2E1", "1.0"]}}),
    ]
    for number, (one, other) in enumerate(bodies, start=10):
        key = {name: {kind: spelled[kind].format(number)[-4:]} for name, kind in keys.items()}
        source.put({**key, **one})
        target.put({**key, **other})
    words = exports(tables, tmp_path, how) if how in BOTH else []
    code, found = tables.compare(*words)
    assert (code, found["equal"], found["suspects"]) == (1, 4, 3)
    assert found["findings"]["different"] == 3


def _nested(leaf: str, levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"S": leaf}
    for level in range(levels):
        value = {"M": {"x": value}} if level % 2 else {"L": [value]}
    return {"v": value}


def test_ignored_attributes_and_replication_marks_are_left_out(tables: Tables, tmp_path: Path) -> None:
    for number in range(20):
        key = {"pk": {"S": f"k{number}"}}
        tables.source.put({**key, "v": {"S": "a"}, "mine": {"S": "1"}})
        tables.target.put({**key, "v": {"S": "a"}, "mine": {"S": "2"}, "aws:rep:updatetime": {"N": "1"}})
    words = exports(tables, tmp_path, *BOTH)
    code, found = tables.compare(*words, "--ignore-attribute", "mine")
    assert (code, found["equal"]) == (0, 20)


# --- where an export lies ----------------------------------------------------------------------------------


def test_in_a_bucket_by_path_and_by_arn(
    tables: Tables, tmp_path: Path, fake: FakeProcess, moto_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The AWS SDK's own variable leads to an emulator."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_url)
    tables.fill(30)
    tables.source.put({"pk": {"S": "lost"}})
    folder = exported(tables.source, tmp_path / "made", prefix="exports/of")
    client, bucket = boto3.client("s3", endpoint_url=moto_url), f"exports-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket)
    for path in (tmp_path / "made").rglob("*"):
        if path.is_file():
            client.upload_file(str(path), bucket, path.relative_to(tmp_path / "made").as_posix())
    code, found = tables.compare("--source-export", f"s3://{bucket}/exports/of")
    assert (code, found["equal"], found["findings"]["missing"]) == (1, 30, 1)

    summary = json.loads((folder / "manifest-summary.json").read_bytes())
    description = {
        "ExportArn": summary["exportArn"],
        "ExportStatus": "COMPLETED",
        "S3Bucket": bucket,
        "ExportManifest": str((folder / "manifest-summary.json").relative_to(tmp_path / "made")),
        "ExportFormat": "DYNAMODB_JSON",
    }
    fake.steer("describe_export_as", arn=summary["exportArn"], description=description)
    code, found = tables.compare("--source-export", summary["exportArn"])
    assert (code, found["source"]["export"]["arn"]) == (1, summary["exportArn"])

    [data] = [name for name in _names(client, bucket) if name.endswith(data_file(folder).name)]
    client.delete_object(Bucket=bucket, Key=data)
    code, message = tables.refused("--source-export", f"s3://{bucket}/exports/of")
    assert code == 4 and "is missing" in message


def _names(client: Any, bucket: str) -> list[str]:
    return [one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"]]


# --- what is not believed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("writer", "says"),
    [
        ({"summary": {"outputFormat": "ION"}}, "ION"),
        ({"summary": {"tableArn": OTHERS_ARN}}, "not of arn:"),
        ({"summary": {"filterSpecification": {"filterExpression": "a = :a"}}}, "only a part"),
        ({"summary": {"itemCount": 31}}, "lists 30 items, the summary says 31"),
        ({"checksum_suffix": None}, "checksum"),
        ({"line": {"dataFileS3Key": "AWSDynamoDB/nowhere/data/x.json.gz"}}, "is missing"),
        ({"line": {"md5Checksum": "AAAAAAAAAAAAAAAAAAAAAA=="}}, "MD5"),
        ({"data": {0: b"what no gzip file begins with"}}, "not a gzip file"),
        ({"data": {0: gzip.compress(b'{"Item":{"other":{"S":"a"}}}\n')}}, "keys are not the table's"),
    ],
)
@pytest.mark.parametrize("side", BOTH)
def test_what_cannot_stand_for_the_table_ends_the_run(
    tables: Tables, tmp_path: Path, writer: dict[str, Any], says: str, side: str
) -> None:
    tables.fill(30)
    code, message = tables.refused(*exports(tables, tmp_path, side, **writer))
    assert code == 4 and says in message
    assert tables.findings() == {}


def test_a_file_that_is_damaged_while_it_is_compared_ends_the_run(tables: Tables, tmp_path: Path) -> None:
    tables.fill(30)
    words = exports(tables, tmp_path, "source")
    path = data_file(Path(words[1]), 1)
    path.write_bytes(path.read_bytes()[:-9])
    code, message = tables.refused(*words)
    assert code == 4 and "ends in the middle" in message


def test_a_damaged_file_ends_the_run_however_long_it_went_well(
    tables: Tables, tmp_path: Path, fake: FakeProcess
) -> None:
    """A comparer that has worked is started again when it ends; not for this."""
    tables.fill(30)
    words = exports(tables, tmp_path, "target")
    path = data_file(Path(words[1]), 1)
    path.write_bytes(path.read_bytes()[:-9])
    fake.steer("fail", kind="slow", operation="Scan", calls=None, detail=0.5)
    code, message = tables.refused(*words, "--segments", "8", "--workers", "1", "--in-flight", "1")
    assert code == 4 and "ends in the middle" in message
    assert '"comparer started"' in message and "process ended: restarting" not in message


def test_a_full_and_an_incremental_export_do_not_go_together(tables: Tables, tmp_path: Path) -> None:
    tables.fill(3)
    changes = changes_of(tables.target, tmp_path / "changes", ["cold-1"], 0, 1)
    code, message = tables.refused(*exports(tables, tmp_path, "source"), "--target-export", str(changes))
    assert code == 4 and "one says what changed, the other what there is" in message


def interrupted(tables: Tables, fake: FakeProcess, *words: str) -> None:
    """Begin a comparison, and stop it by Ctrl-C when some of it is sorted."""
    fake.steer("fail", kind="slow", operation="Scan", calls=None, detail=1)
    with tables.comparing(*words, "--workers", "1", "--in-flight", "2") as child:
        url = eventually(lambda: _noted_url(tables), 60)
        state = watch(url, tables.migration)
        eventually(lambda: (found := state.figures().comparison) and found.done >= 4, 60)
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 130
    fake.steer("clear_faults")
    assert spilled(tables)


def test_an_unfinished_comparison_goes_on_with_its_own_export_and_no_other(
    tables: Tables, tmp_path: Path, fake: FakeProcess
) -> None:
    tables.fill()
    words = [*exports(tables, tmp_path / "one", "source"), "--segments", "200"]
    interrupted(tables, fake, *words)
    other = exports(tables, tmp_path / "two", "source", id=f"{EXPORT_ID[:-1]}0")
    for asked in ([*other, "--segments", "200"], ["--segments", "200"]):
        code, message = tables.refused(*asked)
        assert code == 4 and "--restart" in message
    moved = tmp_path / "moved"
    Path(words[1]).parents[1].rename(moved)  # a copy of an export is that export
    code, found = tables.compare("--source-export", str(moved), "--segments", "200")
    assert (code, found["equal"], found["source"]["items"]) == (0, COLD, COLD)
    assert spilled(tables) == []


def test_what_an_abandoned_comparison_has_spilled_goes_when_another_is_begun(
    tables: Tables, tmp_path: Path, fake: FakeProcess
) -> None:
    tables.fill()
    interrupted(tables, fake, *exports(tables, tmp_path, "source"), "--segments", "200")
    code, _ = tables.compare("--restart")
    assert code == 0 and spilled(tables) == []


# --- whatever dies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["sort", "bucket"])
def test_a_comparer_that_dies_in_the_middle_changes_no_count(
    tables: Tables, tmp_path: Path, fake: FakeProcess, phase: str
) -> None:
    """In the bucket phase the comparer waits for answers, with suspects published and nothing counted."""
    tables.fill()
    planted = tables.plant()
    for table in (tables.source, tables.target):
        for number in range(60):
            table.put({"pk": {"S": f"moved-{number}"}, "v": {"S": "old"}})
    words = exports(tables, tmp_path, "source")
    for table in (tables.source, tables.target):
        for number in range(60):
            table.put({"pk": {"S": f"moved-{number}"}, "v": {"S": "new"}})
    slow = "Scan" if phase == "sort" else "BatchGetItem"
    fake.steer("fail", kind="slow", operation=slow, calls=None, detail=0.3)
    few = ("--segments", "40", "--workers", "1", "--in-flight", "2", "--stop-after-findings", "20")
    with tables.comparing(*words, *few) as child:
        url = eventually(lambda: _noted_url(tables), 60)
        state = watch(url, tables.migration)

        def in_the_middle() -> bool:
            figures = state.figures()
            comparison = figures.comparison
            if comparison is None:
                return False
            done, planned = comparison.settings.partitions().phases(comparison.done)[phase]
            return done < planned and (done >= 5 if phase == "sort" else figures.ledger.suspects_waiting > 20)

        eventually(in_the_middle, 60)
        os.kill(tables.pids("compare-comparer-0")[-1], signal.SIGKILL)
        fake.steer("clear_faults")
        eventually(lambda: child.poll() is not None, 120)
    found = json.loads(tables.log.read_text().splitlines()[-1])
    assert child.returncode == 1
    assert (found["equal"], found["suspects"]) == (COLD + 2, len(planted) + 1 + 60)
    assert found["partitions"]["read"] == found["partitions"]["planned"]
    assert found["source"]["items"] == COLD + len(PLANTED) - 1 + 60
    assert tables.findings() == planted
    assert spilled(tables) == []


def _noted_url(tables: Tables) -> str | None:
    return embedded._noted_url(tables.state_dir) if (tables.state_dir / "server.json").exists() else None


# --- under traffic -----------------------------------------------------------------------------------------


def test_beside_a_run_writes_are_no_findings(tmp_path: Path, fake: FakeProcess, store_url: str) -> None:
    """The export is older than what is written; the replica is late; what nobody writes is found."""
    tables = Tables(tmp_path, FakeTable(fake, "source"), FakeTable(fake, "target"), store_url)
    tables.fill()
    planted = tables.plant()
    system = System(
        tmp_path, store_url, tables.source, tables.target, tables.migration, "--sample-rate", "100",
    )  # fmt: skip
    with system.running():
        eventually(lambda: system.store.figures().reader.watermark_ms, 60)
        for number in range(20):
            system.write(f"hot-{number}", "exported")
        words = exports(tables, tmp_path, "source")
        with tables.comparing(*words, "--spill-dir", str(tmp_path / "spill")) as child:
            number = 0
            while child.poll() is None:
                name = f"hot-{number % 20}"
                system.write(name, f"value {number}", replica="none")
                system.replicate(name, f"value {number}")
                number += 1
        found = json.loads(tables.log.read_text().splitlines()[-1])
        eventually(lambda: system.store.ledger().outstanding == 0, 60)
    assert child.returncode == 1 and found["equal"] >= COLD
    assert tables.findings() == planted
    assert system.store.ledger().balanced and not list((tmp_path / "spill").iterdir())


# --- incremental exports -----------------------------------------------------------------------------------


def test_the_keys_of_an_incremental_export_are_looked_up_and_no_others(
    tables: Tables, tmp_path: Path
) -> None:
    tables.fill(40)
    planted = tables.plant()
    folder = changes_of(tables.source, tmp_path, ["missing", "different", "cold-1", "gone"], 0, 1)
    code, found = tables.compare("--source-export", str(folder))
    assert (code, found["mode"], found["whole"]) == (1, "changes", False)
    assert tables.findings() == {key: planted[key] for key in ("missing", "different")}
    assert (found["suspects"], found["source"]["items"], found["target"]["items"]) == (4, 4, 0)
    assert found["success"] == {"low": 0.5, "high": 0.5, "confidence": 1.0, "unit": "changed key"}
    assert found["source"]["read_units"] == found["target"]["read_units"] == 0
    extra = changes_of(tables.target, tmp_path / "target", ["extra"], 0, 1)
    code, found = tables.compare("--target-export", str(extra))
    assert (code, found["target"]["items"]) == (1, 1)
    assert tables.findings()["extra"] == "extra"


def test_an_incremental_export_closes_a_gap_and_the_gate_tells(
    tmp_path: Path, fake: FakeProcess, store_url: str
) -> None:
    """A comparison of the table that was made before still vouches for it, as no change is lost any more."""
    tables = Tables(tmp_path, FakeTable(fake, "source"), FakeTable(fake, "target"), store_url)
    tables.fill(20)
    run = System(tmp_path, store_url, tables.source, tables.target, tables.migration)
    with run.running():
        eventually(lambda: run.store.figures().reader.watermark_ms, 60)
        assert tables.compare()[0] == 0
        now_ms = run.store.now_ms()
        field = json.dumps(["stream:x/shard-1", "trimmed", "7"])
        run.store._redis.hset(run.store._key("gaps"), field, f"{now_ms}|{now_ms - 20_000}|{now_ms - 10_000}")
        gate = _gate(tables)
        assert (gate["gaps"][0], gate["whole-table"][0]) == ("failed", "inconclusive")
        minute = 60_000
        for side, ends in (("target", 5 * minute), ("source", 0), ("source", 5 * minute)):
            window = (now_ms - 5 * minute, now_ms + ends)
            folder = changes_of(getattr(tables, side), tmp_path / f"{side}-{ends}", ["cold-1"], *window)
            assert tables.compare(f"--{side}-export", str(folder))[0] == 0
            closed = (side, ends) == ("source", 5 * minute)
            assert run.store.figures().reader.gaps_open == (0 if closed else 1)
        gate = _gate(tables)
    assert gate["gaps"][0] == "passed" and "1 closed by incremental export" in gate["gaps"][1]
    assert gate["whole-table"][0] == "passed"
    status = _json(tables, "status")
    assert (status["comparison"]["mode"], status["comparison_of_table"]["mode"]) == ("changes", "scan")
    [told] = status["reader"]["gaps_closed"]
    assert told["from"] == instant(now_ms - 20_000) and "export" in told["by"]
    assert (status["reader"]["gaps"], status["reader"]["gaps_open"]) == (1, 0)


def _gate(tables: Tables) -> dict[str, tuple[str, str]]:
    return {one["name"]: (one["result"], one["reason"]) for one in _json(tables, "gate")["checks"]}


def _json(tables: Tables, command: str) -> Any:
    done = subprocess.run(tables.command(command), capture_output=True, text=True, timeout=60, check=False)
    return json.loads(done.stdout)


# --- what it says ------------------------------------------------------------------------------------------


def test_the_plan_says_what_an_export_takes(tables: Tables, tmp_path: Path) -> None:
    tables.fill(20)
    words = exports(tables, tmp_path, "source")
    tables.words.remove("--json")
    done = subprocess.run(
        tables.command("compare", "--dry-run", *words),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    said = " ".join(done.stdout.split())
    for word in ("source export", "3 files", "GB compressed", "20 items", "0 read units", "spill", "on disk"):
        assert word in said
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert not tables.state_dir.exists()


def test_the_result_says_how_each_side_was_read(tables: Tables, tmp_path: Path) -> None:
    tables.fill(20)
    time_ = instant((time.time() - 3600) * 1000)
    words = exports(tables, tmp_path, "source", summary={"exportTime": time_})
    tables.words.remove("--json")
    done = subprocess.run(
        tables.command("compare", *words), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [" ".join(row.split()) for row in re.split(r"\n {2}(?=\S)", done.stdout)]
    source, target = (next(row for row in rows if row.startswith(side)) for side in BOTH)
    assert f"read from an export: the table at {time_[:19]}Z" in source and "export" not in target
    assert len(items_of(tables.source)) == 20

"""The directory of the metrics: full, with a file of length 0, or cleaned away: nothing stops."""

import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.world import SLOTS, World
from tests.servers import eventually


@pytest.fixture
def full_directory(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few pages, for as long as the test lasts."""
    directory = tmp_path / "tiny"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_full_metrics_directory_kills_no_process(
    full_directory: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(full_directory))
    with world.watching():
        world.plant()
        world.settle("metrics directory full")
        assert {slot: len(world.pids(slot)) for slot in SLOTS} == dict.fromkeys(SLOTS, 1)
        assert b"ddbmm_" in scrape(world)


def test_a_file_of_length_0_stops_no_scrape(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with world.watching():
        [directory] = tmp_path.glob("ddbmm-metrics-*")
        (directory / "counter_validator-9.db").touch()
        world.plant()
        world.settle("metrics file of length 0")
        assert b"ddbmm_metrics_unreadable_files 1.0" in scrape(world)
        assert b"ddbmm_validations_total" in scrape(world)


def scrape(world: World) -> bytes:
    [served] = world.logged("metrics served")
    with urllib.request.urlopen(served["url"], timeout=10) as answer:
        return bytes(answer.read())


def test_a_cleaner_of_temporary_files_takes_no_metric_away(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with world.watching():
        world.plant()
        eventually(lambda: "ddbmm_validations" in names(scrape(world)), 30)
        world.settle("metrics files, before they are removed")
        before = scrape(world)
        for directory in tmp_path.glob("ddbmm-metrics-*"):
            shutil.rmtree(directory)
        eventually(lambda: len(world.logged("metrics files were removed: made anew")) == 5, 30)
        eventually(lambda: names(scrape(world)) >= names(before), 30)
        world.kill(world.pids("validator-0")[-1])
        world.wait_for("validator-0", 2)
        world.plant()
        world.settle("metrics files removed, validator killed")
        assert count(scrape(world)) > count(before)


def names(exposition: bytes) -> set[str]:
    return {family.name for family in text_string_to_metric_families(exposition.decode())}


def count(exposition: bytes) -> float:
    """Looks of all validators."""
    families = text_string_to_metric_families(exposition.decode())
    return sum(
        one.value for each in families for one in each.samples if one.name == "ddbmm_validations_total"
    )

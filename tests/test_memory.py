"""What the control group says of its memory, in each form the kernel writes it."""

from pathlib import Path

import pytest

from pipeline.process import memory
from pipeline.process.memory import Memory

STAT = "anon 700\nfile 300\ninactive_file 200\nactive_file 100\n"


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_of_", ".")).write_text(text, encoding="ascii")


def asked(root: Path, own: str) -> Memory | None:
    (root / "own").write_text(own, encoding="ascii")
    return memory.of_this_group(root / "cgroup", root / "own")


def test_a_container_sees_its_limit_at_the_root_and_cached_files_are_not_in_use(tmp_path: Path) -> None:
    group(tmp_path / "cgroup", memory_of_max="4000\n", memory_of_current="1000\n", memory_of_stat=STAT)
    assert asked(tmp_path, "0::/\n") == Memory(800, 4000)


def test_a_service_sees_its_own_group(tmp_path: Path) -> None:
    unit = tmp_path / "cgroup" / "system.slice" / "watch.service"
    group(unit, memory_of_max="4000\n", memory_of_current="1000\n", memory_of_stat=STAT)
    assert asked(tmp_path, "0::/system.slice/watch.service\n") == Memory(800, 4000)


def test_the_first_version_of_control_groups(tmp_path: Path) -> None:
    group(
        tmp_path / "cgroup" / "memory",
        memory_of_limit_in_bytes="4000\n",
        memory_of_usage_in_bytes="1000\n",
        memory_of_stat="cache 300\ntotal_inactive_file 200\n",
    )
    assert asked(tmp_path, "9:memory:/docker/1\n") == Memory(800, 4000)


@pytest.mark.parametrize("limit", ["max\n", f"{memory.NO_LIMIT_BYTES}\n", "", "4000 bytes\n"])
def test_without_a_limit_there_is_no_answer(tmp_path: Path, limit: str) -> None:
    group(tmp_path / "cgroup", memory_of_max=limit, memory_of_current="1000\n", memory_of_stat=STAT)
    assert asked(tmp_path, "0::/\n") is None


def test_files_that_are_missing_or_odd_are_no_answer_and_no_error(tmp_path: Path) -> None:
    assert memory.of_this_group(tmp_path / "none", tmp_path / "nothing") is None
    group(tmp_path / "cgroup", memory_of_max="4000\n", memory_of_current="many\n", memory_of_stat=STAT)
    assert asked(tmp_path, "0::/\n") is None

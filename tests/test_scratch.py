"""The directory of a process group: where it is made, what is left of a killed run, what cannot be made."""

import tempfile
from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError
from pipeline.process import scratch


def test_it_lasts_as_long_as_its_run(tmp_path: Path) -> None:
    with scratch.directory(str(tmp_path)) as made:
        assert Path(made).parent == tmp_path
        assert Path(made).stat().st_mode & 0o777 == 0o700
        (Path(made) / "counter_a.db").touch()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_and_what_a_run_beside_us_has_is_not(tmp_path: Path) -> None:
    left = tmp_path / "ddbmm-metrics-left"
    left.mkdir()
    with scratch.directory(str(tmp_path)) as first, scratch.directory(str(tmp_path)) as second:
        assert {one.name for one in tmp_path.iterdir()} == {Path(first).name, Path(second).name}


def test_a_cleaner_that_was_quicker_is_no_failure(tmp_path: Path) -> None:
    with scratch.directory(str(tmp_path)) as made:
        Path(made).rmdir()


@pytest.mark.parametrize("home", ["nowhere", "a file"])
def test_a_place_where_nothing_can_be_made_is_said_with_the_remedy(tmp_path: Path, home: str) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(ConfigurationError, match="TMPDIR"), scratch.directory(str(tmp_path / home)):
        pytest.fail("it was made")


def test_a_host_without_any_place_for_temporary_files_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(ConfigurationError, match="No usable temporary directory"), scratch.directory(None):
        pytest.fail("it was made")

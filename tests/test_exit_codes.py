"""The table of exit codes, a test for each row: the real program, from outside."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from pipeline import exit_codes
from pipeline.exit_codes import MEANINGS
from tests import servers
from tests.test_monitor import SETTINGS, judge, publish
from tests.whole_store import WholeStore

LOOKING = ("status", "findings", "gate")
Made = Callable[..., list[str]]
DEFECT = """
import sys
from pipeline import cli
cli._show_config = lambda *_: {error}
sys.exit(cli.main(["config"]))
"""


def ends(*words: str, **environment: str) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *words],
        env={**os.environ, **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr
    return done.returncode


def ends_by(raised: str) -> int:
    """What the program ends with when a command raises that."""
    command = [sys.executable, "-c", DEFECT.format(error=raised)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


@pytest.fixture
def made(valkey_url: str) -> Iterator[Made]:
    """Makes a migration of two keys, of which some were judged and some are missing; its options."""
    stores = []

    def make(*, judged: bool = True, missing: tuple[str, ...] = ()) -> list[str]:
        store = WholeStore.begin(valkey_url, f"codes-{uuid.uuid4().hex}", SETTINGS)
        stores.append(store)
        publish(store, "ann", "bob")
        if judged:
            judge(store, *missing)
        return ["--migration", store.migration, "--redis-url", valkey_url]

    yield make
    for store in stores:
        store.close()


def test_0_all_is_well(made: Made) -> None:
    options = made()
    assert [ends(command, *options) for command in ("status", "findings", "config")] == [0, 0, 0]
    assert ends("mark", "T1", *options) == 0
    assert ends("--help") == ends("--version") == 0


def test_1_the_answer_is_no(made: Made) -> None:
    options = made(missing=("bob",))
    assert [ends(command, *options) for command in LOOKING] == [1, 1, 1]
    unbalanced = made()
    with redis.Redis.from_url(unbalanced[-1]) as client:
        client.hincrby(f"ddbmm:{{{unbalanced[1]}}}:ledger", "reached", -1)
    assert [ends(command, *unbalanced) for command in LOOKING] == [1, 1, 1]


@pytest.mark.parametrize(
    "words", [["--sample-rate", "0"], ["statsu"], ["status"], ["mark", "T9", "--migration", "m"]]
)
def test_2_the_command_line_is_wrong(words: list[str]) -> None:
    assert ends(*words) == 2


def test_2_a_value_of_the_environment_is_wrong() -> None:
    assert ends("config", DDBMM_SAMPLE_RATE="many") == 2
    assert ends("config", DDBMM_SAMPEL_RATE="5") == 2


def test_3_nobody_knows(made: Made) -> None:
    options = made(judged=False)
    assert [ends(command, *options) for command in ("status", "findings")] == [3, 3]


def test_4_the_configuration_is_wrong(valkey_url: str, tmp_path: os.PathLike[str]) -> None:
    nobody = ["--migration", "nobody", "--redis-url", valkey_url]
    assert [ends(command, *nobody) for command in LOOKING] == [4, 4, 4]
    assert ends("status", "--migration", "nobody", "--state-dir", str(tmp_path)) == 4
    assert ends("config", "--config", "/nowhere.yaml") == 4


@pytest.mark.parametrize("command", [*LOOKING, "mark"])
def test_5_redis_cannot_be_asked(command: str) -> None:
    """It was 1 once, as for mismatches; and a cutover script takes 1 for an answer."""
    away = ["--migration", "m", "--redis-url", f"redis://127.0.0.1:{servers.free_port()}"]
    assert ends(command, *(["T1"] if command == "mark" else []), *away) == 5


def test_70_a_defect_of_the_program() -> None:
    assert ends_by("1 / 0") == 70


def test_74_the_answer_cannot_be_written() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-m", "pipeline.cli", "config"], stdout=full, check=False)
    assert done.returncode == 74


def test_130_interrupted() -> None:
    assert ends_by("(_ for _ in ()).throw(KeyboardInterrupt)") == 130


def test_141_nobody_reads_on(made: Made) -> None:
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen([sys.executable, "-m", "pipeline.cli", "findings", *made()], stdout=write) as child:
        os.close(write)
        assert child.wait(60) == 141


def test_every_row_has_a_test() -> None:
    tested = {int(name.split("_")[1]) for name in globals() if name.startswith("test_") and name[5].isdigit()}
    assert tested == set(MEANINGS)
    assert {value for name, value in vars(exit_codes).items() if isinstance(value, int)} == set(MEANINGS)

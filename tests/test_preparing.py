"""Several migrations before a start: one that is refused stops no other, and the file tells of each."""

import json
import re
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.both_tables import is_complete
from pipeline.commands import preparing
from pipeline.config import Loaded, load
from pipeline.errors import ConfigurationError, MonitorError, NotFound, SettingsChanged
from pipeline.store import StoreView
from tests.fake import Fake
from tests.servers import eventually
from tests.test_cli import MODULE, command

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def fake() -> Iterator[Fake]:
    """Two sides of one account: `orders` and `customers` with streams, `bare` without, and a copy of each."""
    with Fake() as fake:
        for table in ("orders", "customers"):
            fake.control.create_table(table, view="NEW_AND_OLD_IMAGES")
        fake.control.create_table("bare")
        for copy in ("orders-new", "customers-new", "bare-new"):
            fake.control.create_table(copy)
        yield fake


@pytest.fixture
def given(fake: Fake, valkey_url: str, tmp_path: Path) -> "Given":
    return Given(fake.url, valkey_url, tmp_path)


class Given:
    """A file of migrations whose names are new each time."""

    def __init__(self, url: str, redis_url: str, directory: Path) -> None:
        self._of_all = (
            f"region: us-east-1\nsource-endpoint-url: {url}\ntarget-endpoint-url: {url}\n"
            f"redis-url: {redis_url}\nmetrics-port: 0\n"
        )
        self._path = directory / "monitor.yaml"
        self.suffix = uuid.uuid4().hex[:8]

    def file(self, *sources: str, more: str = "") -> list[str]:
        entries = "".join(
            f"  {self.name(one)}: {{source-table: {one}, target-table: {one}-new}}\n" for one in sources
        )
        self._path.write_text(f"{self._of_all}{more}migrations:\n{entries}")
        return ["--config", str(self._path)]

    def twins(self) -> list[str]:
        """`orders` three times: once more by its ARN, and once more as another target's source."""
        file = self.file("orders")
        arn = "arn:aws:dynamodb:us-east-1:123456789012:table/orders"
        with self._path.open("a") as entries:
            entries.write(f"  {self.name('again')}: {{source-table: '{arn}', target-table: orders-new}}\n")
            entries.write(f"  {self.name('beside')}: {{source-table: orders, target-table: customers-new}}\n")
        return file

    def name(self, source: str) -> str:
        return f"{source}-{self.suffix}"

    def loaded(self, *sources: str, more: str = "", word: str = "run") -> Loaded:
        return load([word, *self.file(*sources, more=more)], {})


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_the_plan_tells_of_each_and_of_those_that_are_refused(given: Given) -> None:
    done = command("run", "--dry-run", *given.file("orders", "bare", "gone", "customers"))
    assert done.returncode == 4
    blocks = [flat(block) for block in done.stdout.split("\n\n")]
    assert [block.split()[:2] for block in blocks] == [
        ["migration", given.name(one)] for one in ("orders", "bare", "gone", "customers")
    ]
    assert "table/orders-new" in blocks[0] and "table/customers-new" in blocks[3]
    assert "refused source table bare has no enabled stream" in blocks[1]
    assert "refused source: " in blocks[2] and "gone" in blocks[2]


def test_the_plan_of_sound_ones_ends_with_0(given: Given) -> None:
    assert command("run", "--dry-run", *given.file("orders", "customers")).returncode == 0


def test_one_that_is_refused_is_handed_on_as_it_was_given(given: Given) -> None:
    loaded = given.loaded("orders", "gone", "customers")
    looked = preparing.prepare(loaded.process, loaded.migrations)
    assert [one.migration.name for one in looked] == [one.name for one in loaded.migrations]
    assert [is_complete(one.migration) for one in looked] == [True, False, True]
    assert looked[1].migration == loaded.migrations[1] and isinstance(looked[1].error, NotFound)
    preparing.check_any(looked)


def test_the_state_of_each_is_begun_but_for_the_refused(given: Given) -> None:
    loaded = given.loaded("orders", "gone", "customers")
    looked = preparing.prepare(loaded.process, loaded.migrations)
    opened = preparing.open_store(loaded.process, looked)
    assert [one.opened is not None and one.opened.new for one in opened] == [True, False, True]
    again = preparing.open_store(loaded.process, looked)
    assert [one.opened is not None and not one.opened.new for one in again] == [True, False, True]

    other = given.loaded("orders", "customers", more="sample-rate: 7\n")
    changed = preparing.open_store(other.process, preparing.prepare(other.process, other.migrations))
    assert [type(one.error) for one in changed] == [SettingsChanged, SettingsChanged]
    with pytest.raises(ConfigurationError, match="none of the 2 migrations"):
        preparing.check_any(changed)


def test_when_all_are_refused_each_is_said_and_nothing_starts(given: Given) -> None:
    done = command("run", *given.file("gone", "bare"))
    assert done.returncode == 4
    said = done.stderr.splitlines()
    assert said[-1].startswith("dynamodb-migration-monitor: none of the 2 migrations can be served")
    assert any(line.startswith(f"{given.name('gone')}: source: ") for line in said)
    assert any(line.startswith(f"{given.name('bare')}: source table bare has no") for line in said)


def test_one_alone_is_refused_as_without_a_list(given: Given) -> None:
    loaded = given.loaded("gone")
    with pytest.raises(NotFound):
        preparing.prepare(loaded.process, loaded.migrations)
    done = command("run", *given.file("gone"))
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1].startswith("dynamodb-migration-monitor: source: ")


def test_a_server_that_is_away_refuses_all(given: Given) -> None:
    loaded = given.loaded("orders", "customers")
    looked = preparing.prepare(loaded.process, loaded.migrations)
    away = load(["run", *given.file("orders"), "--redis-url", "redis://127.0.0.1:1"], {}).process
    with pytest.raises(MonitorError, match="none of the 2"):
        preparing.check_any(preparing.open_store(away, looked))
    with pytest.raises(MonitorError, match="none of the 2"):
        preparing.check_any(preparing.await_store(away, loaded.migrations))


def test_doctor_has_a_section_and_a_line_of_each_and_the_worst_exit_code(given: Given) -> None:
    done = command("doctor", *given.file("orders", "gone", "customers"))
    assert done.returncode == 4
    sections = done.stdout.split("\n\n")
    names = [given.name(one) for one in ("orders", "gone", "customers")]
    assert [section.splitlines()[0] for section in sections] == [
        *(f"migration {name}" for name in names),
        f"doctor: NOT READY: 1 of 3 migrations: {names[1]}",
    ]
    assert sections[0].splitlines()[-1].startswith(f"{names[0]}: READY: every check passed")
    assert sections[1].splitlines()[-1].startswith(f"{names[1]}: NOT READY: 1 check failed")
    assert all(section.count("redis:") == 1 for section in sections[:3])

    done = command("doctor", *given.file("orders", "customers"))
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "doctor: READY: all 2 migrations"


def test_doctor_as_json_is_an_object_of_each(given: Given) -> None:
    done = command("doctor", "--json", *given.file("orders", "gone"))
    told = json.loads(done.stdout)
    assert (told["passed"], done.returncode) == (False, 4)
    passed = {name: one["passed"] for name, one in told["migrations"].items()}
    assert passed == {given.name("orders"): True, given.name("gone"): False}
    alone = json.loads(command("doctor", "--json", *given.file("orders")).stdout)
    assert set(alone) == {"passed", "checks"}


def test_a_run_says_who_is_refused_and_watches_the_others(given: Given, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    with log.open("wb") as sink:
        run = subprocess.Popen([*MODULE, "run", *given.file("orders", "gone")], stdout=sink, stderr=sink)
    try:
        began = [f"migration={given.name('orders')}", "the watch begins"]
        eventually(lambda: run.poll() is not None or all(one in flat(log.read_text()) for one in began), 60)
        run.send_signal(signal.SIGTERM)
        assert run.wait(120) == 0
    finally:
        run.kill()
    said = flat(log.read_text())
    assert said.startswith("migrations 2; 1 cannot be served now, and will be tried again")
    assert f"{given.name('gone')} not served: source: " in said
    assert f"migration is not served migration={given.name('gone')}" in said.replace("- ", "-")


def test_a_run_whose_port_is_taken_begins_no_state_and_tells_of_none(given: Given) -> None:
    """Whoever gives the same command twice is not told that a watch begins, and later finds none."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = command("run", *given.file("orders", "customers"), "--metrics-port", port)
    assert (done.returncode, done.stdout) == (4, "")
    assert [f"127.0.0.1:{port}" in line for line in done.stderr.splitlines()] == [True]
    loaded = given.loaded("orders", "customers")
    for one in loaded.migrations:
        assert StoreView.open(loaded.process.redis_url, one.name) is None


def test_two_of_the_same_tables_are_found_once_the_tables_are_seen(given: Given) -> None:
    """One entry by name and one by ARN: the table that was meant would be looked at by nobody."""
    file = given.twins()
    said = f"migrations {given.name('orders')} and {given.name('again')} watch the same tables"
    for words in (["run"], ["run", "--dry-run"], ["validator"]):
        done = command(*words, *file)
        assert (done.returncode, done.stdout) == (4, "")
        assert [said in line for line in done.stderr.splitlines()] == [True]
    assert command("run", "--dry-run", *file, "--migration", given.name("again")).returncode == 0

    told = json.loads(command("doctor", "--json", *file).stdout)["migrations"]
    failing = {
        name: [line["says"] for line in one["checks"] if line["level"] == "fail"]
        for name, one in told.items()
        if not one["passed"]
    }
    assert list(failing) == [given.name("again")] and said in failing[given.name("again")][0]
    warned = [line["says"] for line in told[given.name("beside")]["checks"] if line["level"] == "warn"]
    assert any(f"migration {given.name('orders')} reads this stream as well" in one for one in warned)

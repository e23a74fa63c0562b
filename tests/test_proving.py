"""A validator that cannot read its tables is none, whether anything changes or not; and it is said once."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from pipeline import metrics
from pipeline.backoff import Backoff
from pipeline.config import Loaded, load
from pipeline.validator import role
from tests.fake import Fake
from tests.servers import eventually
from tests.whole_store import watch


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role, "PROVE_SECONDS", 0.05)
    monkeypatch.setattr(role, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(role, "PROVED_A_SECOND", 60.0)
    monkeypatch.setattr(role, "ALIVE_MS", 2_500)
    monkeypatch.setattr(role, "MENDED_SECONDS", 3.0)
    monkeypatch.setattr(role, "BACKOFF", Backoff(0.05, 0.1))


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        yield one


class Served:
    """The validators of a process, in threads of this one. Nothing reads a stream."""

    def __init__(self, fake: Fake, directory: Path, url: str, *names: str) -> None:
        self.names, self.logged = names, list[Any]()
        for name in names:
            fake.control.create_table(f"{name}-source")
            fake.control.create_table(name)
        entries = "".join(f"  {name}: {{source-table: {name}-source}}\n" for name in names)
        file = directory / "migration.yml"
        file.write_text(f"migrations:\n{entries}" if len(names) > 1 else f"source-table: {names[0]}-source\n")
        options = ["--config", str(file), "--redis-url", url, "--region", "us-east-1"]
        if len(names) == 1:
            options += ["--target-table", names[0]]
        ends = (f"--{side}-endpoint-url={fake.url}" for side in ("source", "target"))
        self._loaded: Loaded = load(["validator", *options, *ends], {})
        self._stores = {name: watch(url, name) for name in names}
        self._metrics = metrics.start(None, "validator-0")

    @contextmanager
    def running(self) -> Iterator[None]:
        stop, loaded = threading.Event(), self._loaded
        arguments = (loaded.process, loaded.migrations, stop, self._metrics, lambda **_: None, "validator-0")
        thread = threading.Thread(target=role.run_validator, args=arguments)
        with structlog.testing.capture_logs() as self.logged:
            thread.start()
            try:
                eventually(lambda: all(map(self.is_served, self.names)))
                yield
            finally:
                stop.set()
                thread.join(120)

    def is_served(self, name: str) -> bool:
        """As Prometheus hears it, and as the gate does."""
        labels = {"migration": name, "expected_role": "validator"}
        exported = self._metrics.registry.get_sample_value("ddbmm_migration_served", labels)
        return exported == 1 and self._stores[name].figures().validators == 1

    def is_unserved(self, name: str) -> bool:
        labels = {"migration": name, "expected_role": "validator"}
        exported = self._metrics.registry.get_sample_value("ddbmm_migration_served", labels)
        return exported == 0 and self._stores[name].figures().validators == 0

    def said(self) -> list[tuple[str, str]]:
        told = ("migration is not served", "migration is served again")
        return [(one["event"], one["migration"]) for one in self.logged if one["event"] in told]


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_table_that_cannot_be_read_while_nothing_changes_leaves_no_validator(
    fake: Fake, valkey_url: str, tmp_path: Path, side: str
) -> None:
    served = Served(fake, tmp_path, valkey_url, f"reading-{side}", f"reading-other-{side}")
    name = f"reading-{side}"
    table = fake.world.tables[f"{name}-source" if side == "source" else name]
    with served.running():
        del fake.world.tables[table.name]
        eventually(lambda: served.is_unserved(name))
        eventually(lambda: served.is_served(f"reading-other-{side}"))
        fake.world.tables[table.name] = table
        eventually(lambda: served.is_served(name))
    # A reason of its own where it is described and where it is read, and the table may go between the two.
    told = [one for one, _ in itertools.groupby(served.said())]
    assert told == [("migration is not served", name), ("migration is served again", name)]


@pytest.mark.parametrize("names", [("anew",), ("anew-1", "anew-2")])
@pytest.mark.parametrize("side", ["source", "target"])
def test_what_was_found_of_a_table_does_not_hold_of_another_one_of_its_name(
    fake: Fake, valkey_url: str, tmp_path: Path, side: str, names: tuple[str, ...]
) -> None:
    """A restore, or a table that was dropped and made again: it may be empty, whatever was found before."""
    names = tuple(f"{name}-{side}" for name in names)
    served = Served(fake, tmp_path, valkey_url, *names)
    table = f"{names[0]}-source" if side == "source" else names[0]
    with served.running():
        fake.control.delete_table(table)
        fake.control.create_table(table)
        eventually(lambda: served.is_unserved(names[0]))
        eventually(lambda: all(map(served.is_served, names[1:])))
    told = [str(line.get("reason", line.get("error"))) for line in served.logged]
    assert any(f"the {side} table was deleted and another one was made" in one for one in told)


@pytest.mark.parametrize("kind", ["access_denied", "expired_token", "stall"])
def test_one_alone_that_cannot_read_is_no_validator_and_goes_on(
    fake: Fake, valkey_url: str, tmp_path: Path, kind: str
) -> None:
    served = Served(fake, tmp_path, valkey_url, f"proving-{kind}")
    with served.running():
        fake.control.fail(kind, "BatchGetItem", calls=None)
        eventually(lambda: served._stores[f"proving-{kind}"].figures().validators == 0)
        fake.control.clear_faults()
        eventually(lambda: served.is_served(f"proving-{kind}"))


def test_a_table_that_is_only_slowed_down_is_still_watched(
    fake: Fake, valkey_url: str, tmp_path: Path
) -> None:
    served = Served(fake, tmp_path, valkey_url, "proving-slow")
    with served.running():
        fake.control.fail("throttle", "BatchGetItem", calls=None)
        asked = fake.control.calls("BatchGetItem")
        eventually(lambda: fake.control.calls("BatchGetItem") > asked + 5)
        eventually(lambda: served.is_served("proving-slow"))


def test_one_whose_keys_nobody_can_claim_has_no_validator(
    fake: Fake, valkey_url: str, tmp_path: Path
) -> None:
    served = Served(fake, tmp_path, valkey_url, "proving-whole", "proving-damaged")
    with served.running():
        store = served._stores["proving-damaged"]
        store._redis.delete(store._key("entries"))
        store._redis.set(store._key("entries"), b"\x00\xff")
        store._redis.zadd(store._key("due"), {b"key": 1})
        eventually(lambda: served.is_unserved("proving-damaged"))
        eventually(lambda: served.is_served("proving-whole"))
        store._redis.delete(store._key("entries"), store._key("due"))
        eventually(lambda: served.is_served("proving-damaged"))

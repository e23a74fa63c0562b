"""Validators that die again and again: of reading, of whatever kills them from outside, of one entry."""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.fake import Fake
from tests.fake.wire import Hangup
from tests.servers import eventually
from tests.system import FakeTable, System

KEYS = 30
#: More than an entry was allowed to be handed out before it became a dead letter.
DEATHS = 14


class Deadly:
    """A fake whose BatchGetItem kills who asks: always, or for one key alone."""

    def __init__(self, fake: Fake) -> None:
        self.pid = 0
        self.kills = 0
        self.always = False
        self.poison = "\0"  # the key
        self._answer = fake.world.operations["BatchGetItem"]
        fake.world.operations["BatchGetItem"] = self._batch_get_item

    def _batch_get_item(self, request: Any) -> bytes:
        if self.always or self.poison in json.dumps(request):
            self.kills += 1
            os.kill(self.pid, signal.SIGKILL)
            raise Hangup
        return self._answer(request)


@pytest.fixture
def deadly(fake: Fake) -> Deadly:
    return Deadly(fake)


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        one.control.create_table("source", view="NEW_AND_OLD_IMAGES")
        one.control.create_table("target")
        yield one


@pytest.fixture
def system(tmp_path: Path, valkey_url: str, fake: Fake) -> System:
    tables = [FakeTable(fake, name) for name in ("source", "target")]
    return System(tmp_path, valkey_url, tables[0], tables[1], f"deaths-{time.time_ns()}")


@contextlib.contextmanager
def published(system: System, names: list[str]) -> Iterator[None]:
    """Writes to both sides, published before any validator looks, by a reader that goes on."""
    for number, name in enumerate(names):
        system.write(name, "first", replica="wrong" if number % 3 == 0 else "same")
    command = [sys.executable, "-m", "pipeline.cli", "reader", *system._state, *system._options]
    with servers.process(command, log=system.log):
        eventually(lambda: system.store.ledger().records_read == system.writes, 60)
        yield


@contextlib.contextmanager
def validator(system: System, deadly: Deadly) -> Iterator[Any]:
    command = [sys.executable, "-m", "tests.faults.lone_validator", *system._state, *system._options]
    with servers.process(command, log=system.log) as child:
        deadly.pid = child.pid
        yield child


def live_and_die(system: System, deadly: Deadly) -> None:
    with validator(system, deadly) as child:
        assert eventually(child.poll, 60, "a death") == -signal.SIGKILL


def test_validators_that_die_of_reading_bury_no_key(system: System, deadly: Deadly) -> None:
    """Every one of 30 keys became a dead letter, and 12 of 12 planted faults were never found."""
    with published(system, [f"k{number}" for number in range(KEYS)]):
        deadly.always = True
        for _ in range(DEATHS):
            with validator(system, deadly) as child:
                assert eventually(child.poll, 60, "a death") == -signal.SIGKILL
        deadly.always = False
        with validator(system, deadly):
            status = eventually(system.at_rest, 60, "every key judged")
    assert (deadly.kills, status["ledger"]["dead"]) == (DEATHS, 0)
    assert system.findings() == system.truth()


def test_an_entry_that_kills_every_validator_is_buried_and_the_others_in_hand_with_it_are_judged(
    system: System, deadly: Deadly
) -> None:
    def is_buried() -> bool:
        return system.store.ledger().dead_entries["redelivered"] > 0

    with published(system, ["poison", *(f"k{number}" for number in range(KEYS))]):
        deadly.poison = "poison"
        for _ in range(DEATHS):
            with validator(system, deadly) as child:
                eventually(lambda: child.poll() or is_buried(), 60, "a death or a burial")
        assert is_buried()
        deadly.poison = "\0"
        with validator(system, deadly):
            status = eventually(system.at_rest, 60, "every other key judged")
    assert status["ledger"]["dead"] == 1
    assert system.findings() == {key: kind for key, kind in system.truth().items() if key != "poison"}

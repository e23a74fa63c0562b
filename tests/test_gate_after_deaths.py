"""The gate of a live run whose validators die: never GO over what nobody has proven."""

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.gate import Limits, Result, Scope, evaluate
from pipeline.validator.role import ALIVE_MS
from tests.fake import FakeProcess
from tests.servers import eventually
from tests.system import FakeTable, System

LIMITS = Limits(objective=0.5, scope=Scope.CHANGES)


@pytest.fixture
def fake() -> Iterator[FakeProcess]:
    with FakeProcess() as one:
        one.steer("create_table", name="source", view="NEW_AND_OLD_IMAGES", shards=4)
        one.steer("create_table", name="target")
        yield one


@pytest.fixture
def system(tmp_path: Path, store_url: str, fake: FakeProcess) -> System:
    tables = FakeTable(fake, "source"), FakeTable(fake, "target")
    return System(tmp_path, store_url, *tables, f"gate-{uuid.uuid4().hex[:12]}")


def is_open(system: System) -> bool:
    return evaluate(system.store.figures(), LIMITS).result is Result.PASSED


def test_when_the_only_validator_is_killed_the_gate_closes_and_stays_closed(system: System) -> None:
    """It was GO for a minute more, with a thousand versions that nobody had looked for."""
    written = iter(range(1_000_000))

    def keep_writing() -> None:
        system.write(f"k{next(written)}", "value")

    with system.running("reader"), system.running("validator") as validator:

        def opened() -> bool:
            keep_writing()
            return is_open(system)

        eventually(opened, 60, "the gate opens")
        killed_ms = system.store.now_ms()
        os.kill(validator.pid, signal.SIGKILL)

        def silent() -> bool:
            """Whatever the gate says from when the validator's word has run out is not GO."""
            keep_writing()
            figures = system.store.figures()
            out_of_time = figures.now_ms > killed_ms + ALIVE_MS
            assert not out_of_time or evaluate(figures, LIMITS).result is Result.FAILED
            return figures.now_ms > killed_ms + 2 * ALIVE_MS and figures.ledger.outstanding > 0

        eventually(silent, 60, "versions that nobody has proven")

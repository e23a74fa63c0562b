"""Options of the fault tests, and the table at their end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import accounts
from tests.faults.world import World

#: Kills of the two forms of the suite. One round of test_kills is nine.
BOUNDED_ROUNDS, FULL_ROUNDS = 2, 9


def full(config: pytest.Config) -> bool:
    return bool(config.getoption("--faults-full", default=False))


def pytest_configure(config: pytest.Config) -> None:
    if full(config):
        config.option.timeout = 900


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if accounts.ROWS:
        terminalreporter.write_sep("=", "faults")
        for line in accounts.table():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def kill_rounds(request: pytest.FixtureRequest) -> int:
    return FULL_ROUNDS if full(request.config) else BOUNDED_ROUNDS


@pytest.fixture(scope="session")
def one_by_one(request: pytest.FixtureRequest) -> bool:
    """Whether faults that can be had together are had one after another."""
    return full(request.config)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as one:
        yield one


@pytest.fixture(scope="module")
def lasting_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One running program for every case of a module, each of which leaves it at rest."""
    with World(tmp_path_factory.mktemp("world")) as one, one.watching():
        yield one

"""Fixtures that more than one test file uses; the servers themselves are in `tests/servers.py`."""

import logging
import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest
import structlog

from tests import servers

#: Set before anything imports boto3: no test can reach a real account, whatever this machine is logged in to.
AWS_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
for _name in [name for name in os.environ if name.startswith(("AWS_", "DDBMM_")) and name != "AWS_CA_BUNDLE"]:
    del os.environ[_name]
os.environ.update(AWS_ENVIRONMENT)

# Where the tests run in the background of a shell, SIGINT is ignored, and children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# An example that is slow because the machine is busy is no failure.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation of the judging rule")
    group.addoption("--simulation-scale", type=float, default=1.0, help="times the keys of each scenario")
    group.addoption("--simulation-seed", type=int, default=1, help="another seed is another world")
    faults = parser.getgroup("faults")
    faults.addoption("--faults-full", action="store_true", help="every fault by itself, and more kills")
    faults.addoption("--faults-seed", type=int, default=1, help="another seed kills at other moments")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For `-n auto`: the long tests wait for other processes more than they compute."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(scope="session")
def simulation_scale(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--simulation-scale"))


@pytest.fixture(scope="session")
def simulation_seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--simulation-seed"))


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A test that sets logging up, as a process does once, must not leave its levels to the next one."""
    configure, root = structlog.configure, logging.getLogger()
    handlers, level = list(root.handlers), root.level
    # A logger that was kept would write as the test wanted that used it first.
    structlog.configure = lambda **settings: configure(**{**settings, "cache_logger_on_first_use": False})
    try:
        yield
    finally:
        structlog.configure = configure
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.fixture(autouse=True)
def own_default_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 keeps the credentials of the first client made in a process; a test that plays with them must not
    leave its own to the tests after it (DynamoDB Local shows every access key tables of its own).
    """
    import boto3

    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's Valkey. Shared: use a migration name of your own, and never flush it."""
    with servers.redis_like(servers.valkey_binary(), tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's Redis, the one that Debian ships; the same rules."""
    with servers.redis_like(servers.redis_binary(), tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(params=["valkey", "redis"])
def store_url(request: pytest.FixtureRequest) -> str:
    """Each kind of server that the store must work with."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's moto. Shared: use table names of your own."""
    with servers.moto(tmp_path_factory.mktemp("moto")) as url:
        yield url


@pytest.fixture(scope="session")
def other_moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A second moto, for the other side of a migration."""
    with servers.moto(tmp_path_factory.mktemp("other-moto")) as url:
        yield url


@pytest.fixture(scope="session")
def dynamodb_local_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's DynamoDB Local; the same rules. Its creation times are whole minutes."""
    with servers.dynamodb_local(tmp_path_factory.mktemp("dynamodb-local")) as url:
        yield url


@pytest.fixture(scope="session")
def current_dynamodb_local_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's DynamoDB Local of today; the same rules, and creation times of whole minutes too."""
    with servers.current_dynamodb_local(tmp_path_factory.mktemp("current-dynamodb-local")) as url:
        yield url


@pytest.fixture(scope="session")
def dynalite_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's dynalite; the same rules. It has no streams."""
    with servers.dynalite(tmp_path_factory.mktemp("dynalite")) as url:
        yield url

"""The embedded server: state that outlives the run, one run a directory, nothing left behind."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pipeline.errors import ConfigurationError
from pipeline.store import RedisConnection, check_server, embedded
from tests import servers

#: A run that keeps its server until it is killed; says so through a file.
_RUN = """
import sys, time
from pathlib import Path
from pipeline.store import embedded
with embedded.running(sys.argv[1]) as url:
    Path(sys.argv[2]).write_text(url)
    time.sleep(600)
"""


@pytest.fixture
def state(tmp_path: Path) -> str:
    return str(tmp_path / "state")


@pytest.fixture
def other_run(tmp_path: Path, state: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that has the directory, and its server."""
    told = tmp_path / "told"
    command = [sys.executable, "-c", _RUN, state, str(told)]
    with servers.process(command, log=tmp_path / "run.log") as child:
        servers.eventually(lambda: told.exists() and told.read_text(), what="the other run's server")
        yield child


def client(url: str) -> "redis.Redis":
    return redis.Redis.from_url(url)


def server_pid(url: str) -> int:
    return int(client(url).info("server")["process_id"])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_server_is_one_that_the_store_accepts(state: str) -> None:
    with embedded.running(state) as url:
        assert check_server(RedisConnection(url, "m")).policy == "noeviction"


def test_state_outlives_the_run(state: str) -> None:
    with embedded.running(state) as url:
        client(url).set("k", "v")
    with embedded.running(state) as url:
        assert client(url).get("k") == b"v"


def test_the_server_ends_with_the_run(state: str) -> None:
    with embedded.running(state) as url:
        pid = server_pid(url)
    assert not alive(pid)


def test_the_server_ends_when_the_run_is_killed_and_a_restart_goes_on(
    state: str, other_run: "subprocess.Popen[bytes]"
) -> None:
    with embedded.attached(state) as url:
        pid = server_pid(url)
        client(url).set("k", "v")
        client(url).execute_command("WAITAOF", 1, 0, 5000)
    other_run.kill()
    other_run.wait()
    servers.eventually(lambda: not alive(pid), what="the end of the server")
    with embedded.running(state) as url:
        assert client(url).get("k") == b"v"


def test_a_second_run_on_the_directory_is_refused_and_told_who_has_it(
    state: str, other_run: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LOCK_SECONDS", 0.1)
    with pytest.raises(ConfigurationError, match=r"pid \d+.*--state-dir"), embedded.running(state):
        pass


def test_a_look_beside_a_run_uses_its_server(state: str) -> None:
    with embedded.running(state) as url, embedded.attached(state) as same:
        assert same == url


def test_a_look_without_a_run_starts_a_server_on_the_state_and_ends_it(state: str) -> None:
    with embedded.running(state) as url:
        client(url).set("k", "v")
    with embedded.attached(state) as url:
        assert client(url).get("k") == b"v"
        pid = server_pid(url)
    assert not alive(pid)


def test_a_look_where_no_state_is_is_refused_and_makes_none(state: str) -> None:
    with pytest.raises(ConfigurationError, match="no state"), embedded.attached(state):
        pass
    assert not Path(state).exists()


def test_a_server_left_over_by_an_earlier_run_is_ended_before_a_new_one_starts(state: str) -> None:
    """What remains where a parent's death kills no child: the lock is free, the server answers."""
    home = Path(state)
    home.mkdir()
    options = [
        "--unixsocket",
        str(home / "valkey.sock"),
        "--appendonly",
        "yes",
        "--dir",
        state,
        "--port",
        "0",
    ]
    with servers.process([servers.valkey_binary(), *options], log=home / "left.log") as left:
        url = f"unix://{home}/valkey.sock"
        servers.eventually((home / "valkey.sock").exists)
        client(url).set("k", "v")
        (home / "server.json").write_text(f'{{"url": "{url}", "run": 1}}')
        with embedded.running(state) as url:
            assert left.poll() is not None
            assert client(url).get("k") == b"v"


def test_a_server_that_is_killed_is_started_again_on_its_state(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "RESTART_SECONDS", 0.05)
    with embedded.running(state) as url:
        client(url).set("k", "v")
        client(url).execute_command("WAITAOF", 1, 0, 5000)
        first = server_pid(url)
        os.kill(first, signal.SIGKILL)

        def answer() -> bytes | None:
            try:
                return client(url).get("k")  # type: ignore[return-value]
            except redis.ConnectionError:
                return None

        assert servers.eventually(answer) == b"v"
        second = server_pid(url)
        assert second != first
    assert not alive(second)


def test_nobody_else_can_use_the_server_or_read_its_files(state: str) -> None:
    with embedded.running(state) as url:
        client(url).set("k", "v")
        for path in Path(state).rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        assert client(url).config_get("port")["port"] == "0"


def test_a_directory_too_deep_for_a_socket_works_too(tmp_path: Path) -> None:
    deep = str(tmp_path / ("d" * 100))
    with embedded.running(deep) as url:
        client(url).set("k", "v")
        with embedded.attached(deep) as same:
            assert client(same).get("k") == b"v"


def test_a_working_directory_that_is_gone_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for enter in (embedded.running, embedded.attached, embedded.shared):
        with pytest.raises(ConfigurationError, match="working directory, which is gone"), enter(".ddbmm"):
            pass


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigurationError, match="--state-dir"),
        embedded.running(str(tmp_path / "file/state")),
    ):
        pass


def test_a_ruined_state_is_refused_with_the_servers_own_words(state: str) -> None:
    with embedded.running(state) as url:
        client(url).set("k", "v")
    for path in Path(state, "appendonlydir").glob("*.incr.aof"):
        path.write_bytes(b"*3\r\n$3\r\nSET\r\nnot the protocol at all\r\n" * 20)
    with (
        pytest.raises(ConfigurationError, match=r"does not start \(.+\): see .*valkey\.log"),
        embedded.running(state),
    ):
        pass

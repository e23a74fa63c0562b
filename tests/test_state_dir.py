"""The state directory under attack: copies, forged notes, links, foreign owners, open modes."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from pipeline.errors import ConfigurationError
from pipeline.store import embedded, state_dir
from tests import servers

VICTIM = "the only copy of something"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "state"


def client(url: str) -> "redis.Redis":
    return redis.Redis.from_url(url)


def answers(path: Path) -> bool:
    """A socket is there a moment before anybody listens at it."""
    try:
        return bool(client(f"unix://{path}").ping())
    except redis.ConnectionError:
        return False


def begin(home: Path) -> None:
    with embedded.running(str(home)) as url:
        client(url).set("k", "v")


def modes(home: Path) -> dict[str, int]:
    return {str(path): stat.S_IMODE(path.lstat().st_mode) for path in (home, *home.rglob("*"))}


def test_all_of_it_is_for_its_owner_alone_whatever_the_umask(home: Path) -> None:
    before = os.umask(0)
    try:
        with embedded.running(str(home)) as url:
            client(url).set("k", "v")
            assert {path: mode for path, mode in modes(home).items() if mode & 0o077} == {}
            assert len(modes(home)) > 5
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o1777, 0o750, 0o705])
def test_a_directory_that_is_there_becomes_its_owners_alone(home: Path, mode: int) -> None:
    begin(home)
    for path in home.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o666)
    home.chmod(mode)
    with embedded.running(str(home)) as url:
        assert client(url).get("k") == b"v"
        assert {path: mode for path, mode in modes(home).items() if mode & 0o077} == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(home: Path) -> None:
    home.mkdir()
    os.chown(home, 12_345, 12_345)
    with pytest.raises(ConfigurationError, match="another user"), embedded.running(str(home)):
        pass
    assert list(home.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_in_it_is_refused(home: Path) -> None:
    home.mkdir()
    (home / "owner.lock").touch()
    os.chown(home / "owner.lock", 12_345, 12_345)
    with pytest.raises(ConfigurationError, match=r"owner\.lock.*another user"), embedded.running(str(home)):
        pass


def link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


def dangling(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("to be made by us"))


@pytest.mark.parametrize("how", [link, hard_link, dangling])
@pytest.mark.parametrize("name", ["owner.lock", "server.json", "server.json.new", "valkey.log"])
def test_a_link_in_it_harms_nothing(
    home: Path, tmp_path: Path, name: str, how: Callable[[Path, Path], None]
) -> None:
    victim = tmp_path / "victim"
    victim.write_text(VICTIM)
    victim.chmod(0o644)
    home.mkdir(mode=0o777)
    how(home / name, victim)
    with pytest.raises(ConfigurationError, match="link"), embedded.running(str(home)):
        pass
    assert victim.read_text() == VICTIM and stat.S_IMODE(victim.stat().st_mode) == 0o644
    assert not victim.with_name("to be made by us").exists()


def test_a_linked_appendonlydir_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    home.mkdir()
    (home / "appendonlydir").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="appendonlydir"), embedded.running(str(home)):
        pass
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_only_waits_in_its_place_stops_nobody(home: Path) -> None:
    home.mkdir()
    os.mkfifo(home / "server.json")
    with pytest.raises(ConfigurationError, match=r"server\.json"), embedded.running(str(home)):
        pass


# --- whose server it is ------------------------------------------------------------------------------------


def test_a_copy_of_a_live_directory_leaves_the_live_server_alone(home: Path, tmp_path: Path) -> None:
    with embedded.running(str(home)) as live:
        client(live).set("where", "live")
        client(live).execute_command("WAITAOF", 1, 0, 5000)
        copy = tmp_path / "copy"
        shutil.copytree(home, copy, ignore=shutil.ignore_patterns("*.sock"))
        with embedded.running(str(copy)) as other:
            assert other != live
            client(other).set("where", "copy")
        with embedded.attached(str(copy)) as other:
            assert client(other).get("where") == b"copy", "the copy's own state, not the live one"
        with embedded.shared(str(copy)) as (other, beside):
            assert (client(other).get("where"), beside) == (b"copy", False)
        assert client(live).get("where") == b"live"


def test_a_copy_of_one_whose_path_is_too_long_for_a_socket_too(tmp_path: Path) -> None:
    home, copy = tmp_path / ("d" * 100), tmp_path / ("c" * 100)
    with embedded.running(str(home)) as live:
        client(live).set("where", "live")
        shutil.copytree(home, copy)
        with embedded.running(str(copy)) as other:
            assert other != live
        assert client(live).get("where") == b"live"


def test_a_moved_directory_and_one_behind_a_link_work(home: Path, tmp_path: Path) -> None:
    begin(home)
    home.rename(tmp_path / "moved")
    home.symlink_to(tmp_path / "moved")
    with embedded.running(str(home)) as url, embedded.attached(str(tmp_path / "moved")) as same:
        assert client(url).get("k") == client(same).get("k") == b"v"


@pytest.mark.parametrize("place", ["elsewhere", "ddbmm-forged"])
def test_a_forged_note_shuts_no_foreign_server_down(home: Path, tmp_path: Path, place: str) -> None:
    foreign = tmp_path / place
    foreign.mkdir(mode=0o700)
    path = foreign / "valkey.sock"
    command = [servers.valkey_binary(), "--port", "0", "--unixsocket", str(path), "--dir", str(foreign)]
    with servers.process(command, log=tmp_path / "foreign.log") as child:
        servers.eventually(lambda: answers(path))
        home.mkdir()
        (home / "server.json").write_text(json.dumps({"url": f"unix://{path}", "run": 1}))
        with embedded.running(str(home)) as url:
            assert url != f"unix://{path}"
        assert child.poll() is None and client(f"unix://{path}").ping()


NOTES: tuple[object, ...] = (
    {"url": "redis://127.0.0.1:6379"},
    {"url": "unix:///"},
    {"url": "unix://" + "x" * 500 + "/valkey.sock"},
    {"url": "unix:///a\x00b/valkey.sock"},
    {"url": "unix://relative/valkey.sock"},
    {"url": ["unix:///x"]},
    {"url": {"a": 1}},
    {"url": None, "run": "\x1b[2J"},
    {"url": 5},
    [],
    "text",
    None,
)


@pytest.mark.parametrize("note", NOTES)
def test_a_note_of_any_form_is_no_obstacle(home: Path, note: object) -> None:
    begin(home)
    (home / "server.json").write_text(json.dumps(note))
    with embedded.attached(str(home)) as url:
        assert client(url).get("k") == b"v"


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff", '{"url": "' + "x" * 1_000_000])
def test_a_note_that_is_none_is_no_obstacle(home: Path, text: str) -> None:
    begin(home)
    (home / "server.json").write_bytes(text.encode("latin-1"))
    with embedded.running(str(home)) as url:
        assert client(url).get("k") == b"v"


def test_nothing_is_said_to_a_socket_that_is_not_ours(home: Path, tmp_path: Path) -> None:
    """Such as that of a container engine."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "engine.sock"))
        listener.listen()

        def listen() -> None:
            line, _ = listener.accept()
            heard.append(line.recv(100))

        threading.Thread(target=listen, daemon=True).start()
        home.mkdir()
        (home / "server.json").write_text(json.dumps({"url": f"unix://{tmp_path}/engine.sock"}))
        begin(home)
    assert heard == []


def test_a_server_left_over_is_ended_though_its_note_is_gone(home: Path) -> None:
    """Two servers on one append-only file would ruin it."""
    home.mkdir(mode=0o700)
    path = home / "valkey.sock"
    options = ("--port", "0", "--unixsocket", str(path), "--appendonly", "yes", "--dir", str(home))
    with servers.process([servers.valkey_binary(), *options], log=home.with_suffix(".log")) as left:
        servers.eventually(lambda: answers(path))
        client(f"unix://{path}").set("k", "v")
        with embedded.running(str(home)) as url:
            assert left.poll() is not None
            assert client(url).get("k") == b"v"


@pytest.mark.parametrize("name", ["with blanks", "a#b", "a?b", "a%20b", "a@b", "ä", "[x]"])
def test_a_directory_of_any_name_works(tmp_path: Path, name: str) -> None:
    begin(tmp_path / name)
    with embedded.attached(str(tmp_path / name)) as url:
        assert client(url).get("k") == b"v"


def test_a_command_says_of_a_link_what_it_is(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    (home / "owner.lock").symlink_to(tmp_path / "victim")
    (home / "appendonlydir").mkdir()
    words = ["status", "--state-dir", str(home), "--migration", "m"]
    command = [sys.executable, "-m", "pipeline.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4 and "owner.lock is not a file that this program made" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "victim").exists()
    assert state_dir.SOCKET_NAME not in done.stderr

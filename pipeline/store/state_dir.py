"""The state directory: ours alone, its files too, and whether a server is on it.

Reads and writes: modes of the directory and what is in it. Never: redis.

Nothing that is written there is believed by itself. Whoever may write into a directory may put links there
that lead elsewhere, and a note of a server that is somebody else's; and a copy of a directory holds the note
of the server on the original.
"""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import structlog

from pipeline.errors import ConfigurationError

log = structlog.get_logger(__name__)

SOCKET_NAME = "valkey.sock"
#: Directories of their own for sockets whose path would be too long, as `tempfile` names them.
SHORT_PREFIX = "ddbmm-"
#: What we put there, and `appendonlydir` with the server's files.
_FILES = ("owner.lock", "server.json", "server.json.new", "valkey.log")
_AOF = "appendonlydir"
_OPEN_TO_OTHERS = 0o077
CALL_SECONDS = 5.0
#: Of an answer; a path has at most half of it.
_ANSWER_BYTES = 8_192


def home_of(state_dir: str) -> Path:
    """The directory's full path. Raises ConfigurationError where it is said relative to one that is gone."""
    try:
        return Path(state_dir).absolute()
    except OSError as error:
        raise ConfigurationError(
            f"--state-dir {state_dir} is relative to the working directory, which is gone",
            "give its full path, or begin in a directory that is there",
        ) from error


def take(home: Path) -> None:
    """Make the directory, or make sure that an existing one is for its owner alone; OSError as it comes.

    Raises ConfigurationError for one that belongs to somebody else, or holds what somebody else put there.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.stat().st_uid != os.geteuid():
        raise ConfigurationError(
            f"--state-dir {home} belongs to another user", "give a directory of your own, or change its owner"
        )
    if stat.S_IMODE(home.stat().st_mode) & _OPEN_TO_OTHERS:
        home.chmod(0o700)
        log.warning("the state directory was open to others: it is ours alone now", state_dir=str(home))
    for name in (*_FILES, _AOF):
        _close_to_others(home / name)
    if (home / _AOF).is_dir():
        for path in (home / _AOF).iterdir():
            _close_to_others(path)


def _close_to_others(path: Path) -> None:
    try:
        seen = path.lstat()
    except FileNotFoundError:
        return
    is_file, is_directory = stat.S_ISREG(seen.st_mode), stat.S_ISDIR(seen.st_mode)
    linked = is_file and seen.st_nlink > 1 and path.name in _FILES
    if not (is_directory if path.name == _AOF else is_file) or linked or seen.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{path} is not a file that this program made (a link, or another user's)",
            "remove it, or give another --state-dir",
        )
    if stat.S_IMODE(seen.st_mode) & _OPEN_TO_OTHERS:
        path.chmod(0o700 if is_directory else 0o600)


def opened(path: Path, flags: int) -> int:
    """A descriptor of a file of ours, made if it is not there; never through a link. OSError as it comes."""
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)


def read(path: Path, most: int) -> bytes:
    """At most so many bytes of a file, which is no link and nothing that waits. OSError as it comes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, most)
    finally:
        os.close(descriptor)


def serves(url: str, home: Path) -> bool | None:
    """Whether the server at this URL has its files in `home`; None = something is there and does not tell."""
    path = Path(unquote(url.removeprefix("unix://")))
    if not _may_be_ours(path, home):
        return False
    try:
        answer = call(url, b"CONFIG GET dir\r\n")
    except (OSError, ValueError):
        return False
    words = answer.split(b"\r\n")
    if len(words) < 5 or words[2] != b"dir":
        return None
    try:
        return home.samefile(os.fsdecode(words[4]))
    except OSError:
        return False


def _may_be_ours(path: Path, home: Path) -> bool:
    """No other socket is even asked: a note may name any on this host."""
    if path.name != SOCKET_NAME:
        return False
    try:
        if path.parent.samefile(home):
            return True
        parent = path.parent.lstat()
    except (OSError, ValueError):
        return False
    private = stat.S_ISDIR(parent.st_mode) and not stat.S_IMODE(parent.st_mode) & _OPEN_TO_OTHERS
    return path.parent.name.startswith(SHORT_PREFIX) and private and parent.st_uid == os.geteuid()


# --- talking to a server: a few words of its protocol need no client ---------------------------------------


def connects(url: str) -> bool:
    """Whether somebody listens there."""
    with contextlib.suppress(OSError), _connection(url):
        return True
    return False


def call(url: str, command: bytes) -> bytes:
    """What it answers, as far as it came. OSError and ValueError as they come."""
    with _connection(url) as line:
        line.sendall(command)
        answer = b""
        while chunk := line.recv(_ANSWER_BYTES):
            answer += chunk
            if _is_whole(answer) or len(answer) >= _ANSWER_BYTES:
                break
        return answer


def _is_whole(answer: bytes) -> bool:
    """Of a line, and of a list of texts."""
    if not answer.startswith(b"*"):
        return answer.endswith(b"\r\n")
    head, _, rest = answer.partition(b"\r\n")
    return head[1:].isdigit() and rest.count(b"\r\n") >= 2 * int(head[1:])


@contextlib.contextmanager
def _connection(url: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(CALL_SECONDS)
        line.connect(unquote(url.removeprefix("unix://")))
        yield line

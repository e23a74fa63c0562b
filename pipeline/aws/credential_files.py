"""What keeps AWS's SDK from its own files, which it passes over in silence.

Reads: owner and mode of the files, which profiles of `config` sign on through SSO, environment. Writes:
nothing. Never: sockets, boto3.

A credentials file that may not be read is no file to the SDK ("Unable to locate credentials"), and an SSO
token that cannot be stored is renewed once and then lost. Both are usual in containers, where the user is
another and ~/.aws is mounted read-only.
"""

import configparser
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

#: Ask for the effective user where the system can (os.access asks for the real one).
_EFFECTIVE = os.access in os.supports_effective_ids


class Trouble(NamedTuple):
    """says: what is wrong; remedy: what to do. It may not matter: other credentials may serve."""

    says: str
    remedy: str


def troubles(
    profiles: Iterable[str | None], environment: Mapping[str, str], home: Path | None = None
) -> Iterator[Trouble]:
    """What stands in the way of these profiles (None: the default one)."""
    own = (home or Path.home()) / ".aws"
    config = Path(environment.get("AWS_CONFIG_FILE") or own / "config").expanduser()
    credentials = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or own / "credentials").expanduser()
    hidden = list(dict.fromkeys(path for file in (config, credentials) if (path := _hidden(file))))
    for path in hidden:
        remedy = "run as its owner (compose: DDBMM_UID and DDBMM_GID in .env)"
        yield Trouble(f"{path} is there but cannot be read by {_user()}: {_mode(path)}", remedy)
    names = {name or environment.get("AWS_PROFILE") or "default" for name in profiles}
    cache = own / "sso" / "cache"
    if _signs_on(config, names) and not _may(cache, os.W_OK | os.X_OK):
        yield Trouble(
            f"{cache} cannot be written by {_user()}: SSO tokens that were renewed are lost",
            "make it, and mount it writable (compose: AWS_SSO_CACHE)",
        )


def _hidden(file: Path) -> Path | None:
    """The file, or its directory, if it is there and must not be read."""
    if _may(file.parent, os.F_OK) and not _may(file.parent, os.X_OK):
        return file.parent
    return file if _may(file, os.F_OK) and not _may(file, os.R_OK) else None


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=_EFFECTIVE)


def _signs_on(config: Path, names: Iterable[str]) -> bool:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(config, encoding="utf-8")
    except (OSError, configparser.Error, UnicodeDecodeError):
        return False  # reported above, or by the SDK
    sections = (name if name == "default" else f"profile {name}" for name in names)
    keys = ("sso_session", "sso_start_url")
    return any(parser.has_option(section, key) for section in sections for key in keys)


def _user() -> str:
    return f"uid {os.geteuid()}"


def _mode(path: Path) -> str:
    stat = path.stat()
    return f"owner {stat.st_uid}, mode {stat.st_mode & 0o777:04o}"

"""What is wrong with a Redis URL, in words that repeat nothing of it: any part may be one of the password.

Reads: nothing. Writes: nothing. Never: I/O.

The client's own reader of URLs takes a password with a "/" apart, and says so with its halves; it passes over
a database that is no number, and passes unknown options on until a connection is made, which then fails.
"""

import re
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

SCHEMES = ("redis", "rediss", "unix")
_SWITCHES = frozenset({"true", "false", "yes", "no", "1", "0"})
_ANY = re.compile(r".+", re.DOTALL)
#: The options after the "?", and what their values look like.
_OPTIONS = {
    "db": re.compile(r"\d{1,6}"),
    "username": _ANY,
    "password": _ANY,
    "ssl_ca_certs": _ANY,
    "ssl_ca_path": _ANY,
    "ssl_certfile": _ANY,
    "ssl_keyfile": _ANY,
    "ssl_password": _ANY,
    "ssl_cert_reqs": re.compile("none|optional|required"),
    "ssl_check_hostname": re.compile("|".join(sorted(_SWITCHES)), re.IGNORECASE),
}
_DATABASE = re.compile(r"/?|/\d{1,6}/?")
ENCODE = (
    "in a user name or password write : / ? # [ ] @ % and blanks as %3A %2F %3F %23 %5B %5D %40 %25 %20 "
    "(redis://:PASSWORD@HOST:6379/0)"
)


def fault_of(url: str) -> str:
    """What is wrong and how to write it; "" = nothing is."""
    if any(character <= " " or not character.isprintable() for character in url):
        return f"it holds a blank or a line break: {ENCODE}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"its host or port cannot be read: {ENCODE}"
    if parts.scheme not in SCHEMES:
        return f"it does not begin with {' or '.join(f'{one}://' for one in SCHEMES)}"
    if "#" in url or (parts.scheme != "unix" and "@" in parts.path):
        return f"it goes on where it should have ended: {ENCODE}"
    return (
        _fault_of_user(parts)
        or (_fault_of_socket(parts) if parts.scheme == "unix" else _fault_of_host(parts, port))
        or _fault_of_options(parts)
    )


def _fault_of_user(parts: SplitResult) -> str:
    if "@" in parts.netloc and not parts.password:
        return (
            "it names a user without a password: write redis://:PASSWORD@HOST or redis://USER:PASSWORD@HOST"
        )
    try:
        for text in (parts.username, parts.password, parts.query):
            unquote(text or "", errors="strict")
    except UnicodeDecodeError:
        return f"what is percent-encoded in it is no UTF-8: {ENCODE}"
    return ""


def _fault_of_socket(parts: SplitResult) -> str:
    if (parts.netloc and not parts.netloc.endswith("@")) or parts.path in ("", "/"):
        return "it names no socket: write unix:///path/to/socket, with three slashes"
    return ""


def _fault_of_host(parts: SplitResult, port: int | None) -> str:
    if not parts.hostname or port == 0:
        return f"it names no host: write {parts.scheme}://HOST:6379/0"
    if not _DATABASE.fullmatch(parts.path):
        return f"what follows the host is no number of a database: {ENCODE}"
    return ""


def _fault_of_options(parts: SplitResult) -> str:
    try:
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return f"what follows the ? cannot be read: {ENCODE}"
    names = [name for name, _ in given]
    if not set(names) <= _OPTIONS.keys() or len(set(names)) < len(names):
        return f"an option after the ? is unknown, or there twice: known are {', '.join(_OPTIONS)}"
    for name, value in given:
        if not _OPTIONS[name].fullmatch(value):
            return f"the option {name} has a value that it cannot have"
        if name.startswith("ssl_") and parts.scheme != "rediss":
            return f"the option {name} is for TLS: write rediss://"
    return ""

"""What a Redis URL means, and what is wrong with it, in words that repeat nothing of it.

Any part of it may be one of the password.

Reads: nothing. Writes: nothing. Never: I/O.

One that names Sentinels or a cluster's nodes is taken apart into plain ones, each of which is then judged.

The client's own reader of URLs takes a password with a "/" apart, and says so with its halves; it passes over
a database that is no number, and passes unknown options on until a connection is made, which then fails.
"""

import re
from enum import Enum
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

SCHEMES = (
    *("redis", "rediss", "unix"),
    *("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"),
)
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
#: How a URL of Sentinels or of a cluster begins, its user, its hosts, what follows them, and its options.
_LOCATED = re.compile(
    r"(rediss?)\+(sentinel|cluster)://([^/?#]*@)?([^/?#@]*)([^?#]*)(?:\?(.*))?", re.IGNORECASE
)
_HOST = re.compile(r"(?:\[[^\[\]]+\]|[^\[\]:]+)(?::\d{1,5})?")
#: What Sentinel takes for a name, and the database behind it.
_SERVICE = re.compile(r"/([A-Za-z0-9._-]+)(/.*)?")
#: In front of the options that are for the Sentinels.
_OF_SENTINEL = "sentinel_"

#: A host and a port.
Address = tuple[str, int]


class Form(Enum):
    """How the server is found."""

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_PORTS = {Form.SENTINEL: 26379, Form.CLUSTER: 6379}


class Where(NamedTuple):
    """What a URL means. hosts: who knows where the server is; () = the URL names the server itself."""

    form: Form
    server: str  # a plain URL; where there are hosts, the host in it means nothing
    hosts: tuple[Address, ...] = ()
    asked: str = ""  # a plain URL alike: with which user and options the hosts are asked
    service: str = ""  # what Sentinel calls the server


def fault_of(url: str) -> str:
    """What is wrong and how to write it; "" = nothing is."""
    if any(character <= " " or not character.isprintable() for character in url):
        return f"it holds a blank or a line break: {ENCODE}"
    if _LOCATED.fullmatch(url):
        return _fault_of_located(url)
    return _fault_of_plain(url)


def where(url: str) -> Where:
    """What it means, if `fault_of` finds nothing wrong with it."""
    # The client reads a + among the options as a blank, as forms in web pages have it; passwords have a +.
    before, mark, given = url.partition("?")
    url = f"{before}{mark}{given.replace('+', '%2B')}"
    found = _LOCATED.fullmatch(url)
    if not found:
        return Where(Form.SERVER, url)
    scheme, kind, user, names, path, query = (part or "" for part in found.groups())
    form = Form(kind.lower())
    hosts = tuple(_address(one, _PORTS[form]) for one in names.split(","))
    service, path = _service_of(path) if form is Form.SENTINEL else ("", path)
    options = query.split("&") if query else []
    ours = [one for one in options if form is Form.CLUSTER or not one.startswith(_OF_SENTINEL)]
    theirs = [one.removeprefix(_OF_SENTINEL) for one in options if one.startswith((_OF_SENTINEL, "ssl_"))]
    server = f"{scheme}://{user}found{path}{'?' * bool(ours)}{'&'.join(ours)}"
    asked = server if form is Form.CLUSTER else f"{scheme}://asked{'?' * bool(theirs)}{'&'.join(theirs)}"
    return Where(form, server, hosts, asked, service)


def _service_of(path: str) -> tuple[str, str]:
    """The service, and the path of the database; ("", …) = there is none."""
    found = _SERVICE.fullmatch(path)
    return (found[1], found[2] or "") if found else ("", path)


def _address(text: str, port: int) -> Address:
    """("", 0) = there is none."""
    found = _HOST.fullmatch(text)
    named = f"//{text}" if found else ""
    try:
        return (urlsplit(named).hostname or "", port if (own := urlsplit(named).port) is None else own)
    except ValueError:
        return "", 0


def _fault_of_located(url: str) -> str:
    located = where(url)
    form, begins = located.form, f"{url.partition('://')[0].lower()}://"
    if not all(host and port for host, port in located.hosts):
        port = _PORTS[form]
        return (
            f"its hosts cannot be read: write {begins}HOST:{port},HOST:{port}, each with its port; {ENCODE}"
        )
    if form is Form.SENTINEL and not located.service:
        return f"it names no service as Sentinel calls it: write {begins}HOST:26379,HOST:26379/SERVICE/0"
    if fault := _fault_of_plain(located.server) or _fault_of_plain(located.asked):
        return fault
    if form is Form.CLUSTER and _database(located.server):
        return f"a cluster has database 0 alone: write {begins}HOST:6379,HOST:6379"
    return ""


def _database(plain: str) -> int:
    """Of a URL that nothing is wrong with."""
    parts = urlsplit(plain)
    return int(dict(parse_qsl(parts.query)).get("db") or parts.path.strip("/") or 0)


def _fault_of_plain(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"its host or port cannot be read: {ENCODE}"
    if parts.scheme not in SCHEMES or "+" in parts.scheme:
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
    if "ssl_keyfile" in names and "ssl_certfile" not in names:
        return "the option ssl_keyfile is the key of a certificate: name that too, with ssl_certfile"
    return ""

"""Text from outside, made fit for a message: short, and without characters that a terminal or a log obeys.

Reads: nothing. Writes: nothing. Never: I/O. What may be shown at all is decided elsewhere; no item value goes
through here.
"""

import re

#: What came from outside is shown up to here; a proxy's page would fill a log at every retry.
MAX_CHARACTERS = 200

#: A whole message is shown up to here, should nobody have cut what is in it: names that a server made up.
MESSAGE_CHARACTERS = 2_000

#: A user and password before a host, up to the last `@`: a password may hold anything.
_USERINFO = re.compile(r"://.*@", re.DOTALL)
#: What stands behind the path in a URL may hold a password too.
_QUERY = re.compile(r"(://[^\s?#]*[?#])\S*")
#: In JSON: what its encoders leave as it is and a terminal may obey. They escape all below a blank.
_SUSPECT = re.compile(r"[^ -~\n]")
_BEYOND_BMP = 0x10000


def quoted(text: str, longest: int = MAX_CHARACTERS) -> str:
    """`text` on one line, its unprintable characters escaped, at most about `longest` characters of it."""
    shown = printable(text[:longest])
    return shown if len(text) <= longest and len(shown) <= longest else shown[:longest] + "…"


def printable(text: str) -> str:
    """`text` on one line: what a terminal could obey (C0, C1, DEL, marks of direction, line separators) is
    escaped as Python does it.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def printable_json(json: str) -> str:
    """The same JSON: those characters are escaped as JSON does it. Line breaks between its parts stay."""
    return _SUSPECT.sub(lambda found: found[0] if found[0].isprintable() else _json_escape(found[0]), json)


def masked(text: str) -> str:
    """`text` without what a URL in it may keep secret: user, password, query, fragment."""
    return _QUERY.sub(r"\1***", _USERINFO.sub("://***@", text))


def _json_escape(character: str) -> str:
    code = ord(character)
    if code < _BEYOND_BMP:
        return f"\\u{code:04x}"
    high, low = divmod(code - _BEYOND_BMP, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"

"""Text from outside, made fit for a message: short, and without characters that a terminal or a log obeys.

Reads: nothing. Writes: nothing. Never: I/O. What may be shown at all is decided elsewhere; no item value goes
through here.
"""

#: What came from outside is shown up to here; a proxy's page would fill a log at every retry.
MAX_CHARACTERS = 200


def quoted(text: str, longest: int = MAX_CHARACTERS) -> str:
    """`text` on one line, its unprintable characters escaped, at most about `longest` characters of it."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:longest])
    return shown if len(text) <= longest and len(shown) <= longest else shown[:longest] + "…"

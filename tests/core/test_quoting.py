"""Text from outside in messages: nothing a terminal obeys, nothing secret, not much of it."""

import json

import pytest

from pipeline.core.quoting import masked, printable, printable_json, quoted

#: C0, OSC, DEL, C1 (CSI), marks of direction, separators, a tag, a private character, half a pair.
OBEYED = ["\x00", "\x1b]0;x\x07", "\x7f", "\x9b2J", "\u202e", "\u2066", "\u2028", "\u2029", "\ufeff"]
OBEYED += ["\U000e0041", "\ue000", "\r\n", "\t"]


@pytest.mark.parametrize("text", OBEYED)
def test_no_character_that_a_terminal_obeys_is_left(text: str) -> None:
    assert printable(f"a{text}é 表").isprintable()
    assert quoted(f"a{text}é").isprintable()
    assert printable("a é 表") == "a é 表"


@pytest.mark.parametrize("text", OBEYED)
def test_json_stays_the_same_json(text: str) -> None:
    plain = json.dumps({"k" + text: [text]}, ensure_ascii=False, indent=1)
    shown = printable_json(plain)
    assert json.loads(shown) == {"k" + text: [text]}
    assert shown.replace("\n", "").isprintable()


def test_a_message_is_short() -> None:
    assert len(quoted("\x00" * 10_000)) <= 201
    assert quoted("short") == "short"


@pytest.mark.parametrize(
    "text",
    [
        "redis://:SECRET@cache:6379/0",
        "rediss://user:SE/CRET#[?@cache",
        "http://u:SECRET@[::1]:8000/x",
        "http://host/?password=SECRET",
        "http://host/#SECRET",
        "http://host#x?SECRET",
        "not a URL: redis://a:b c SECRET@host and http://x:SECRET@y?z=SECRET",
    ],
)
def test_what_a_url_keeps_secret_is_masked(text: str) -> None:
    shown = masked(text)
    assert "SECRET" not in shown and "CRET" not in shown
    assert "://" in shown

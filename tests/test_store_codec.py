"""The stored bytes: a golden file of what stands in somebody's Redis, and the layout that Lua knows too."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.aws import MAX_KEYS
from pipeline.core.judging.history import History
from pipeline.core.model import ABSENT, UNKNOWN, Phase, VerdictKind
from pipeline.store import codec, scripts

GOLDEN = Path(__file__).parent / "golden"
#: What stands in somebody's Redis, each with what it says. A later version must read it so.
STORED: list[dict[str, Any]] = [
    stored
    for file in sorted(GOLDEN.glob("history-v*.json"))
    for stored in json.loads(file.read_text(encoding="utf-8"))
]


def plain(value: object) -> Any:
    """As JSON shows it: digests in hex, a phase by its name."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Phase):
        return value.name
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    return value


def says(shown: object, expected: dict[str, Any]) -> None:
    """Every field of the golden file; one that came later may say what it likes."""
    for name, value in expected.items():
        found = getattr(shown, name)
        if isinstance(value, dict):
            says(found, value)
        else:
            assert plain(found) == value, name


@pytest.mark.parametrize("stored", STORED, ids=lambda one: str(one["what"]))
def test_stored_bytes_keep_their_meaning(stored: dict[str, Any]) -> None:
    raw = bytes.fromhex(stored["bytes"])
    history = codec.decode(raw)
    says(history, stored["history"])
    assert codec.decode(codec.encode(history)) == history


def test_the_golden_file_holds_every_kind_phase_and_flag() -> None:
    found = [codec.decode(bytes.fromhex(one["bytes"])) for one in STORED]
    assert {one.kind for one in found} == codec.KIND_CODES.keys()
    assert {one.phase for one in found} == set(Phase) == codec.PHASE_CODES.keys()
    for flag in ("settle", "incomplete", "suspect"):
        assert {getattr(one, flag) for one in found} == {True, False}
    looks = [one.held.look for one in found if one.held]
    for flag in ("strong", "verified_expires", "witness_expires"):
        assert {getattr(one, flag) for one in looks} == {True, False}
    assert {one.witness is None for one in looks} == {True, False}
    assert {one.excused > 0 for one in found if one.excused_since_ms} == {True, False}


@pytest.mark.parametrize(
    ("at", "byte"), [(8, codec.FORMAT + 1), (9, max(codec.PHASE_CODES.values()) + 1), (11, 200)]
)
def test_bytes_of_an_unknown_form_are_refused(at: int, byte: int) -> None:
    raw = bytearray(codec.encode(History(((ABSENT, 0),), 0, kind=VerdictKind.STALE)))
    raw[at] = byte
    with pytest.raises(ValueError, match="not a history"):
        codec.decode(bytes(raw))


def lua_constants() -> dict[str, str]:
    """The names that the prelude gives to what is in a history, each with its text."""
    found: dict[str, str] = {}
    for names, values in re.findall(r"(?m)^local ([A-Z_, ]+) = (.+)$", scripts.source("mark")):
        found.update(zip(names.split(", "), re.split(r", (?=\d+(?:,|$)|string)", values), strict=True))
    return found


def test_lua_knows_the_layout_as_the_codec_does() -> None:
    structs = {"HEADER": codec.HEADER, "EXCUSE": codec.EXCUSE, "HELD": codec.HELD, "VERSION": codec.VERSION}
    sizes = {f"{name}_BYTES": one.size for name, one in structs.items()}
    flags = {
        "SETTLE": codec.FLAG_SETTLE,
        "INCOMPLETE": codec.FLAG_INCOMPLETE,
        "HELD": codec.FLAG_HELD,
        "EXCUSE": codec.FLAG_EXCUSE,
        "SUSPECT": codec.FLAG_SUSPECT,
        "UNSEEN": codec.FLAG_UNSEEN,
    }
    phases = {phase.name: code for phase, code in codec.PHASE_CODES.items()}
    named = {f"AT_{name}": place for name, place in places().items()}
    expected = {
        "FORMAT": codec.FORMAT,
        "NUMBER_BYTES": codec.NUMBER_BYTES,
        "ENTRY_KEYS": MAX_KEYS,  # an entry is one read
        "DIGEST_BYTES": len(UNKNOWN),
        **sizes,
        **flags,
        **phases,
        **named,
    }
    digests = {"UNKNOWN": r"string.rep('\255', 16)"}
    assert lua_constants() == {**{name: str(value) for name, value in expected.items()}, **digests}


def places() -> dict[str, int]:
    """Where each field of a history begins: the first byte that changes when the field does."""
    base = History(((ABSENT, 0), (ABSENT, 0)), 0)
    moved = {
        "PHASE": History(base.versions, 0, Phase.SETTLING),
        "FLAGS": History(base.versions, 0, settle=True),
        "KIND": History(base.versions, 0, kind=VerdictKind.STALE),
        "LO": History(base.versions, 1),
        "FIRST": History(base.versions, 0, first=1),
        "ALARMED": History(base.versions, 0, alarmed=1),
        "SKIPPED": History(base.versions, 0, skipped=1),
        "LATE": History(base.versions, 0, late=1),
        "LOOKED_MS": History(base.versions, 0, looked_ms=1),
    }
    raw = codec.encode(base)
    found = {
        name: 1 + next(at for at, byte in enumerate(codec.encode(other)) if byte != raw[at])
        for name, other in moved.items()
    }
    return {"FORMAT": codec.NUMBER_BYTES + 1, **found}

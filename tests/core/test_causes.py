"""Findings by cause: which findings belong together, and that none is lost on the way."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import causes
from pipeline.core.causes import Causes, Selection, cause_id, key_prefix
from pipeline.core.judging.history import History
from pipeline.core.ledger import Finding
from pipeline.core.model import ABSENT, MISMATCHES, UNKNOWN, ChangeType, VerdictKind

A, B = (bytes([n]) * 16 for n in (1, 2))
NAME = st.text(max_size=12)
FINDINGS = st.builds(
    Finding,
    key=st.sampled_from([b'"c#1"', b'"o#1","2"', b'"plain"', b'"7"']),
    kind=st.sampled_from(MISMATCHES),
    versions_behind=st.integers(0, 5),
    attributes=st.lists(st.sampled_from(["contact.name", "tags[0]", "tags[7]", "x"]) | NAME, max_size=3),
    first_seen_ms=st.integers(1, 10**6),
    last_looked_ms=st.just(10**6),
    types=st.dictionaries(st.sampled_from(["x", "tags[0]"]), st.sampled_from(["N → S"]), max_size=1),
    operation=st.sampled_from([None, *ChangeType]),
    oldest_change_ms=st.none() | st.integers(0, 10**6),
)


def finding(**changes: object) -> Finding:
    plain = Finding(b'"c#1"', VerdictKind.DIFFERENT, 1, ["contact.name"], 1_000, 2_000)
    return msgspec.structs.replace(plain, **changes)


def added(*findings: Finding) -> Causes:
    found = Causes()
    for one in findings:
        found.add(one, key_prefix(one.key))
    return found


@given(st.lists(FINDINGS, max_size=30), st.randoms())
def test_every_finding_is_counted_once_under_its_cause_in_any_order(findings, order) -> None:
    found = added(*findings)
    assert found.total == sum(cause.count for cause in found.ranked()) == len(findings)
    for cause in found.ranked():
        own = [one for one in findings if cause_id(one) == cause.id]
        assert cause.count == len(own) == len(list(Selection(cause=cause.id).of(findings)))
        assert {one.kind for one in own} == {cause.kind}
        assert {one.operation for one in own} == {cause.operation}
        assert (cause.first_ms, cause.last_ms) == (
            min(one.first_seen_ms for one in own),
            max(one.first_seen_ms for one in own),
        )
        changes = [one.oldest_change_ms for one in own if one.oldest_change_ms is not None]
        assert cause.oldest_change_ms == min(changes, default=None)
        assert cause.prefixes is None or sum(cause.prefixes.values()) == cause.count
    shuffled = list(findings)
    order.shuffle(shuffled)
    assert added(*shuffled).ranked() == found.ranked()


@given(st.lists(FINDINGS, max_size=30), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 9))
def test_a_selection_gives_what_it_asks_for_and_nothing_else(findings, from_ms, until_ms, limit) -> None:
    asked = Selection(kind=VerdictKind.STALE, from_ms=from_ms, until_ms=until_ms, limit=limit)
    wanted = [one for one in findings if one.kind == "stale" and from_ms <= one.first_seen_ms <= until_ms]
    assert list(asked.of(findings)) == wanted[:limit]


def test_positions_in_lists_do_not_part_a_cause_and_all_else_does() -> None:
    base = finding(attributes=["tags[0].x"])
    assert cause_id(base) == cause_id(finding(attributes=["tags[31].x"], key=b'"o#2"', first_seen_ms=9))
    others = [
        finding(attributes=["tags.x"]),
        finding(attributes=["tags[0].x"], kind=VerdictKind.STALE),
        finding(attributes=["tags[0].x"], operation=ChangeType.INSERT),
        finding(attributes=["tags[0].x"], types={"tags[0].x": "N → S"}),
    ]
    assert len({cause_id(one) for one in (base, *others)}) == 5


def test_memory_is_bounded_and_the_great_causes_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "MAX_CAUSES", 10)
    great = [finding(attributes=["great"])] * 50
    noise = [finding(attributes=[f"name-{n}" * 1_000]) for n in range(500)]
    mixed = [one for pair in zip(noise, great * 10, strict=True) for one in pair]
    found = added(*mixed)
    first, *others = found.ranked()
    assert (first.paths, first.count) == (["great"], 500)
    assert len(others) < 10 and all(len(path) <= causes.PATH_LENGTH for one in others for path in one.paths)
    assert found.total == sum(one.count for one in found.ranked()) + found.rare == 1_000


@pytest.mark.parametrize(
    ("key", "prefix"),
    [
        (b'"c#123"', "c#"),
        (b'"user:7:x","9#1"', "user:"),
        (b'"plain","a#b"', ""),
        (b'"-12.5"', ""),
        (b'"#x"', "#"),
        ('"été/1"'.encode(), "été/"),
        (b'"%b#1"' % (b"x" * 80), ""),
        (b"no key", ""),
    ],
)
def test_the_prefix_of_a_key_ends_with_its_first_delimiter(key: bytes, prefix: str) -> None:
    assert key_prefix(key) == prefix


def test_prefixes_beyond_a_few_are_not_told_apart() -> None:
    [cause] = added(*(finding(key=b'"%d#1"' % n) for n in range(causes.PREFIXES_TOLD + 2))).ranked()
    assert cause.prefixes is None and cause.count == causes.PREFIXES_TOLD + 2
    [cause] = added(finding(), finding(key=b'"c#2"'), finding(key=b'"plain"')).ranked()
    assert cause.prefixes == {"c#": 2, "": 1}


@pytest.mark.parametrize(
    ("history", "operation"),
    [
        (History(((ABSENT, 0), (A, 1)), 1), ChangeType.INSERT),
        (History(((A, 0), (B, 1)), 1), ChangeType.MODIFY),
        (History(((A, 0), (ABSENT, 1)), 1), ChangeType.REMOVE),
        (History(((UNKNOWN, 0), (ABSENT, 1)), 1), ChangeType.REMOVE),
        (History(((UNKNOWN, 0), (A, 1)), 1), None),
        (History(((A, 0), (UNKNOWN, 1)), 1), None),
        (History(((A, 1),), 0), None),
        (History(((A, 0), (B, 1)), 1, incomplete=True), None),
        (History(((ABSENT, 1),), 0, incomplete=True, suspect=True), None),
    ],
)
def test_the_operation_of_the_newest_version_is_told_where_the_history_knows_it(
    history: History, operation: ChangeType | None
) -> None:
    assert history.operation is operation

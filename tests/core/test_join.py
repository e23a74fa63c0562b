"""The join counts every item once, finds every difference, and keeps no more than its bound."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.canonical import Digester, KeySchema
from pipeline.core.comparing.join import HELD_BYTES, Join, JoinCounts, Showed, Suspect
from pipeline.core.comparing.keys import KeyReader
from pipeline.core.comparing.pairs import PairComparer
from pipeline.core.model import ABSENT, UNKNOWN, Side

S, T = Side.SOURCE, Side.TARGET
KEYS = KeyReader(KeySchema("pk", "S"))
MUCH = 1_000_000
#: More than two of the items below take.
NONE = 0


def item(key: int, value: str = "x") -> dict[str, Any]:
    return {"pk": {"S": f"key-{key}"}, "v": {"S": value}}


def digest(key: int, value: str = "x") -> bytes:
    return Digester().digest(msgspec.json.encode(item(key, value)))


def join(most: int = MUCH) -> Join:
    return Join(PairComparer(Digester()), most)


def add(joined: Join, side: Side, *items: dict[str, Any]) -> list[Suspect]:
    body = msgspec.json.encode(items)
    return joined.add(side, KEYS.keys(body), msgspec.json.decode(body, type=list[msgspec.Raw]))


def key(number: int) -> bytes:
    return b'"key-%d"' % number


def test_pairs_leave_at_once_whatever_the_order() -> None:
    joined = join()
    assert add(joined, S, item(1), item(2)) == []
    assert add(joined, T, item(2), item(3)) == []
    assert add(joined, T, item(1)) == add(joined, S, item(3)) == []
    assert list(joined.finish()) == []
    counts = joined.counts
    assert (counts.equal, counts.source_items, counts.target_items) == (3, 3, 3)
    assert counts.balanced


def test_small_items_count_as_what_they_take_in_memory() -> None:
    """A bound of their bytes alone would let a table of tiny items take several times as much."""
    joined = join(20_000)
    suspects = add(joined, S, *map(item, range(1_000)))
    assert 1_000 - len(suspects) <= 20_000 / HELD_BYTES


def test_a_pair_that_differs_is_a_suspect_with_what_the_source_holds_whichever_came_first() -> None:
    for first, second in ((S, T), (T, S)):
        joined = join()
        values = {S: item(1, "old"), T: item(1, "new")}
        add(joined, first, values[first])
        assert add(joined, second, values[second]) == [Suspect(key(1), digest(1, "old"), Showed.BOTH)]
        assert joined.counts.different == 1
        assert joined.counts.balanced


def test_what_only_one_side_has_is_a_suspect_at_the_end() -> None:
    joined = join()
    add(joined, S, item(1))
    add(joined, T, item(2))
    assert not joined.counts.balanced
    assert list(joined.finish()) == [
        Suspect(key(1), digest(1), Showed.SOURCE),
        Suspect(key(2), ABSENT, Showed.TARGET),
    ]
    assert joined.counts.balanced


def test_what_left_early_has_no_partner_any_more_and_both_sides_count_their_own() -> None:
    joined = join(NONE)
    assert add(joined, T, item(1)) == [Suspect(key(1), UNKNOWN, Showed.TARGET)]
    assert add(joined, S, item(1)) == [Suspect(key(1), digest(1), Showed.SOURCE)]
    assert list(joined.finish()) == []
    assert joined.counts.balanced
    assert (joined.counts.source_only, joined.counts.target_only) == (1, 1)


def test_an_item_shown_twice_by_one_side_is_counted_twice() -> None:
    joined = join()
    add(joined, S, item(1, "old"))
    assert add(joined, S, item(1)) == [Suspect(key(1), digest(1, "old"), Showed.SOURCE)]
    assert add(joined, T, item(1)) == []
    assert joined.counts.balanced
    assert (joined.counts.equal, joined.counts.source_only) == (1, 1)


def test_no_more_is_kept_than_the_bound_and_the_side_behind_is_named() -> None:
    joined = join(10_000)
    for start in range(0, 2_000, 100):
        assert joined.behind is (S if start == 0 else T)
        add(joined, S, *map(item, range(start, start + 100)))
        kept = joined.counts.source_items - joined.counts.source_only
        assert kept * len(msgspec.json.encode(item(1000))) <= 10_000
    assert joined.counts.source_only > 1_500


Page = tuple[Side, list[tuple[int, str]]]
PAGES = st.lists(
    st.tuples(
        st.sampled_from(Side),
        st.lists(st.tuples(st.integers(0, 9), st.sampled_from("xy")), max_size=5),
    ),
    max_size=12,
)


@given(PAGES, st.sampled_from([0, 60, 200, MUCH]))
def test_every_item_is_counted_once_and_every_difference_is_a_suspect(pages: list[Page], most: int) -> None:
    """Whatever arrives, in whatever order, under whatever bound."""
    joined = join(most)
    held: dict[Side, dict[int, str]] = {S: {}, T: {}}
    suspects: list[Suspect] = []
    for side, page in pages:
        held[side].update(page)
        suspects += add(joined, side, *(item(*one) for one in page))
    suspects += joined.finish()
    counts = joined.counts
    assert counts.balanced
    assert counts.source_items == sum(len(page) for side, page in pages if side is S)
    assert counts.different == sum(one.showed is Showed.BOTH for one in suspects)
    assert counts.source_only == sum(one.showed is Showed.SOURCE for one in suspects)
    suspected = {one.key for one in suspects}
    for number in held[S].keys() | held[T].keys():
        if held[S].get(number) != held[T].get(number):
            assert key(number) in suspected


@given(st.permutations(range(20)), st.permutations(range(20)), st.integers(1, 7), st.sampled_from(Side))
def test_equal_sides_are_equal_in_any_order(
    source: list[int], target: list[int], size: int, first: Side
) -> None:
    joined = join()
    order = {S: source, T: target}
    for start in range(0, 20, size):
        for side in (first, first.other):
            assert add(joined, side, *map(item, order[side][start : start + size])) == []
    assert list(joined.finish()) == []
    expected = JoinCounts(equal=20, source_items=20, target_items=20)
    expected.source_bytes = expected.target_bytes = joined.counts.source_bytes
    assert joined.counts == expected

"""Which shards may be read now, for every shape of the shard tree."""

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.shard_lineage import LineagePlan, Shard, Start, plan

LATEST, TRIM_HORIZON, NEVER = Start.LATEST, Start.TRIM_HORIZON, Start.NEVER


def name(number: int) -> str:
    return f"shardId-{number:05d}"


def names(*numbers: int) -> list[str]:
    return [name(number) for number in numbers]


def shards(parents: Mapping[int, Iterable[int]], still_open: Iterable[int] = ()) -> list[Shard]:
    """shards({0: [], 1: [0]}): shard 1 is the child of 0. A shard with children is closed, unless said."""
    with_child = {parent for ids in parents.values() for parent in ids} - set(still_open)
    return [
        Shard(name(number), next(iter(names(*ids)), None), number in with_child)
        for number, ids in parents.items()
    ]


def closed(listed: list[Shard], *numbers: int) -> list[Shard]:
    return [Shard(shard.id, shard.parent, shard.closed or shard.id in names(*numbers)) for shard in listed]


def read_all(listed: list[Shard]) -> list[str]:
    """The order in which a reader drains a whole tree from its beginning."""
    finished: list[str] = []
    while (now := plan(listed, finished, [shard.id for shard in listed])).readable:
        finished.append(now.readable[0])
    return finished


SPLIT = {0: [], 1: [0], 2: [0]}
CHAIN = {0: [], 1: [0], 2: [1], 3: [2]}


# --- the first listing --------------------------------------------------------------------------------------


def test_trim_horizon_tracks_everything_and_reads_the_roots_first() -> None:
    now = plan(shards(SPLIT), (), (), TRIM_HORIZON)
    assert now.begin == dict.fromkeys(names(0, 1, 2), TRIM_HORIZON)
    assert now.readable == names(0)
    assert now.waiting == names(1, 2)


def test_latest_reads_the_open_shards_and_marks_the_closed_ones_as_finished() -> None:
    now = plan(shards(SPLIT), (), (), LATEST)
    assert now.begin == {name(0): NEVER, name(1): LATEST, name(2): LATEST}
    assert now.readable == names(1, 2)
    assert now.waiting == []


def test_latest_does_not_reach_a_child_whose_parent_is_still_open() -> None:
    """The child may hold changes that were written after the watch began and before the child is read."""
    now = plan(shards({0: [], 1: [0]}, still_open=[0]), (), (), LATEST)
    assert now.begin == {name(0): LATEST, name(1): TRIM_HORIZON}
    assert now.readable == names(0)
    assert now.waiting == names(1)


def test_nothing_listed_is_nothing_to_do() -> None:
    assert plan([], (), (), LATEST) == LineagePlan({}, [], [], [], [], [])


# --- later listings -----------------------------------------------------------------------------------------


def test_the_children_of_a_split_are_read_after_their_parent() -> None:
    listed = shards(SPLIT)
    before = plan(listed, (), names(0), LATEST)
    assert before.begin == dict.fromkeys(names(1, 2), TRIM_HORIZON)
    assert (before.readable, before.waiting) == (names(0), names(1, 2))
    after = plan(listed, names(0), names(0, 1, 2), LATEST)
    assert (after.begin, after.readable, after.waiting) == ({}, names(1, 2), [])


def test_a_chain_of_rollovers_is_read_one_by_one() -> None:
    listed = shards(CHAIN)
    for done in range(4):
        now = plan(listed, names(*range(done)), names(*range(4)))
        assert (now.readable, now.waiting) == (names(done), names(*range(done + 1, 4)))


def test_a_child_listed_late_begins_at_trim_horizon_whatever_was_chosen() -> None:
    waits = plan(closed(shards({0: []}), 0), names(0), names(0), LATEST)
    assert waits.childless == names(0)
    assert waits.readable == []
    now = plan(shards({0: [], 1: [0]}), names(0), names(0), LATEST)
    assert now.begin == {name(1): TRIM_HORIZON}
    assert now.readable == names(1)
    assert now.childless == []


def test_lower_ids_come_first_where_both_orders_would_do() -> None:
    listed = shards({4: [], 0: [], 5: [0], 3: [0], 1: [4]})
    assert read_all(listed) == names(0, 3, 4, 1, 5)


def test_a_new_root_found_after_the_first_listing_is_read_from_its_beginning() -> None:
    now = plan(shards({0: [], 7: []}), (), names(0), LATEST)
    assert now.begin == {name(7): TRIM_HORIZON}
    assert now.readable == names(0, 7)


def test_an_open_parent_blocks_its_open_child() -> None:
    listed = shards({0: [], 1: [0]}, still_open=[0])
    assert plan(listed, (), names(0, 1)).readable == names(0)
    assert plan(listed, names(0), names(0, 1)).readable == names(1)


def test_a_closed_leaf_is_read_and_then_asks_for_its_child() -> None:
    listed = closed(shards({0: [], 1: [0]}), 1)
    unread = plan(listed, names(0), names(0, 1))
    assert (unread.readable, unread.childless) == (names(1), [])
    assert plan(listed, names(0, 1), names(0, 1)).childless == names(1)


def test_an_unlisted_parent_that_was_never_tracked_blocks_nobody() -> None:
    now = plan(shards({5: [4], 6: [5]}), (), ())
    assert now.readable == names(5)
    assert now.waiting == names(6)
    assert now.vanished == []


def test_a_tracked_shard_that_is_not_listed_has_vanished_and_keeps_its_child_waiting() -> None:
    """Its unread changes come before the child's: only a recorded gap may let the child go first."""
    now = plan(shards({1: [0]}), (), names(0, 1))
    assert now.vanished == names(0)
    assert now.waiting == names(1)
    assert now.readable == []
    recorded = plan(shards({1: [0]}), names(0), names(0, 1))
    assert (recorded.vanished, recorded.readable) == ([], names(1))


def test_a_tombstone_may_go_once_its_shard_is_not_listed_and_not_before() -> None:
    assert plan(shards({0: [], 1: [0]}), names(0), names(0, 1)).forgettable == []
    now = plan(shards({1: [0]}), names(0), names(0, 1))
    assert now.forgettable == names(0)
    assert now.readable == names(1)


def test_a_finished_shard_is_never_read_again() -> None:
    listed = shards(CHAIN)
    now = plan(listed, names(0, 1, 2, 3), names(0, 1, 2, 3), TRIM_HORIZON)
    assert (now.begin, now.readable, now.waiting) == ({}, [], [])


# --- odd graphs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", [{0: [0]}, {0: [1], 1: [0]}, {0: [2], 1: [0], 2: [1], 3: [2]}])
def test_shards_that_are_their_own_ancestors_are_still_read(graph: dict[int, list[int]]) -> None:
    listed = shards(graph)
    assert sorted(read_all(listed)) == sorted(shard.id for shard in listed)


def test_a_shard_listed_twice_counts_once() -> None:
    listed = shards(SPLIT)
    assert plan([*listed, *listed], (), ()) == plan(listed, (), ())


def test_finished_ids_count_as_tracked() -> None:
    assert plan(shards({0: []}), names(0), ()).begin == {}


def test_a_thousand_shards_are_read_parents_first() -> None:
    tree = {0: [], **{number: [(number - 1) // 2] for number in range(1, 1000)}}
    now = plan(reversed(shards(tree)), (), ())
    assert now.readable == names(0)
    assert len(now.waiting) == 999
    leaves = plan(shards(tree), names(*range(500)), names(*range(1000)))
    assert leaves.readable == names(*range(500, 1000))
    assert leaves.waiting == []


def test_a_chain_of_a_thousand_shards_does_not_recurse_too_deep() -> None:
    chain = {0: [], **{number: [number - 1] for number in range(1, 1000)}}
    now = plan(shards(chain), names(*range(500)), names(*range(1000)))
    assert (now.readable, len(now.waiting)) == (names(500), 499)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Shard], list[str], list[str], Start]:
    """Any graph of up to 12 shards, rings and unknown parents included, with any progress."""
    numbers = st.integers(0, 11)
    graph = draw(st.dictionaries(numbers, st.lists(numbers, max_size=1), max_size=12))
    listed = closed(shards(graph, draw(st.sets(numbers))), *draw(st.sets(numbers)))
    tracked = draw(st.sets(numbers))
    finished = draw(st.sets(st.sampled_from(sorted(tracked)))) if tracked else set()
    return listed, names(*finished), names(*tracked), draw(st.sampled_from([LATEST, TRIM_HORIZON]))


@given(worlds())
def test_every_shard_is_in_exactly_one_place(
    world: tuple[list[Shard], list[str], list[str], Start],
) -> None:
    listed, finished, tracked, first = world
    now = plan(listed, finished, tracked, first)
    done = {*finished, *(shard for shard, start in now.begin.items() if start is NEVER)}
    assert sorted([*now.readable, *now.waiting, *now.vanished, *done]) == sorted(
        {*tracked, *(shard.id for shard in listed)}
    )
    assert set(now.begin) == {shard.id for shard in listed} - set(tracked)
    assert set(now.forgettable) == set(finished) - {shard.id for shard in listed}


@given(worlds())
def test_nothing_is_read_before_its_unfinished_parent(
    world: tuple[list[Shard], list[str], list[str], Start],
) -> None:
    listed, finished, tracked, first = world
    parents = {shard.id: shard.parent for shard in listed}
    now = plan(listed, finished, tracked, first)
    unread = {*now.readable, *now.waiting, *now.vanished}
    for shard in now.readable:
        assert parents[shard] not in unread or _in_a_ring(shard, parents)


@given(worlds())
def test_something_can_always_be_read_while_something_is_unfinished(
    world: tuple[list[Shard], list[str], list[str], Start],
) -> None:
    now = plan(*world)
    if now.waiting:
        assert now.readable or now.vanished


@given(worlds())
def test_latest_is_only_for_a_first_listing_and_open_shards(
    world: tuple[list[Shard], list[str], list[str], Start],
) -> None:
    listed, finished, tracked, first = world
    still_open = {shard.id for shard in listed if not shard.closed}
    for shard, start in plan(listed, finished, tracked, first).begin.items():
        if tracked or first is TRIM_HORIZON:
            assert start is TRIM_HORIZON
        elif start is LATEST:
            assert shard in still_open


def _in_a_ring(shard: str, parents: Mapping[str, str | None]) -> bool:
    """Whether walking up from a shard never ends."""
    above: str | None = shard
    for _ in range(len(parents) + 1):
        above = parents.get(above) if above else None
    return above is not None

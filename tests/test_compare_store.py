"""A comparison in Redis: partitions count once, suspects are published once, whatever dies in between."""

from collections.abc import Iterator

import msgspec
import pytest

from pipeline.core.comparing.join import Showed, Suspect
from pipeline.core.comparing.state import CompareSettings, Comparison, ExportSeen, Tally
from pipeline.core.judging.history import History
from pipeline.core.judging.rule import judge
from pipeline.core.ledger import tally
from pipeline.core.model import ABSENT, UNKNOWN, Change, Checkpoint, Counts, Look, Moment, Phase, Policy
from pipeline.errors import ConfigurationError, StoreError
from pipeline.store import codec
from pipeline.store.compare_store import Beginning, Part, Standing
from pipeline.store.messages import Commit, Outcome
from tests import places
from tests.store_world import A, B
from tests.validating import own_store
from tests.whole_store import WholeStore

THREE = CompareSettings(table_bytes=0, segments=3)
POLICY = Policy(converge_within_ms=1_000, stable_for_ms=1_000)
LONG_MS = 600_000


@pytest.fixture
def store(store_url: str) -> Iterator[WholeStore]:
    with own_store(store_url) as store:
        yield store


def begun(store: WholeStore, settings: CompareSettings = THREE) -> Comparison:
    return store.begin_comparison(settings, Beginning.BEGIN)


def taken(store: WholeStore, comparison: str, owner: str = "me", ttl_ms: int = LONG_MS) -> Part:
    standing, part = store.take(comparison, owner, ttl_ms)
    assert standing is Standing.TAKEN and part is not None
    return part


def comparison_of(store: WholeStore) -> Comparison:
    found = store.figures().comparison
    assert found is not None
    return found


def history(store: WholeStore, key: bytes) -> History:
    raw = store._redis.hget(store._key("history"), key)
    assert isinstance(raw, bytes)
    return codec.decode(raw)


def different(*keys: bytes) -> list[Suspect]:
    return [Suspect(key, A, Showed.BOTH) for key in keys]


def published(store: WholeStore, key: bytes, before: bytes, after: bytes) -> None:
    """The stream shows a change."""
    store.register("test:1", Checkpoint(b""))
    lease = store.lease("test:1", "reader", LONG_MS)
    assert lease is not None
    at = store.partitions()["test:1"]
    change = Change(key, before, after, store.now_ms())
    to = Checkpoint(at.position + b"+")
    assert store.publish(lease, at, to, [change], Counts(1)).outcome is Outcome.PUBLISHED


def answer(store: WholeStore, target: bytes, source: bytes, at_ms: int | None = None) -> History | None:
    """A validator looks at the one key that is due."""
    claim = store.claim("v", 10, 0)
    [entry] = claim.entries
    before = codec.decode(entry.raw)
    now_ms = at_ms or claim.now_ms
    look = Look(target, now_ms, before.newest, strong=at_ms is not None, witness=source)
    judgement = judge(before, look, Moment(now_ms, watched=False), POLICY)
    after = codec.encode(judgement.history) if judgement.history else b""
    commit = Commit(entry, after, judgement.next_ms, tally(before, judgement, 1, 1))
    assert store.commit([commit], claim.now_ms).refused == []
    return judgement.history


# --- partitions --------------------------------------------------------------------------------------------


def test_every_partition_is_taken_once_counted_once_and_then_it_is_over(store: WholeStore) -> None:
    id_ = begun(store).id
    parts = [taken(store, id_) for _ in range(3)]
    assert [part.ordinal for part in parts] == [0, 1, 2]
    assert store.take(id_, "me", LONG_MS) == (Standing.WAIT, None)
    for part in parts:
        assert store.finish(id_, part, Tally(equal=5, source_items=5, target_items=5)) is Outcome.PUBLISHED
    assert comparison_of(store).finished_ms is None
    assert store.take(id_, "me", LONG_MS) == (Standing.FINISHED, None)
    over = comparison_of(store)
    assert (over.done, over.planned, over.tally.equal, over.tally.imbalance) == (3, 3, 15, "")
    assert over.finished_ms is not None
    assert store._redis.hlen(store._key("comparison-leases")) == 0


def test_a_partition_that_is_counted_twice_counts_once(store: WholeStore) -> None:
    id_ = begun(store).id
    part = taken(store, id_)
    held = Tally(equal=5, source_items=5, target_items=5, half_units_source=3)
    assert store.finish(id_, part, held) is Outcome.PUBLISHED
    assert store.finish(id_, part, held) is Outcome.DUPLICATE  # its answer was lost
    assert (comparison_of(store).tally, comparison_of(store).done) == (held, 1)


def test_a_partition_whose_comparer_went_silent_is_taken_over_and_fences_it_off(store: WholeStore) -> None:
    id_ = begun(store).id
    silent = taken(store, id_, "silent", ttl_ms=0)
    other = taken(store, id_, "other")
    assert (other.ordinal, other.epoch > silent.epoch) == (0, True)
    assert store.renew_parts(id_, "silent", [silent], LONG_MS) == set()
    assert store.suspect(id_, silent, different(b"k")).outcome is Outcome.FENCED
    assert store.finish(id_, silent, Tally(equal=1)) is Outcome.FENCED
    assert store.ledger().suspects_published == 0
    assert store.finish(id_, other, Tally(equal=2)) is Outcome.PUBLISHED
    assert store.finish(id_, silent, Tally(equal=1)) is Outcome.DUPLICATE
    assert comparison_of(store).tally.equal == 2


def test_a_partition_given_back_is_the_next_one(store: WholeStore) -> None:
    id_ = begun(store).id
    one, two = taken(store, id_), taken(store, id_)
    assert store.renew_parts(id_, "me", [one, two], LONG_MS) == {0, 1}
    assert store.renew_parts(id_, "me", [two], 0) == {1}
    assert taken(store, id_).ordinal == 1


# --- beginning ---------------------------------------------------------------------------------------------


def test_an_unfinished_comparison_goes_on_and_a_finished_one_gives_way(store: WholeStore) -> None:
    first = begun(store)
    assert begun(store).id == first.id
    for _ in range(3):
        store.finish(first.id, taken(store, first.id), Tally())
    assert begun(store).id == first.id, "its suspects may still wait"
    store.take(first.id, "me", LONG_MS)
    assert store.begin_comparison(THREE, Beginning.JOIN).id == first.id
    second = begun(store)
    assert second.id != first.id and second.done == 0
    assert taken(store, second.id).ordinal == 0


def test_other_settings_than_those_of_the_unfinished_one_are_refused(store: WholeStore) -> None:
    first = begun(store, CompareSettings(table_bytes=10, segments=3))
    assert begun(store, CompareSettings(table_bytes=99, segments=3)).id == first.id, "tables grow meanwhile"
    with pytest.raises(ConfigurationError, match="--restart"):
        begun(store, CompareSettings(table_bytes=10, segments=4))


def test_who_worked_on_the_comparison_before_a_restart_changes_nothing(store: WholeStore) -> None:
    first = begun(store)
    part = taken(store, first.id)
    second = store.begin_comparison(THREE, Beginning.RESTART)
    assert second.id != first.id
    assert taken(store, second.id).epoch > part.epoch
    assert store.take(first.id, "me", LONG_MS) == (Standing.GONE, None)
    assert store.finish(first.id, part, Tally(equal=1)) is Outcome.FENCED
    assert store.suspect(first.id, part, different(b"k")).outcome is Outcome.FENCED
    assert store.renew_parts(first.id, "me", [part], LONG_MS) == set()


def test_state_that_is_gone_is_gone_for_comparers_too(store: WholeStore) -> None:
    id_ = begun(store).id
    part = taken(store, id_)
    store._redis.delete(store._key("comparison"), store._key("comparison-leases"))
    assert store.take(id_, "me", LONG_MS) == (Standing.GONE, None)
    assert store.finish(id_, part, Tally()) is Outcome.FENCED


# --- suspects ----------------------------------------------------------------------------------------------


def test_a_suspect_is_published_once_and_waits(store: WholeStore) -> None:
    id_ = begun(store).id
    part = taken(store, id_)
    for _ in range(2):  # the answer to the first one was lost
        answered = store.suspect(id_, part, different(b"a", b"b"))
        assert (answered.outcome, answered.waiting, list(answered.covered)) == (Outcome.PUBLISHED, 2, [])
    ledger = store.ledger()
    assert (ledger.suspects_published, ledger.suspects_waiting, ledger.outstanding) == (2, 2, 2)
    assert (ledger.balanced, ledger.keys_sampled, store.backlog()) == (True, 2, 2)
    one = history(store, b"a")
    assert (one.versions[0][0], one.lo, one.phase, one.incomplete, one.suspect) == (
        *(A, 0, Phase.WAITING),
        *(True, True),
    )


def test_a_key_that_both_sides_show_alone_is_one_suspect(store: WholeStore) -> None:
    """The join let both items go before they met."""
    id_ = begun(store).id
    twice = [Suspect(b"k", A, Showed.SOURCE), Suspect(b"k", UNKNOWN, Showed.TARGET)]
    store.suspect(id_, taken(store, id_), twice)
    assert (store.ledger().suspects_published, store.backlog()) == (1, 1)
    assert history(store, b"k").versions[0][0] == A


def test_a_key_that_the_stream_is_judging_is_covered(store: WholeStore) -> None:
    published(store, b"k", ABSENT, A)
    before = history(store, b"k")
    id_ = begun(store).id
    answered = store.suspect(id_, taken(store, id_), different(b"other", b"k"))
    assert list(answered.covered) == [1]
    assert history(store, b"k") == before
    assert store.ledger().balanced


def test_a_covered_key_that_would_close_unread_is_looked_at_once_more(store: WholeStore) -> None:
    """The stream found it right just now, and the comparison finds it different after that."""
    settled = History(((A, 1),), 1, Phase.SETTLING, looked_ms=1)
    places.wait(store, 1, {b"k": settled})
    id_ = begun(store).id
    assert list(store.suspect(id_, taken(store, id_), different(b"k")).covered) == [0]
    [entry] = store.claim("v", 10, 0).entries
    assert codec.decode(entry.raw).settle


def test_a_suspect_that_was_answered_and_differs_again_is_a_new_one(store: WholeStore) -> None:
    id_ = begun(store).id
    part = taken(store, id_)
    store.suspect(id_, part, different(b"k"))
    settled = answer(store, B, B)
    assert settled is not None and settled.phase is Phase.SETTLING
    assert store.ledger().suspects_waiting == 0
    assert store.suspect(id_, part, different(b"k")).waiting == 1
    ledger = store.ledger()
    assert (ledger.suspects_published, ledger.outstanding, ledger.reached) == (2, 1, 1)
    assert ledger.balanced
    assert [entry.key for entry in store.claim("v", 10, 0).entries] == [b"k"]


def test_a_change_in_the_stream_takes_a_suspect_over(store: WholeStore) -> None:
    id_ = begun(store).id
    store.suspect(id_, taken(store, id_), different(b"k"))
    published(store, b"k", A, B)
    ledger = store.ledger()
    assert (ledger.suspects_waiting, ledger.suspects_taken_over, ledger.outstanding) == (0, 1, 2)
    assert ledger.balanced
    one = history(store, b"k")
    assert (one.suspect, one.incomplete, [digest for digest, _ in one.versions]) == (False, True, [A, B])


def test_a_comparison_is_over_only_when_its_suspects_are_answered(store: WholeStore) -> None:
    id_ = begun(store, CompareSettings(table_bytes=0, segments=1)).id
    part = taken(store, id_)
    store.suspect(id_, part, different(b"k"))
    store.finish(id_, part, Tally(different=1, source_items=1, target_items=1))
    assert store.take(id_, "me", LONG_MS) == (Standing.SETTLING, None)
    began = answer(store, B, A)
    assert began is not None and began.is_waiting_suspect
    places.hasten(store)
    alarmed = answer(store, B, A, at_ms=store.now_ms() + 60_000)
    assert alarmed is not None and alarmed.phase is Phase.ALARMED
    ledger = store.ledger()
    assert (ledger.suspects_waiting, ledger.suspects_open, ledger.alarmed) == (0, 1, 1)
    assert store.take(id_, "me", LONG_MS) == (Standing.FINISHED, None)
    places.hasten(store)
    answer(store, B, B, at_ms=store.now_ms() + 90_000)
    ledger = store.ledger()
    assert (ledger.suspects_open, ledger.recovered, ledger.reached) == (0, 1, 1)
    assert ledger.balanced


def test_nothing_is_written_where_a_count_is_no_number(store: WholeStore) -> None:
    id_ = begun(store).id
    part = taken(store, id_)
    store._redis.hset(store._key("comparison"), "equal", "many")
    with pytest.raises(StoreError, match="no number"):
        store.finish(id_, part, Tally(equal=1, different=1))
    store._redis.hdel(store._key("comparison"), "equal")
    assert comparison_of(store).tally == Tally()
    assert store.finish(id_, part, Tally(equal=1)) is Outcome.PUBLISHED


def test_with_the_source_in_the_lead_what_the_source_showed_is_not_taken_for_the_origins(
    store: WholeStore,
) -> None:
    id_ = begun(store).id
    store.suspect(id_, taken(store, id_), different(b"k"), leads=True)
    assert history(store, b"k").versions[0][0] == UNKNOWN


# --- phases, gaps ------------------------------------------------------------------------------------------

MINUTE = 60_000
EXPORT = ExportSeen("/there", "arn:e", "abc", files=2, items=2, size=9, to_ms=10 * MINUTE)


def window(from_ms: int, to_ms: int) -> CompareSettings:
    """A comparison of what changed at the stream's side, in the source."""
    changes = msgspec.structs.replace(EXPORT, files=1, from_ms=from_ms, to_ms=to_ms)
    return CompareSettings(0, source_export=changes)


def test_no_bucket_is_taken_before_all_are_sorted_and_it_is_noted_whose_part_counts(
    store: WholeStore,
) -> None:
    id_ = begun(store, CompareSettings(0, source_export=EXPORT, target_export=EXPORT, buckets=2)).id
    parts = [taken(store, id_) for _ in range(4)]
    assert store.take(id_, "me", LONG_MS) == (Standing.WAIT, None)
    for part in parts[:3]:
        store.finish(id_, part, Tally(source_items=1))
    assert store.take(id_, "me", LONG_MS) == (Standing.WAIT, None)
    store.renew_parts(id_, "me", parts[3:], 0)
    again = taken(store, id_, "other")
    assert store.finish(id_, parts[3], Tally()) is Outcome.FENCED
    store.finish(id_, again, Tally(target_items=1))
    assert store.sorted_parts() == {
        **{part.ordinal: part.epoch for part in parts[:3]},
        again.ordinal: again.epoch,
    }
    bucket = taken(store, id_)
    assert bucket.ordinal == 4
    store.finish(id_, bucket, Tally(equal=1))
    assert 4 not in store.sorted_parts()
    begun_anew = store.begin_comparison(THREE, Beginning.RESTART)
    assert store.sorted_parts() == {} and begun_anew.id != id_


def gap(store: WholeStore, value: str, name: str = "shard-1") -> None:
    store._redis.hset(store._key("gaps"), f'["{name}","trimmed",""]', value)


def finished(store: WholeStore, settings: CompareSettings, tally: Tally = Tally()) -> Comparison:  # noqa: B008
    id_ = begun(store, settings).id
    for _ in range(settings.partitions().planned):
        store.finish(id_, taken(store, id_), tally)
    assert store.take(id_, "me", LONG_MS) == (Standing.FINISHED, None)
    return comparison_of(store)


def test_a_gap_knows_when_its_changes_were_written(store: WholeStore) -> None:
    store.register("test:1", Checkpoint(b""), watermark_ms=5_000)
    lease = store.lease("test:1", "reader", LONG_MS)
    assert lease is not None
    store.add_gap(lease, "test:1", "trimmed", None, 9_000)
    store.add_gap(lease, "test:unknown", "gone")
    store.add_gap(lease, "test:1", "odd", None, 4_000)  # an end before the beginning: nobody knows it
    trimmed, odd, gone = sorted(store.gaps(), key=lambda one: one.reason, reverse=True)
    assert (trimmed.from_ms, trimmed.to_ms) == (5_000, 9_000)
    assert (gone.from_ms, gone.to_ms) == (0, gone.at_ms)
    assert (odd.from_ms, odd.to_ms) == (5_000, odd.at_ms)
    gap(store, "7")
    assert store.gaps()[0].to_ms == 7  # as earlier versions wrote it


@pytest.mark.parametrize(
    ("within", "closed"),
    [
        ("20|120000|180000", True),
        ("20|119999|180000", False),  # a minute after the window's beginning it is sure
        ("20|120000|180001", False),  # and until a minute before its end
        ("20|0|180000", False),
        ("150000", False),
    ],
)
def test_an_incremental_export_closes_the_gaps_that_it_covers(
    store: WholeStore, within: str, closed: bool
) -> None:
    gap(store, within)
    finished(store, window(MINUTE, 4 * MINUTE))
    [found] = store.gaps()
    assert (found.closed_ms is not None) is closed
    figures = store.figures()
    assert (figures.reader.gaps, figures.reader.gaps_open) == (1, 0 if closed else 1)
    assert figures.gap_ms == (0 if closed else found.at_ms)
    if closed:
        assert found.closed_by == "incremental export arn:e of the source"


def test_a_gap_is_closed_only_when_every_key_is_answered(store: WholeStore) -> None:
    gap(store, "20|120000|180000")
    settings = window(MINUTE, 4 * MINUTE)
    id_ = begun(store, settings).id
    part = taken(store, id_)
    store.suspect(id_, part, different(b"k"))
    store.finish(id_, part, Tally(source_items=1, source_only=1))
    assert store.take(id_, "me", LONG_MS) == (Standing.SETTLING, None)
    assert store.figures().reader.gaps_open == 1
    answer(store, B, B)
    assert store.take(id_, "me", LONG_MS) == (Standing.FINISHED, None)
    assert store.figures().reader.gaps_open == 0


@pytest.mark.parametrize("what", ["suspects_indeterminate", "dead"])
def test_a_gap_stays_open_where_a_key_was_given_up(store: WholeStore, what: str) -> None:
    gap(store, "20|120000|180000")
    id_ = begun(store, window(MINUTE, 4 * MINUTE)).id
    store.finish(id_, taken(store, id_), Tally())
    store._redis.hincrby(store._key("ledger"), what, 1)
    store.take(id_, "me", LONG_MS)
    assert store.figures().reader.gaps_open == 1


def test_a_gap_stays_open_where_items_do_not_add_up(store: WholeStore) -> None:
    gap(store, "20|120000|180000")
    finished(store, window(MINUTE, 4 * MINUTE), Tally(source_items=2, source_only=1))
    assert store.figures().reader.gaps_open == 1


def test_a_comparison_of_the_whole_table_closes_every_gap_from_before_it(store: WholeStore) -> None:
    gap(store, "7")
    gap(store, f"{store.now_ms()}|0|{store.now_ms()}", "shard-2")
    gap(store, f"20|0|{store.now_ms() + LONG_MS}", "later")
    finished(store, THREE)
    assert store.figures().reader.gaps_open == 3, "both tables were empty: nothing was compared"
    finished(store, THREE, Tally(equal=1, source_items=1, target_items=1))
    closed = store.figures().reader.closed
    assert {one.partition for one in closed} == {"shard-1", "shard-2"}
    assert {one.closed_by for one in closed} == {"comparison of the whole table"}


def test_one_of_a_windows_changes_leaves_the_tables_in_place(store: WholeStore) -> None:
    of_table = finished(store, THREE, Tally(equal=1, source_items=1, target_items=1))
    for settings in (window(1, 2), window(3, 4)):
        latest = begun(store, settings)
        figures = store.figures()
        assert figures.comparison is not None and figures.comparison.id == latest.id
        assert figures.of_table == of_table
        finished(store, settings)
    anew = begun(store, THREE)
    kept = store.figures()
    assert kept.of_table is not None and (kept.of_table.id, kept.kept) == (anew.id, None)


def test_an_unfinished_comparison_of_the_table_vouches_for_nothing_later(store: WholeStore) -> None:
    begun(store)
    store.begin_comparison(window(1, 2), Beginning.RESTART)
    assert store.figures().of_table is None

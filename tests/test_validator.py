"""The validator against a real store and a fake DynamoDB: verdicts, errors that are none, exactly once."""

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec
import pytest
import structlog

from pipeline.aws import Connection, SideConfig
from pipeline.core.adaptive import is_probe
from pipeline.core.ledger import PROBE, PROBE_MS, lag_bucket
from pipeline.core.model import ABSENT, UNKNOWN, Change, ChangeType, Policy, Side, VerdictKind
from pipeline.errors import AwsError, Throttled
from pipeline.store import AwsClocks
from pipeline.store.messages import Committed
from tests.fake import Fake, Kind
from tests.validating import AT_ONCE, World, digest_of, own_store


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        yield one


@pytest.fixture
def make(fake: Fake, valkey_url: str) -> Iterator[Callable[..., World]]:
    with own_store(valkey_url) as store:
        yield functools.partial(World, fake, store)


@pytest.mark.parametrize(("key_type", "key"), [("S", "a"), ("N", "17"), ("B", "AAE=")])
def test_an_item_that_arrived_matches(make: Callable[..., World], key_type: str, key: str) -> None:
    world = make(key_type=key_type)
    item = world.item(key, "new")
    world.fake.control.put("target", item)
    world.published(key, None, item)
    ledger = world.validate(lambda one: one.reached == 1)
    assert (ledger.matches, ledger.keys_judged, ledger.balanced) == (1, 1, True)
    assert world.findings() == []


@pytest.mark.parametrize(
    ("target", "source", "kind"),
    [
        (None, "new", VerdictKind.MISSING),
        ("old", "new", VerdictKind.STALE),
        ("wrong", "new", VerdictKind.DIFFERENT),
        ("old", None, VerdictKind.EXTRA),
    ],
)
def test_each_kind_of_divergence_opens_its_finding(
    make: Callable[..., World], target: str | None, source: str | None, kind: VerdictKind
) -> None:
    world = make()
    if target:
        world.fake.control.put("target", world.item("k", target))
    if source:
        world.fake.control.put("source", world.item("k", source))
    world.published("k", world.item("k", "old"), world.item("k", source) if source else None)
    ledger = world.validate(lambda one: sum(one.open.values()) == 1)
    assert [one.kind for one in world.findings()] == [kind]
    assert (ledger.alarmed, ledger.balanced) == (1, True)


def test_a_history_that_is_damaged_under_a_look_becomes_a_dead_letter(make: Callable[..., World]) -> None:
    """It ended the process, which is for defects of the program."""
    world = make()
    world.published("k", None, world.item("k", "new"))
    commit, history = world.store.commit, world.store._key("history")

    def damage(*asked: Any) -> Committed:
        world.store.commit = commit  # type: ignore[method-assign]
        raw = cast(bytes, world.store._redis.hget(history, world.compact("k")))
        world.store._redis.hset(history, world.compact("k"), raw[:8] + b"rubbish")
        return commit(*asked)

    world.store.commit = damage  # type: ignore[assignment, method-assign]
    ledger = world.validate(lambda one: one.dead_entries["poison"] == 1)
    assert (ledger.outstanding, world.store.queue().dead) == (1, 1)


def test_a_finding_names_the_attributes_that_differ_and_no_values(make: Callable[..., World]) -> None:
    world = make()
    world.fake.control.put("source", world.item("k", "right", same={"N": "1.0"}))
    world.fake.control.put("target", world.item("k", "secret", same={"N": "1"}))
    world.published("k", None, world.item("k", "right", same={"N": "1"}))
    world.validate(lambda one: bool(one.open["different"]) and any(f.attributes for f in world.findings()))
    assert [one.attributes for one in world.findings()] == [["value"]]
    everything = str(world.store._redis.hgetall(world.store._key("findings")))
    assert "secret" not in everything and "right" not in everything


@pytest.mark.parametrize("verified", list(Side))
def test_a_finding_says_types_operation_and_when_the_change_was_written(
    make: Callable[..., World], verified: Side
) -> None:
    """Types are told source first, whichever side's stream is read."""
    leads = verified is Side.SOURCE
    world = make(verified=verified, policy=msgspec.structs.replace(AT_ONCE, leads=leads))
    before, changed = world.item("k", "x", age={"N": "1"}), world.item("k", "y", age={"N": "1"})
    other = world.item("k", "z", age={"S": "one"})
    streamed, held = (other, changed) if leads else (changed, other)
    world.fake.control.put(verified.other, streamed)
    world.fake.control.put(verified, held)
    world.published("k", before, streamed)
    world.validate(lambda one: bool(one.open["different"]) and any(f.types for f in world.findings()))
    [found] = world.findings()
    assert found.types == {"age": "N → S"} and found.attributes == ["age", "value"]
    assert found.operation is ChangeType.MODIFY
    assert found.oldest_change_ms is not None and found.oldest_change_ms < found.first_seen_ms
    assert "one" not in str(world.store._redis.hgetall(world.store._key("findings")))


def test_a_finding_recovers_when_the_target_is_repaired(make: Callable[..., World]) -> None:
    world = make()
    item = world.item("k", "new")
    world.fake.control.put("source", item)
    world.published("k", None, item)
    world.validate(lambda one: bool(one.open["missing"]))
    world.fake.control.put("target", item)
    ledger = world.validate(lambda one: one.recovered == 1)
    assert world.findings() == []
    assert (ledger.reached, ledger.alarmed, ledger.balanced) == (1, 0, True)


def test_contents_that_the_stream_does_not_show_are_compared_with_the_origin(
    make: Callable[..., World],
) -> None:
    world = make()
    item = world.item("k", "new")
    for table in ("source", "target"):
        world.fake.control.put(table, item)
    world.publish([Change(world.compact("k"), UNKNOWN, UNKNOWN, world.store.now_ms())])
    assert world.validate(lambda one: one.reached == 1).matches == 1


def test_verifying_the_source_tells_kinds_of_the_target(make: Callable[..., World]) -> None:
    world = make(Policy(-1_000, 0, leads=True), verified=Side.SOURCE)
    world.fake.control.put("target", world.item("k", "rogue"))
    world.published("k", None, world.item("k", "rogue"))
    world.validate(lambda one: bool(one.open["extra"]))


@pytest.mark.parametrize(
    "kind",
    [
        Kind.THROTTLE,
        Kind.INTERNAL_ERROR,
        Kind.BAD_GATEWAY,
        Kind.EXPIRED_TOKEN,
        Kind.ACCESS_DENIED,
        Kind.HANG_UP,
        Kind.TRUNCATE,
        Kind.EMPTY,
        Kind.BAD_CRC,
        Kind.UNKNOWN_TAG,
        Kind.EXTRA_KEY,
        Kind.DUPLICATE_KEY,
        Kind.DROP_KEY,
        Kind.UNPROCESSED,
    ],
)
def test_no_error_is_a_verdict(make: Callable[..., World], kind: Kind) -> None:
    world = make()
    item = world.item("k", "new")
    world.fake.control.put("target", item)
    world.published("k", None, item)
    world.fake.control.fail(kind, "BatchGetItem", calls=1)
    [before] = world.histories()
    try:
        world.validator.step()
    except AwsError:
        [after] = world.histories()
        assert msgspec.structs.replace(after, late=0) == before
    ledger = world.store.ledger()
    assert sum(ledger.open.values()) == 0
    assert world.validate(lambda one: one.reached == 1).balanced


def test_a_key_that_cannot_be_read_is_waited_for_until_it_is(make: Callable[..., World]) -> None:
    """It was put back again and again, never late and never found, and the gate knew nothing of it."""
    world = make()
    item = world.item("k", "new")
    world.fake.control.put("target", item)
    world.published("k", None, item)
    world.fake.control.fail(Kind.ACCESS_DENIED, "BatchGetItem", calls=2)
    for _ in range(2):
        world.hasten()
        with pytest.raises(AwsError):
            world.validator.step()
        assert world.store.figures().oldest_waiting_ms is not None
    world.hasten()
    assert world.validate(lambda one: one.reached == 1).balanced
    assert world.store.figures().oldest_waiting_ms is None


def test_unprocessed_keys_are_read_again_and_none_is_lost(make: Callable[..., World]) -> None:
    world = make()
    world.fake.control.limit_batch_get(20_000)
    items = [world.item(f"k{number}", "x" * 5_000) for number in range(10)]
    for item in items:
        world.fake.control.put("target", item)
        world.published(item["pk"]["S"], None, item)
    ledger = world.validate(lambda one: one.reached == 10)
    assert (ledger.matches, ledger.balanced) == (10, True)


def test_a_read_that_is_refused_undoes_none_before_it(make: Callable[..., World]) -> None:
    """A claim is two reads; a table that throttles every second one would otherwise never be done."""
    world = make()
    items = [world.item(f"k{number}", "x") for number in range(150)]
    for item in items:
        world.fake.control.put("target", item)
    keys = [world.compact(item["pk"]["S"]) for item in items]
    now_ms = world.store.now_ms()
    world.publish([Change(key, ABSENT, digest_of(one), now_ms) for key, one in zip(keys, items, strict=True)])
    world.fake.control.limit_rate("BatchGetItem", 1)
    with pytest.raises(Throttled):
        world.validator.step()
    assert world.store.ledger().reached == 100
    world.fake.control.clear_faults()
    assert world.validate(lambda one: one.reached == 150).balanced


def test_a_witness_that_cannot_be_read_holds_up_its_own_keys_alone(make: Callable[..., World]) -> None:
    """The keys that match are committed although the suspects' second look fails."""
    world = make()
    good = world.item("good", "x")
    world.fake.control.put("target", good)
    world.published("good", None, good)
    world.fake.control.put("source", world.item("bad", "x"))
    world.published("bad", None, world.item("bad", "x"))
    nowhere = Connection(SideConfig("source", region="us-east-1", endpoint_url="http://127.0.0.1:1"))
    origin = world.validator._origin
    world.validator._origin = world.side_reader(Side.SOURCE, nowhere)
    with pytest.raises(AwsError):
        world.validator.step()
    ledger = world.store.ledger()
    assert (ledger.reached, sum(ledger.open.values()), ledger.balanced) == (1, 0, True)
    world.validator._origin = origin
    world.validate(lambda one: bool(one.open["missing"]))


def test_a_poison_entry_stops_nobody(make: Callable[..., World]) -> None:
    world = make()
    world.store._redis.xadd(world.store._key("work"), {"garbage": "x"})
    item = world.item("k", "new")
    world.fake.control.put("target", item)
    world.published("k", None, item)
    ledger = world.validate(lambda one: one.reached == 1)
    assert ledger.dead_entries["poison"] == 1 and ledger.balanced


def test_keys_that_dynamodb_does_not_get_to_go_back_as_they_were(make: Callable[..., World]) -> None:
    world = make()
    item = world.item("k", "new")
    world.fake.control.put("target", item)
    world.published("k", None, item)
    [before] = world.histories()
    world.fake.control.fail(Kind.UNPROCESSED, "BatchGetItem", calls=1)
    world.stop.set()  # so the keys left are not asked for again
    assert world.validator.step() == 1
    [after] = world.histories()
    assert msgspec.structs.replace(after, late=0) == before
    world.stop.clear()
    assert world.validate(lambda one: one.reached == 1).matches == 1


def test_an_item_that_is_malformed_is_an_error_that_names_no_value(make: Callable[..., World]) -> None:
    world = make()
    table, item = world.fake.world.table("target"), world.item("k", "x", amount={"N": "12-SECRET"})
    table.hold(table.key_of(item), msgspec.json.encode(item))  # no DynamoDB would take it
    world.published("k", None, world.item("k", "x"))
    [before] = world.histories()
    with structlog.testing.capture_logs() as logs:
        world.validator.step()
    assert [(one["event"], one["error"]) for one in logs] == [
        ("item cannot be read", "attribute 'amount': not a number")
    ]
    [after] = world.histories()
    assert msgspec.structs.replace(after, late=0) == before
    assert sum(world.store.ledger().open.values()) == 0


@pytest.mark.parametrize(
    ("target", "reached"),
    [("second", 2), ("first", 1)],
    ids=["the new version explains the look", "the new version is still to come"],
)
def test_a_change_published_while_a_look_is_under_way_is_judged_with_it(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch, target: str, reached: int
) -> None:
    """The commit is refused, the same look is judged against the history as it is now."""
    world = make(Policy(converge_within_ms=60_000, stable_for_ms=60_000))
    first, second = world.item("k", "first"), world.item("k", "second")
    world.fake.control.put("target", world.item("k", target))
    world.published("k", None, first)
    commit, commits = world.store.commit, []

    def published_before(*args: Any) -> Any:
        commits.append(args)
        if len(commits) == 1:
            world.published("k", first, second)
        return commit(*args)

    monkeypatch.setattr(world.store, "commit", published_before)
    world.validator.step()
    ledger = world.store.ledger()
    assert len(commits) == 2
    assert (ledger.reached, ledger.outstanding, ledger.balanced) == (reached, 2 - reached, True)
    assert ledger.reads == 1


def test_verbose_says_each_verdict_and_no_key(make: Callable[..., World]) -> None:
    world = make()
    world.validator._verbose = True
    item = world.item("k-in-clear", "new")
    world.fake.control.put("target", item)
    world.published("k-in-clear", None, item)
    with structlog.testing.capture_logs() as logs:
        world.validate(lambda one: one.reached == 1)
    (said,) = [one for one in logs if one["event"] == "verdict"]
    assert (said["verdict"], "k-in-clear" in str(said)) == (VerdictKind.MATCH, False)


def said_of_findings(logs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [one for one in logs if one["event"].startswith("finding ")]


def counted(world: World) -> dict[str, int]:
    """What this process counted as mismatches, by kind."""
    return {kind: int(one._value.get()) for kind, one in world.metrics.mismatches.items()}


def test_a_finding_is_one_line_when_it_opens_changes_and_closes(make: Callable[..., World]) -> None:
    world = make()
    world.fake.control.put("source", world.item("k-in-clear", "right", more={"S": "secret"}))
    world.fake.control.put("target", world.item("k-in-clear", "wrong", more={"S": "secret"}))
    world.published("k-in-clear", None, world.item("k-in-clear", "right", more={"S": "secret"}))
    with structlog.testing.capture_logs() as logs:
        world.validate(lambda one: one.open["different"] == 1)
        for _ in range(3):  # looks that find nothing new
            world.hasten()
            world.validator.step()
        world.fake.control.put("target", world.item("k-in-clear", "right", more={"S": "other"}))
        world.hasten()
        world.validate(lambda _: world.findings()[0].attributes == ["more"])
        world.fake.control.delete("target", {"pk": {"S": "k-in-clear"}})
        world.hasten()
        world.validate(lambda one: one.open["missing"] == 1)
        world.fake.control.put("target", world.item("k-in-clear", "right", more={"S": "secret"}))
        world.hasten()
        world.validate(lambda one: one.recovered == 1)
    opened, renamed, changed, closed = said_of_findings(logs)
    assert [one["event"] for one in (opened, renamed, changed, closed)] == [
        *("finding opened", "finding changed", "finding changed", "finding closed")
    ]
    assert (opened["kind"], opened["attributes"], opened["log_level"]) == ("different", ["value"], "warning")
    assert renamed["attributes"] == ["more"]
    assert (changed["kind"], changed["kind_before"]) == ("missing", "different")
    assert (closed["kind"], closed["why"], closed["open_seconds"] >= 0) == ("missing", "recovered", True)
    assert {one["key"] for one in (opened, renamed, changed, closed)} == {
        world.store.key_hash(world.compact("k-in-clear"))
    }
    assert re.fullmatch(r"20..-..-..T..:..:..\....Z", opened["written"])
    assert not re.search("k-in-clear|right|wrong|secret|other", str([opened, renamed, changed, closed]))


@pytest.mark.parametrize("count", [1, 29])
def test_the_mismatches_counted_are_the_ledger_s(make: Callable[..., World], count: int) -> None:
    """Held looks are decided without a look: those opened findings that nobody counted or logged."""
    world = make(Policy(converge_within_ms=-1_000, stable_for_ms=0))
    world.validator._verbose = True
    keys = [f"k{number}" for number in range(count)]
    # The readers are behind: the look is held until they have caught up.
    world.publish_unread([world.change(key) for key in keys])
    world.read_until(world.store.now_ms() - 10_000)
    with structlog.testing.capture_logs() as logs:
        world.validator.step()
        assert sum(world.store.ledger().mismatches.values()) == 0
        world.read_through()
        world.hasten()
        ledger = world.validate(lambda one: one.open["missing"] == count)
    assert counted(world) == ledger.mismatches
    assert len(said_of_findings(logs)) == count
    verdicts = [one for one in logs if one["event"] == "verdict"]
    assert [one["verdict"] for one in verdicts] == ["missing"] * count
    assert {one.get("by") for one in verdicts} == {"a look that was held"}


def test_a_finding_of_a_commit_that_was_refused_is_told_once(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The history changed under the first commit; the second is the one that opened the finding."""
    world = make()
    world.published("k", None, world.item("k", "right"))
    world.fake.control.put("source", world.item("k", "right"))
    commit, commits = world.store.commit, []

    def published_before(*args: Any) -> Any:
        commits.append(args)
        if len(commits) == 1:
            world.published("k", world.item("k", "right"), world.item("k", "right", more={"S": "x"}))
        return commit(*args)

    monkeypatch.setattr(world.store, "commit", published_before)
    world.fake.control.put("source", world.item("k", "right", more={"S": "x"}))
    with structlog.testing.capture_logs() as logs:
        world.validate(lambda one: one.open["missing"] == 1)
    assert len(commits) > 1
    assert [one["event"] for one in said_of_findings(logs)] == ["finding opened"]
    assert counted(world) == world.store.ledger().mismatches


def test_what_another_validator_committed_is_neither_counted_nor_told(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make()
    world.published("k", None, world.item("k", "right"))
    world.fake.control.put("source", world.item("k", "right"))
    commit = world.store.commit

    def twice(*args: Any) -> Any:
        """Another one was faster: with the same entry, or its reply was lost and it is repeated."""
        commit(*args)
        return commit(*args)

    monkeypatch.setattr(world.store, "commit", twice)
    with structlog.testing.capture_logs() as logs:
        world.validate(lambda one: one.open["missing"] == 1)
    assert said_of_findings(logs) == []
    assert sum(counted(world).values()) == 0


def test_a_line_about_a_hostile_name_is_short_and_plain(make: Callable[..., World]) -> None:
    world = make()
    names = {"\x1b]0;x\x07" + "n" * 60_000: {"S": "x"}, **{f"a{n}": {"S": "x"} for n in range(60)}}
    world.fake.control.put("source", world.item("k", "right", **names))
    world.fake.control.put("target", world.item("k", "right"))
    world.published("k", None, world.item("k", "right", **names))
    with structlog.testing.capture_logs() as logs:
        world.validate(lambda one: one.open["different"] == 1)
    (opened,) = said_of_findings(logs)
    assert len(str(opened)) < 700
    assert all(name.isprintable() for name in opened["attributes"])
    assert opened["attributes"][-1] == "…"
    (stored,) = world.store._redis.hvals(world.store._key("findings"))
    assert len(stored) <= 4_096


# --- clocks ------------------------------------------------------------------------------------------------


class StandsStill:
    """AWS's clock as this process knows it, which is Redis' here; steps: how often it was found wrong."""

    steps = 0
    known_ms: int | None = None

    def now_ms(self) -> int | None:
        return self.known_ms

    def latest_ms(self) -> int | None:
        return self.known_ms


def test_a_look_across_which_this_process_stood_still_is_put_back_and_made_again(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual machine was paused: when the look was made, nobody can say."""
    world, clock, asked = make(), StandsStill(), []
    aws = AwsClocks(clock, ask=lambda: asked.append(1), others=(clock,))
    monkeypatch.setattr(world.store.clock, "_aws", aws)
    world.published("k", None, world.item("k", "new"))  # and the target does not have it
    read = world.validator._verified.read

    def pause_and_read(*arguments: Any) -> Any:
        clock.steps += 1
        return read(*arguments)

    monkeypatch.setattr(world.validator._verified, "read", pause_and_read)
    world.validator.step()
    ledger = world.store.ledger()
    assert (ledger.reads, ledger.alarmed, ledger.outstanding) == (1, 0, 1)
    assert world.findings() == [] and not asked

    monkeypatch.setattr(world.validator._verified, "read", read)
    world.validate(lambda one: one.alarmed == 1)
    assert asked == [1]  # before anything else was timed


def test_a_look_that_was_timed_before_this_process_knew_awss_time_is_put_back(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis' clock, which it went by until the answer, turns out to be ten minutes ahead."""
    world, clock = make(), StandsStill()
    monkeypatch.setattr(world.store.clock, "_aws", AwsClocks(clock, ask=lambda: None))
    world.published("k", None, world.item("k", "new"))
    world.fake.control.put("target", world.item("k", "new"))
    read = world.validator._verified.read

    def read_and_learn(*arguments: Any) -> Any:
        seen = read(*arguments)
        clock.known_ms = world.store.now_ms() - 600_000
        return seen

    monkeypatch.setattr(world.validator._verified, "read", read_and_learn)
    world.validator.step()
    ledger = world.store.ledger()
    assert (ledger.reads, ledger.reached, ledger.outstanding) == (1, 0, 1)


@pytest.mark.parametrize("follows", [True, False])
def test_the_lag_of_probes_is_counted_where_the_deadline_follows_the_lag(
    make: Callable[..., World], follows: bool
) -> None:
    world = make(Policy(60_000, 0, adapted_ms=0 if follows else None))
    minute = world.store.now_ms() // 60_000
    counts = [world.store._key(f"lag:{at}") for at in (minute, minute + 1)]
    if follows:  # as if fifty probes had measured three seconds
        for field, count in (
            (lag_bucket(3_000), 50),
            (f"{PROBE}{lag_bucket(3_000)}", 50),
            (PROBE_MS, 150_000),
        ):
            world.store._redis.hset(counts[0], str(field), count)
        world.store.adapt(600_000)
        world.store._redis.delete(counts[0])
    keys = [str(number) for number in range(100)]
    probes = [key for key in keys if is_probe(world.compact(key))]
    assert 0 < len(probes) < 20
    for key in keys:
        world.fake.control.put("target", world.item(key, "new"))
    world.publish([world.change(key) for key in keys])
    ledger = world.validate(lambda one: one.reached == len(keys))
    counted: Counter[str] = Counter()
    for name in counts:
        for raw, number in cast(dict[bytes, bytes], world.store._redis.hgetall(name)).items():
            if (label := raw.decode()) != PROBE_MS:
                counted["probes" if label.startswith(PROBE) else "all"] += int(number)
    assert (counted["all"], counted["probes"]) == (len(keys), len(probes) if follows else 0)
    assert ledger.balanced


def test_what_was_written_in_a_pause_of_ours_makes_no_lag_however_the_reader_catches_up(
    make: Callable[..., World],
) -> None:
    """The target has the newest at once; a look comes between two pages of the reader."""
    world = make(Policy(600_000, 0))
    paused_ms = world.store.now_ms() - 100_000
    first, second = digest_of(world.item("a", "1")), digest_of(world.item("a", "2"))
    world.fake.control.put("target", world.item("a", "2"))
    key = world.compact("a")
    world.publish_unread([Change(key, ABSENT, first, paused_ms)])
    assert world.validate(lambda one: one.reads == 1).reached == 0
    world.publish_unread([Change(key, first, second, paused_ms + 1_000)])
    world.hasten()
    assert world.validate(lambda one: one.outstanding == 0).reached == 2
    assert not any(world.store.figures().lag_counts)

"""TTL against tables that describe it: only what DynamoDB will remove is excused, and only while it will."""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import structlog

from pipeline import metrics
from pipeline.aws import Connection, SideConfig, TableReader, describe_table
from pipeline.core import gate
from pipeline.core.canonical import Digester
from pipeline.core.model import Policy, Side, VerdictKind
from pipeline.validator.side_reader import ReadRequest, SideReader
from tests import servers
from tests.fake import Fake, Kind
from tests.validating import World, own_store

YEAR = 365 * 86_400


def expiring(seconds_ago: float, divided_by: float = 1) -> dict[str, Any]:
    """A TTL attribute that was due so long ago."""
    return {"expires": {"N": str(int((time.time() - seconds_ago) / divided_by))}}


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        yield one


@pytest.fixture
def make(fake: Fake, valkey_url: str) -> Iterator[Callable[..., World]]:
    with own_store(valkey_url) as store:
        yield functools.partial(World, fake, store)


def judged(world: World, key: str, source: Any, target: Any, before: Any = None) -> None:
    """The key is what it is on both sides, its last change is published, and a verdict is given."""
    for side, item in ((Side.SOURCE, source), (Side.TARGET, target)):
        if item is not None:
            world.fake.control.put(side, item)
    count = world.store.ledger().versions_published
    world.published(key, before, source)
    world.validate(lambda one: one.outstanding == 0 and one.versions_published == count + 1)


# --- the inputs that were reported -------------------------------------------------------------------------


def test_a_session_that_was_extended_and_dies_at_the_target_stays_a_finding(
    make: Callable[..., World],
) -> None:
    """The source lives until next year, the change was dropped, the target's stale copy is past its TTL."""
    world = make()
    old, new = world.item("k", "s", **expiring(60)), world.item("k", "s", **expiring(-YEAR))
    judged(world, "k", new, old, before=old)
    assert [one.kind for one in world.findings()] == [VerdictKind.STALE]
    world.hasten()
    world.validate(lambda one: one.reads_strong >= 4)
    assert [one.kind for one in world.findings()] == [VerdictKind.STALE]
    world.fake.control.expire(Side.TARGET, {"pk": {"S": "k"}})
    world.hasten()
    ledger = world.validate(lambda one: bool(one.open["missing"]))
    assert (ledger.recovered, ledger.excused, ledger.balanced) == (0, 0, True)


@pytest.mark.parametrize("seconds", [6 * YEAR, time.time() - 1], ids=["six years ago", "1"])
def test_what_expired_more_than_five_years_ago_is_never_deleted_and_never_excused(
    make: Callable[..., World], seconds: float
) -> None:
    world = make()
    for number in range(30):
        item = world.item(f"equal{number}", "x", **expiring(seconds))
        judged(world, f"equal{number}", item, item)
    for number in range(5):
        item = world.item(f"missing{number}", "x", **expiring(seconds))
        judged(world, f"missing{number}", item, None)
        other = world.item(f"different{number}", "y", **expiring(seconds))
        judged(world, f"different{number}", {**other, "value": {"S": "x"}}, other)
    ledger = world.store.ledger()
    assert (ledger.open["missing"], ledger.open["different"], ledger.excused) == (5, 5, 0)
    assert gate.evaluate(world.store.figures(), gate.DEFAULT_LIMITS).result is gate.Result.FAILED


@pytest.mark.parametrize("factor", [1e3, 1e-3, 1e-6, 1e-9], ids=["seconds / 1000", "ms", "us", "ns"])
def test_a_target_that_holds_its_ttl_in_a_wrong_unit_is_different(
    make: Callable[..., World], factor: float
) -> None:
    world = make()
    right = world.item("k", "x", **expiring(60))
    judged(world, "k", right, world.item("k", "x", **expiring(60, divided_by=factor)))
    (finding,) = world.findings()
    assert (finding.kind, finding.attributes) == (VerdictKind.DIFFERENT, ["expires"])


def test_ttl_switched_on_after_the_start_excuses_what_it_will_remove(make: Callable[..., World]) -> None:
    world = make(ttl=None)
    world.fake.world.table(Side.TARGET).ttl_attribute = "expires"
    gone = world.item("k", "x", **expiring(60))
    world.fake.control.put(Side.TARGET, gone)
    world.published("k", gone, None)
    ledger = world.validate(lambda one: one.expired == 1)
    assert (ledger.excused, sum(ledger.mismatches.values()), ledger.keys_judged) == (1, 0, 0)


# --- their siblings ----------------------------------------------------------------------------------------


def test_ttl_switched_off_ends_the_excuse(make: Callable[..., World]) -> None:
    world = make()
    judged(world, "k", world.item("k", "x", **expiring(60)), None)
    assert world.store.ledger().excused == 1
    world.fake.world.table(Side.SOURCE).ttl_attribute = None
    world.hasten()
    ledger = world.validate(lambda one: bool(one.open["missing"]))
    assert (ledger.excused, ledger.expired, ledger.alarmed, ledger.balanced) == (0, 0, 1, True)


def test_ttl_on_the_other_side_only_excuses_nothing(make: Callable[..., World]) -> None:
    world = make()
    world.fake.world.table(Side.SOURCE).ttl_attribute = None
    judged(world, "k", world.item("k", "x", **expiring(60)), None)
    assert [one.kind for one in world.findings()] == [VerdictKind.MISSING]


@pytest.mark.parametrize(
    "value",
    [{"S": "1795435200"}, {"N": "0"}, {"N": "-1795435200"}, {"N": "9.9E+125"}, {"NULL": True}],
    ids=["text", "zero", "negative", "huge", "null"],
)
def test_a_value_that_ttl_does_not_go_by_excuses_nothing(
    make: Callable[..., World], value: dict[str, Any]
) -> None:
    world = make()
    judged(world, "k", world.item("k", "x", expires=value), None)
    assert [one.kind for one in world.findings()] == [VerdictKind.MISSING]


def test_a_fraction_of_a_second_is_a_number_like_others(make: Callable[..., World]) -> None:
    world = make()
    judged(world, "k", world.item("k", "x", expires={"N": f"{time.time() - 60:.3f}"}), None)
    assert world.store.ledger().excused == 1


def test_an_excused_key_is_right_once_both_sides_are_empty(make: Callable[..., World]) -> None:
    world = make()
    gone = world.item("k", "x", **expiring(60))
    judged(world, "k", None, gone, before=gone)
    ledger = world.store.ledger()
    assert (ledger.excused, ledger.expired, ledger.keys_judged) == (1, 1, 0)
    world.fake.control.expire(Side.TARGET, {"pk": {"S": "k"}})
    world.hasten()
    ledger = world.validate(lambda one: one.reached == 1)
    assert (ledger.excused, ledger.expired, ledger.keys_judged, ledger.matches) == (0, 0, 1, 1)
    assert ledger.balanced and sum(world.store.figures().lag_counts) == 0


def test_an_excused_key_whose_item_was_written_again_is_followed_to_the_end(
    make: Callable[..., World],
) -> None:
    world = make()
    gone = world.item("k", "x", **expiring(60))
    judged(world, "k", None, gone, before=gone)
    again = world.item("k", "y", **expiring(-YEAR))
    world.fake.control.put(Side.SOURCE, again)
    world.published("k", None, again)
    world.hasten()
    ledger = world.validate(lambda one: bool(one.open["different"] or one.open["stale"]))
    assert (ledger.excused, ledger.expired, ledger.alarmed, ledger.balanced) == (0, 0, 2, True)
    world.fake.control.put(Side.TARGET, again)
    world.hasten()
    assert world.validate(lambda one: one.recovered == 1).reached == 2


def test_after_the_grace_a_difference_is_a_mismatch_whatever_ttl_will_do(make: Callable[..., World]) -> None:
    world = make(Policy(converge_within_ms=-1_000, stable_for_ms=0, ttl_grace_ms=1))
    judged(world, "k", world.item("k", "x", **expiring(60)), None)
    world.hasten()
    ledger = world.validate(lambda one: bool(one.open["missing"]))
    assert (ledger.excused, ledger.balanced) == (0, True)


def test_where_the_source_is_looked_up_its_own_ttl_counts(make: Callable[..., World]) -> None:
    """The target's stream tells of an item that the source's TTL has deleted, or will not delete."""
    world = make(Policy(converge_within_ms=-1_000, stable_for_ms=0, leads=True), verified=Side.SOURCE)
    surplus, kept = world.item("surplus", "x", **expiring(60)), world.item("kept", "x", **expiring(-YEAR))
    for item in (surplus, kept):
        world.fake.control.put(Side.TARGET, item)
        world.published(item["pk"]["S"], None, item)
    ledger = world.validate(lambda one: one.outstanding == 0)
    assert (ledger.excused, dict(ledger.open)["extra"]) == (1, 1)


def test_a_table_of_which_much_is_excused_cannot_pass_on_the_rest(make: Callable[..., World]) -> None:
    world = make()
    for number in range(4):
        item = world.item(f"right{number}", "x", **expiring(-YEAR))
        judged(world, f"right{number}", item, item)
    judged(world, "gone", world.item("gone", "x", **expiring(60)), None)
    figures = world.store.figures()
    assert (figures.success.ratio, figures.success.keys, figures.success.excused) == (1.0, 4, 1)
    limits = gate.Limits(objective=0.3)
    checks = {one.name: one for one in gate.evaluate(figures, limits).checks}
    assert checks["success"].result is gate.Result.PASSED
    assert checks["excused"].result is gate.Result.INCONCLUSIVE
    assert "remove: 1, 20.00% of all" in checks["excused"].reason


# --- how TTL is described ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.THROTTLE, Kind.ACCESS_DENIED, Kind.HANG_UP, Kind.EMPTY])
def test_a_description_that_fails_keeps_the_last_one_and_says_so_without_values(
    make: Callable[..., World], kind: Kind
) -> None:
    world = make()
    world.fake.control.fail(kind, "DescribeTimeToLive", calls=None)
    with structlog.testing.capture_logs() as logs:
        judged(world, "k", world.item("k", "secret", **expiring(60)), None)
    assert world.store.ledger().excused == 1
    said = [one for one in logs if one["event"] == "TTL not described"]
    assert {one["side"] for one in said} == set(Side)
    assert "secret" not in str(logs)


def test_ttl_is_described_again_only_after_a_while(make: Callable[..., World]) -> None:
    world = make(ttl_every_seconds=3_600.0)
    world.fake.world.table(Side.SOURCE).ttl_attribute = None
    judged(world, "k", world.item("k", "x", **expiring(60)), None)
    assert world.store.ledger().excused == 1


def test_the_description_of_a_real_table_is_followed(tmp_path: Path) -> None:
    """Another's emulator: TTL enabled, changed and disabled by DynamoDB's own operations."""
    with servers.moto(tmp_path) as url:
        client = boto3.client("dynamodb", region_name="us-east-1", endpoint_url=url)
        client.create_table(
            TableName="t",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        client.put_item(TableName="t", Item={"pk": {"S": "k"}, **expiring(60)})
        connection = Connection(SideConfig("source", region="us-east-1", endpoint_url=url))
        info = describe_table(connection, "t")
        reader = SideReader(
            Side.SOURCE,
            TableReader(connection, "t", info.schema),
            metrics.start(None, "test").of_validator("test"),
            digester=Digester(),
            ttl_attribute=info.ttl_attribute,
            ttl_every_seconds=0.0,
            stop=threading.Event(),
        )
        key = info.schema.compact_of({"pk": {"S": "k"}})

        def expires(whole: bool = True) -> bool:
            at_ms = int(time.time() * 1000)
            found, left = reader.read([key], ReadRequest(at_ms=at_ms, strong=True, likely={}, whole=whole))
            assert not left
            return found[key].expires

        def set_ttl(enabled: bool, attribute: str) -> None:
            wanted = {"Enabled": enabled, "AttributeName": attribute}
            client.update_time_to_live(TableName="t", TimeToLiveSpecification=wanted)

        assert not expires()
        set_ttl(True, "expires")
        assert (expires(), expires(whole=False)) == (True, False)
        set_ttl(False, "expires")
        assert not expires()
        set_ttl(True, "another")
        assert not expires()

"""The demo's replicator: each kind of fault leaves exactly the planted truth, on real tables over HTTP."""

import json
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.model import ChangeType, VerdictKind
from pipeline.demo import tables, traffic, truth
from pipeline.demo.plan import Fault, Lag, Plan, Rule
from pipeline.demo.replicator import Replicator, Stream, drain
from pipeline.demo.schedule import Schedule, Seen
from tests.servers import ROOT, eventually, process

REGION = "us-east-1"
AT_ONCE = Lag(median_ms=0, p99_ms=0)


class World:
    """A source with a stream and a target; the replicator reads when told to, so each step is known."""

    def __init__(self, source_url: str, target_url: str) -> None:
        self.table = f"orders-{uuid.uuid4().hex[:8]}"
        self.source_url, self.target_url = source_url, target_url
        self.source = tables.client(source_url, REGION)
        self.target = tables.client(target_url, REGION)
        for side in (self.source, self.target):
            tables.create(side, self.table)
        self.arn = tables.enable_stream(self.source, self.table)

    def replicator(self, *faults: Rule) -> Replicator:
        stream = Stream(tables.streams_client(self.source_url, REGION), self.arn)
        schedule = Schedule(Plan(lag=AT_ONCE, faults=list(faults)), seed=1)
        return Replicator(stream, self.target, self.table, schedule, truth.Start({}, {}))

    def put(self, pk: str, value: int) -> None:
        self.source.put_item(TableName=self.table, Item=item(pk, value))

    def delete(self, pk: str) -> None:
        self.source.delete_item(TableName=self.table, Key=key(pk))

    def settle(self, replicator: Replicator) -> dict[str, str]:
        """Drain, and what is planted by partition key."""
        drain(replicator, self.source, self.table)
        planted = replicator.planted(
            tables.contents(self.source, self.table), tables.contents(self.target, self.table)
        )
        return {json.loads(text)["pk"]["S"]: kind for text, kind in planted["divergent"].items()}


def key(pk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"N": "1"}}


def item(pk: str, value: int) -> dict[str, Any]:
    return {**key(pk), "name": {"S": f"version {value}"}}


@pytest.fixture
def world(moto_url: str, other_moto_url: str) -> World:
    return World(moto_url, other_moto_url)


def test_without_faults_the_target_becomes_the_source(world: World):
    replicator = world.replicator()
    for pk in ("a", "b", "c"):
        world.put(pk, 1)
    world.put("a", 2)
    world.delete("b")
    assert world.settle(replicator) == {}
    assert len(tables.contents(world.target, world.table)) == 2


def test_a_dropped_insert_is_missing(world: World):
    replicator = world.replicator(Rule(fault=Fault.DROP, of=[ChangeType.INSERT], keys="a"))
    world.put("a", 1)
    world.put("b", 1)
    assert world.settle(replicator) == {"a": "missing"}


def test_a_dropped_update_is_stale_however_many_were_dropped(world: World):
    replicator = world.replicator(Rule(fault=Fault.DROP, of=[ChangeType.MODIFY], keys="a"))
    for value in (1, 2, 3):
        world.put("a", value)
        world.put("b", value)
    assert world.settle(replicator) == {"a": "stale"}


def test_a_deletion_not_applied_is_extra(world: World):
    replicator = world.replicator(Rule(fault=Fault.LEAVE_EXTRA, keys="a"))
    for pk in ("a", "b"):
        world.put(pk, 1)
        world.delete(pk)
    assert world.settle(replicator) == {"a": "extra"}


def test_a_corrupted_value_is_different(world: World):
    replicator = world.replicator(Rule(fault=Fault.CORRUPT, keys="a"))
    world.put("a", 1)
    world.put("b", 1)
    assert world.settle(replicator) == {"a": "different"}


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.CORRUPT])
def test_a_fault_made_good_by_a_later_change_is_no_divergence(world: World, fault: Fault):
    replicator = world.replicator(Rule(fault=fault, of=[ChangeType.INSERT]))
    world.put("a", 1)
    replicator.step()
    world.put("a", 2)
    assert world.settle(replicator) == {}
    assert replicator.schedule.faults[fault] == 1


@pytest.mark.parametrize("by_ms", [0, 50])
def test_a_reordered_insert_wins_over_the_update_after_it(world: World, by_ms: int):
    replicator = world.replicator(Rule(fault=Fault.REORDER, of=[ChangeType.INSERT], by_ms=by_ms))
    for value in (1, 2):
        world.put("a", value)
    assert world.settle(replicator) == {"a": "stale"}


def test_a_reordered_insert_comes_back_after_the_deletion_as_extra(world: World):
    replicator = world.replicator(Rule(fault=Fault.REORDER, of=[ChangeType.INSERT]))
    world.put("a", 1)
    world.delete("a")
    assert world.settle(replicator) == {"a": "extra"}


def test_a_reordered_deletion_removes_what_was_inserted_after_it(world: World):
    replicator = world.replicator(Rule(fault=Fault.REORDER, of=[ChangeType.REMOVE]))
    world.put("a", 1)
    world.delete("a")
    world.put("a", 2)
    assert world.settle(replicator) == {"a": "missing"}


def test_a_change_is_overtaken_even_by_one_that_is_dropped(world: World):
    """Else it would wait for the end, much later than anybody looks."""
    replicator = world.replicator(
        Rule(fault=Fault.REORDER, of=[ChangeType.INSERT]), Rule(fault=Fault.LEAVE_EXTRA)
    )
    world.put("a", 1)
    world.delete("a")
    replicator.step()
    assert len(tables.contents(world.target, world.table)) == 1
    assert world.settle(replicator) == {"a": "extra"}


def test_a_change_that_nothing_overtakes_is_only_late(world: World):
    replicator = world.replicator(Rule(fault=Fault.REORDER))
    world.put("a", 1)
    assert world.settle(replicator) == {}


def test_delays_keep_the_order(world: World):
    replicator = world.replicator(Rule(fault=Fault.DELAY, of=[ChangeType.INSERT], by_ms=100))
    world.put("a", 1)
    world.put("a", 2)
    assert world.settle(replicator) == {}


def test_a_change_applied_twice_in_place_is_harmless(world: World):
    replicator = world.replicator(Rule(fault=Fault.DUPLICATE))
    world.put("a", 1)
    world.put("a", 2)
    world.delete("b")
    assert world.settle(replicator) == {}


def test_a_change_applied_again_after_the_next_one_is_stale(world: World):
    replicator = world.replicator(Rule(fault=Fault.DUPLICATE, of=[ChangeType.INSERT], by_ms=100))
    world.put("a", 1)
    world.put("a", 2)
    assert world.settle(replicator) == {"a": "stale"}


def test_a_divergence_that_nobody_planted_is_not_believed(world: World):
    replicator = world.replicator()
    world.put("a", 1)
    drain(replicator, world.source, world.table)
    world.target.delete_item(TableName=world.table, Key=key("a"))
    with pytest.raises(RuntimeError, match="the target table is not what the replicator knows of it"):
        world.settle(replicator)


def test_the_schedule_gives_a_keys_changes_in_their_order_when_lag_varies():
    schedule = Schedule(Plan(lag=Lag(median_ms=300, p99_ms=3000)), seed=3)
    for value in range(200):
        image = item("a", value)
        schedule.take(Seen(ChangeType.MODIFY, "a", key("a"), image, value), now_ms=value * 10)
    applied = [application.image for application in schedule.due(1e9)]
    assert applied == [item("a", value) for value in range(200)]


@pytest.mark.parametrize(
    ("source", "target", "kind"),
    [
        (item("a", 3), item("a", 3), None),
        (item("a", 3), None, VerdictKind.MISSING),
        (None, item("a", 3), VerdictKind.EXTRA),
        (item("a", 3), item("a", 1), VerdictKind.STALE),
        (item("a", 3), item("a", 9), VerdictKind.DIFFERENT),
        (None, None, None),
    ],
)
def test_classification(source: dict | None, target: dict | None, kind: VerdictKind | None):
    versions = [None, item("a", 1), item("a", 2), item("a", 3)]
    assert truth.classify(source, target, versions) is kind


def test_the_order_of_a_set_is_no_difference():
    one, other = ({**key("a"), "tags": {"SS": order}} for order in (["x", "y"], ["y", "x"]))
    assert truth.classify(one, other, []) is None


def test_traffic_is_made_by_its_seed_and_always_changes_something():
    writes = list(traffic.script(5, 2000))
    assert writes == list(traffic.script(5, 2000))
    state = {tables.key_text(each): each for each in traffic.baseline(5)}
    kinds = set()
    for write in writes:
        text = tables.key_text(write.key)
        before = state.get(text)
        assert before != write.item
        kinds.add((before is None, write.item is None))
        if write.item is None:
            del state[text]
        else:
            state[text] = write.item
    assert kinds == {(True, False), (False, False), (False, True)}  # insert, update, delete


def test_the_processes_carry_traffic_and_write_the_truth(world: World, tmp_path: Path):
    """Traffic and replicator as the demo runs them; SIGUSR1 ends the replicator with the truth file."""
    plan, found = tmp_path / "plan.yaml", tmp_path / "truth.json"
    plan.write_text("lag: {median_ms: 20, p99_ms: 200}\nfaults: [{fault: drop, percent: 10}]\n")
    for each in traffic.baseline(1):
        world.target.put_item(TableName=world.table, Item=each)
    shared = ["--table", world.table, "--seed", "1"]
    command = [sys.executable, "-m", "pipeline.demo.replicator", *shared, "--stream-arn", world.arn]
    for side, url in (("source", world.source_url), ("target", world.target_url)):
        command += [f"--{side}-endpoint-url", url, f"--{side}-region", REGION]
    command += ["--plan", str(plan), "--truth", str(found)]
    log = tmp_path / "replicator.log"
    with process(command, log=log, cwd=ROOT) as replicator:
        eventually(lambda: '"read"' in log.read_text(), what=f"first words in {log}")
        for each in traffic.baseline(1):
            world.source.put_item(TableName=world.table, Item=each)
        where = ["--endpoint-url", world.source_url, "--region", REGION]
        traffic.main([*where, *shared, "--changes", "200", "--seconds", "1"])
        replicator.send_signal(signal.SIGUSR1)
        assert replicator.wait(120) == 0, log.read_text()
    written = json.loads(found.read_text())
    assert written["changes"] == 200 + len(traffic.baseline(1))
    assert set(written["divergent"].values()) == {"missing", "stale"}
    assert written["divergent"].keys() <= set(written["faulted"])

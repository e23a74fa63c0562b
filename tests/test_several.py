"""The commands that look, over many migrations: a line or a section each, one answer, nobody hidden."""

import contextlib
import csv
import io
import json
import re
import tracemalloc
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from pipeline import exit_codes, live_page
from pipeline.cli import main
from pipeline.commands import findings, several
from pipeline.commands.several import worst
from pipeline.config import ProcessConfig, load
from pipeline.errors import ConfigurationError, StateDamaged, StoreUnavailable
from pipeline.report.facts import fingerprint
from pipeline.store import RedisConnection, StoreView, begun_migrations
from pipeline.store.permissions import acl_rules
from tests import servers
from tests.test_damaged_state import KEYS
from tests.test_findings import put
from tests.whole_store import WholeStore, watch

SETTINGS = {"verify_on": "target", "partition_key": "pk", "partition_type": "S", "target_table": "t"}
GATE = ("--gate-scope", "changes", "--gate-objective", "50")


def caught_up(store: WholeStore) -> None:
    """As a run of some minutes leaves it: ten keys compared, all of them right."""
    now_ms = store.now_ms()
    counts: dict[Any, Any] = {"records_read": 10, "versions_published": 10, "reached": 10, "matches": 10}
    store._redis.hset(store._key("ledger"), mapping=counts)
    keys = [f"k{number}" for number in range(10)]
    store._redis.pfadd(store._key("keys-judged"), *keys)
    store._redis.pfadd(store._key("keys-sampled"), *keys)
    store._redis.hset(store._key("meta"), "watermark_ms", now_ms)
    for role in ("readers", "validators"):
        store._redis.zadd(store._key(role), {f"{role}:1": now_ms + 60_000})


class World:
    """Migrations in one Redis, and the file that names them."""

    def __init__(self, url: str, folder: Path) -> None:
        self._mark = uuid.uuid4().hex[:8]
        self.url, self.folder = url, folder
        self.stores: dict[str, WholeStore] = {}

    def name(self, short: str) -> str:
        return f"{short}-{self._mark}"

    def begun(self, short: str, *, fine: bool = True) -> WholeStore:
        store = self.stores[short] = WholeStore.begin(
            self.url, self.name(short), SETTINGS | {"target_table": self.name(short)}
        )
        if fine:
            caught_up(store)
        return store

    def options(self, *shorts: str) -> list[str]:
        file = self.folder / "migrations.yml"
        named = "".join(f"  {self.name(one)}: {{}}\n" for one in shorts)
        file.write_text(f"redis-url: {self.url}\nmigrations:\n{named}")
        return ["--config", str(file)]


@pytest.fixture
def world(valkey_url: str, tmp_path: Path) -> Iterator[World]:
    made = World(valkey_url, tmp_path)
    yield made
    for store in made.stores.values():
        store.close()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[World]:
    """On a server that holds nobody else's migrations."""
    with servers.redis_like(servers.valkey_binary(), tmp_path / "redis") as url:
        yield World(url, tmp_path)


@pytest.fixture
def four(world: World) -> list[str]:
    """One that may go, one with findings, one damaged, one that was never begun."""
    world.begun("good")
    put(world.begun("bad"), "c#1", "c#2")
    damaged = world.begun("damaged")
    damaged._redis.hset(damaged._key("ledger"), "records_read", "many")
    return world.options("good", "bad", "damaged", "never")


# --- damage ------------------------------------------------------------------------------------------------

LOOKS = (
    *(["status"], ["status", "--json"], ["gate"], ["gate", "--json"], ["report", "--format", "json"]),
    *(["report", "--format", "html"], ["findings"], ["findings", "--json"], ["findings", "--summary"]),
)


@pytest.mark.parametrize("key", [*KEYS, "meta", "samples", "findings-log"])
def test_one_whose_state_is_damaged_hides_no_other(world, key: str, capsys) -> None:
    """Each key of the first migration in turn is something else than it should be."""
    damaged = world.begun("damaged")
    put(damaged, "c#1")
    put(world.begun("bad"), "c#2")
    options = world.options("damaged", "bad")
    damaged._redis.delete(damaged._key(key))
    damaged._redis.geoadd(damaged._key(key), (1, 1, "x")) if key != "due" else damaged._redis.set(
        damaged._key(key), "x"
    )
    for command in LOOKS:
        assert main([*command, *options]) == 1, (command, capsys.readouterr().err)
        told = capsys.readouterr()
        assert world.name("bad") in told.out if command != ["findings", "--summary"] else "×" in told.out
        assert "defect of the program" not in told.err


@pytest.mark.parametrize("field", ["settings", "secret", "format", "started_ms"])
@pytest.mark.parametrize("value", ["", "x", "{}", "[]", '{"verify_on": "nowhere"}', "-1"])
def test_one_whose_beginning_is_damaged_hides_no_other(world, field: str, value: str, capsys) -> None:
    damaged = world.begun("damaged")
    put(world.begun("bad"), "c#2")
    damaged._redis.hset(damaged._key("meta"), field, value)
    for command in LOOKS:
        assert main([*command, *world.options("damaged", "bad")]) == 1, (command, capsys.readouterr().err)
        assert world.name("bad") in capsys.readouterr().out


# --- the exit code -----------------------------------------------------------------------------------------


def test_findings_are_worse_than_what_could_not_be_asked_and_that_than_fine() -> None:
    assert worst([0, 3, 1, 4, 5]) == exit_codes.FAILED
    assert worst([0, 3, 5]) == exit_codes.COULD_NOT_ASK
    assert worst([0, 0]) == exit_codes.FINE
    assert worst([]) == exit_codes.INCONCLUSIVE
    assert worst([0, 130, 1]) == exit_codes.INTERRUPTED


def test_a_cluster_of_which_no_node_answers_is_no_answer() -> None:
    """Its nodes fail one by one: of those that answer, each migration is told."""
    away, damaged = StoreUnavailable("away"), StateDamaged("odd")
    with pytest.raises(StoreUnavailable, match="away"):
        several._some({"a": away, "b": damaged})
    every: list[dict[str, Any]] = [
        {"a": damaged, "b": damaged},
        {"a": away, "b": 1},
        {"a": ConfigurationError("never")},
    ]
    for found in every:
        assert several._some(found) == found


def test_figures_say_whether_there_is_anything_that_they_are_of(world) -> None:
    world.begun("one")
    for name, begun in (("one", True), ("never", False)):
        view = watch(world.url, world.name(name))
        assert view.figures().has_begun is begun
        view.close()


# --- status ------------------------------------------------------------------------------------------------


def test_status_says_a_line_of_each_and_why_one_cannot_be_read(world, four, capsys) -> None:
    assert main(["status", *four, *GATE]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert re.split(r"  +", lines[0]) == [
        *("MIGRATION", "ANSWER", "RIGHT", "AT LEAST", "OPEN", "LAG", "READER LAG", "COVERAGE")
    ]
    told = {line.split()[0]: line for line in lines[1:5]}
    assert list(told) == [world.name(one) for one in ("good", "bad", "damaged", "never")]
    assert re.search(r"  GO  +100.0000% +\S+  0 ", told[world.name("good")])
    assert re.search(r"  NO-GO  +80.0000% +\S+  2 ", told[world.name("bad")])
    for one in ("damaged", "never"):
        assert "CANNOT BE READ  -" in told[world.name(one)]
    rest = " ".join(lines[5:])
    assert "ledger" in rest and f"there is no migration {world.name('never')} in this Redis" in rest
    assert "4 migrations: 1 NO-GO, 2 CANNOT BE READ, 1 GO" in rest


def test_status_of_many_as_json_holds_what_it_says_of_each_alone(world, four, capsys) -> None:
    assert main(["status", *four, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)["migrations"]
    assert list(told) == [world.name(one) for one in ("good", "bad", "damaged", "never")]
    assert told[world.name("bad")]["open"]["different"] == 2
    assert told[world.name("never")]["result"] == "inconclusive" and told[world.name("never")]["remedy"]
    assert main(["status", *four, "--json", "--migration", world.name("bad")]) == 1
    alone = json.loads(capsys.readouterr().out)
    assert alone.keys() == told[world.name("bad")].keys() and alone["migration"] == world.name("bad")


def test_whoever_shows_many_reads_no_findings(world, four, capsys, monkeypatch) -> None:
    """There may be 100,000 of each, and thirty migrations."""

    def refuse(*_: object) -> None:
        raise AssertionError("findings were read")

    monkeypatch.setattr(StoreView, "findings", refuse)
    monkeypatch.setattr(StoreView, "unsettled", refuse)
    for command in (["status"], ["status", "--json"], ["gate"]):
        assert main([*command, *four]) == 1
    migrations = load(["gate", *four], {}).migrations
    assert live_page.pages(ProcessConfig(redis_url=world.url), migrations)["/"]("").status == 200


# --- gate --------------------------------------------------------------------------------------------------


def test_the_gate_is_open_only_where_every_one_is(world, capsys) -> None:
    world.begun("one")
    world.begun("two")
    assert main(["gate", *world.options("one", "two"), *GATE]) == 0
    assert capsys.readouterr().out.startswith("2 migrations: GO\n")
    assert main(["gate", *world.options("one", "never", "two"), *GATE]) == 3
    assert "3 migrations: 1 CANNOT BE READ, 2 GO: TOO EARLY TO SAY" in capsys.readouterr().out
    put(world.begun("bad"), "c#1")
    assert main(["gate", *world.options("one", "never", "bad", "two"), *GATE]) == 1
    assert main(["gate", *world.options("one", "never", "bad", "two"), *GATE, "--json"]) == 1


def test_the_gate_names_the_reasons_of_those_that_are_not_go(world, four, capsys) -> None:
    assert main(["gate", *four, *GATE]) == 1
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert [line.split()[-1] for line in lines if re.match(r"  (GO|NO-GO|CANNOT BE READ|TOO)", line)] == [
        world.name(one) for one in ("bad", "damaged", "never", "good")
    ]
    said = " ".join(out.split())
    assert "failed mismatches open findings: 2 different" in said
    assert f"there is no migration {world.name('never')} in this Redis" in said
    assert "what this does not cover: - changes are read from the source's stream" in said
    assert all(len(line) <= 80 or " " not in line.strip() for line in lines)


def test_the_gate_of_many_as_json(world, four, capsys) -> None:
    main(["gate", *four, *GATE, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["result"] == "failed"
    results = {name.rpartition("-")[0]: one["result"] for name, one in told["migrations"].items()}
    assert results == {
        "good": "passed",
        "bad": "failed",
        "damaged": "inconclusive",
        "never": "inconclusive",
    }
    assert told["migrations"][world.name("bad")]["checks"]


@pytest.mark.parametrize("command", ["status", "gate", "findings", "report", "mark"])
def test_a_redis_that_is_away_is_no_answer(world, command: str, capsys) -> None:
    world.url = f"redis://127.0.0.1:{servers.free_port()}/0"
    more = ["T1"] if command == "mark" else []
    assert main([command, *more, *world.options("one", "two")]) == 5
    assert "Redis cannot be reached" in capsys.readouterr().err


# --- findings ----------------------------------------------------------------------------------------------


def test_findings_say_whose_they_are_in_every_form(world, four, capsys) -> None:
    put(world.begun("other"), "d#1", kind="missing", attributes=[])
    options = world.options("good", "bad", "never", "other")
    bad, other = world.name("bad"), world.name("other")
    assert main(["findings", *options]) == 1
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()] == ["MIGRATION", bad, bad, other, "not"]
    assert f"{world.name('never')}: its findings are not known: there is no migration" in told.err
    main(["findings", *options, "--json"])
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["migration"] for one in objects] == [bad, bad, other]
    main(["findings", *options, "--csv", "--limit", "2"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["migration"], row["kind"]) for row in rows] == [(bad, "different"), (bad, "different")]
    main(["findings", *options, "--json", "--limit", "3", "--kind", "missing"])
    assert [json.loads(line)["migration"] for line in capsys.readouterr().out.splitlines()] == [other]
    main(["findings", *options, "--closed"])
    assert capsys.readouterr().out == "no closed findings\nnot known: the findings of 1 of 4 migrations\n"


def test_causes_of_all_are_ranked_together(world, four, capsys) -> None:
    put(world.begun("other"), *(f"d#{number}" for number in range(5)), kind="missing", attributes=[])
    options = world.options("bad", "other")
    main(["findings", *options, "--by", "cause", "--json"])
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["migration"], one["findings"]) for one in objects] == [
        (world.name("other"), 5),
        (world.name("bad"), 2),
    ]
    main(["findings", *options, "--by", "cause"])
    assert capsys.readouterr().out.splitlines()[1].startswith(world.name("other"))
    main(["findings", *options, "--summary", "--limit", "1"])
    assert re.fullmatch(
        rf"{world.name('other')}: 5 × missing, .*\nand 2 findings of other causes\n", capsys.readouterr().out
    )


def test_explain_asks_which_migration(world, four, capsys) -> None:
    assert main(["findings", *four, "--explain", "abc"]) == 2
    said = capsys.readouterr().err
    assert "`findings --explain` speaks of one migration, and there are 4" in said and "--migration" in said


def test_lines_of_many_are_written_in_constant_memory(world, capfd) -> None:
    for short in ("one", "two", "three"):
        put(world.begun(short), *(f"k{number}" for number in range(20_000)))
    options = world.options("one", "two", "three")
    main(["findings", *options, "--csv", "--limit", "100"])  # whatever is loaded once
    tracemalloc.start()
    main(["findings", *options, "--csv"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(capfd.readouterr().out.splitlines()) == 60_002 + 100
    assert peak < 8_000_000


def test_findings_of_one_that_break_off_are_an_error(world, monkeypatch) -> None:
    store = world.begun("one")

    def broken(*_: object) -> None:
        raise StateDamaged("odd")

    monkeypatch.setattr(StoreView, "findings", broken)
    with pytest.raises(StateDamaged):
        findings.run(ProcessConfig(redis_url=world.url), store)


# --- mark --------------------------------------------------------------------------------------------------


def test_mark_marks_all_and_names_the_one_that_could_not_be(world, four, capsys) -> None:
    assert main(["mark", "T1", *four]) == 4
    told = capsys.readouterr()
    marked = [world.name(one) for one in ("good", "bad", "damaged")]
    assert [line.partition(":")[0] for line in told.out.splitlines()] == marked
    assert f"{world.name('never')}: not marked: there is no migration" in told.err
    assert main(["mark", "T1", *world.options("good", "bad")]) == 0
    assert f"{world.name('bad')}: warning: T1 had been marked" in capsys.readouterr().err


# --- report ------------------------------------------------------------------------------------------------


def test_a_report_of_many_is_kept_and_read_back(world, four, tmp_path: Path, capsys) -> None:
    file, page = tmp_path / "facts.json", tmp_path / "page.html"
    assert main(["report", *four, *GATE, "--format", "json", "--output", str(file)]) == 1
    kept = json.loads(file.read_text())
    said = kept.pop("sha256")
    assert said == fingerprint(kept)
    assert list(kept["migrations"]) == [world.name(one) for one in ("good", "bad", "damaged", "never")]
    for one in (kept["migrations"][world.name(short)] for short in ("good", "bad")):
        assert one["sha256"] == fingerprint(one["facts"])
    assert kept["migrations"][world.name("never")]["problem"]["problem"].startswith("there is no migration")
    assert main(["report", "--facts", str(file), "--output", str(page)]) == 1
    text = page.read_text()
    assert said in text and all(one.get("sha256", "") in text for one in kept["migrations"].values())
    assert main(["report", "--facts", str(file), "--format", "text"]) == 1
    shown = capsys.readouterr().out
    assert said in shown and "4 migrations: 1 NO-GO, 2 CANNOT BE READ, 1 GO: NO-GO" in shown
    assert main(["report", "--facts", str(file), "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"sha256": said, **kept}


def test_of_kept_facts_of_many_one_can_be_taken(world, four, tmp_path: Path, capsys) -> None:
    file = tmp_path / "facts.json"
    main(["report", *four, *GATE, "--format", "json", "--output", str(file)])
    kept = json.loads(file.read_text())["migrations"]
    good, never = world.name("good"), world.name("never")
    assert main(["report", "--facts", str(file), "--migration", good, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == kept[good]["sha256"]
    assert main(["report", "--facts", str(file), "--migration", never]) == 4
    assert f"{never} could not be read when" in capsys.readouterr().err
    assert main(["report", "--facts", str(file), "--migration", "else"]) == 4
    assert f"it is of {good}, " in capsys.readouterr().err


def test_a_report_of_many_that_was_changed_is_refused(world, four, tmp_path: Path, capsys) -> None:
    file = tmp_path / "facts.json"
    main(["report", *four, *GATE, "--format", "json", "--output", str(file)])
    kept = json.loads(file.read_text())
    for changed, said in (
        ({**kept, "result": "passed"}, "was changed"),
        ({**kept, "migrations": {}}, "was changed"),
        ({**kept, "more": 1}, "was changed"),
        ({name: one for name, one in kept.items() if name != "maker"}, "holds no facts"),
    ):
        file.write_text(json.dumps(changed))
        assert main(["report", "--facts", str(file)]) == 4
        assert said in capsys.readouterr().err
    more = {name: one for name, one in kept.items() if name != "sha256"} | {"more": 1}
    file.write_text(json.dumps({"sha256": fingerprint(more), **more}))
    assert main(["report", "--facts", str(file)]) == 4
    assert "another version" in capsys.readouterr().err


def test_keys_of_many_share_the_page(world, tmp_path: Path) -> None:
    for short in ("one", "two"):
        put(world.begun(short), *(f"k{number}" for number in range(600)))
    file = tmp_path / "facts.json"
    main(["report", *world.options("one", "two"), "--format", "json", "--output", str(file)])
    kept = json.loads(file.read_text())["migrations"].values()
    assert [(len(one["facts"]["findings"]["listed"]), one["facts"]["findings"]["total"]) for one in kept] == [
        (250, 600),
        (250, 600),
    ]


@pytest.mark.parametrize("how", [[], ["--closed"], ["--by", "cause"], ["--summary"]])
def test_what_is_not_known_is_not_taken_for_no_findings(world, how: list[str], capsys) -> None:
    world.begun("good")
    options = world.options("good", "never", "neither")
    assert main(["findings", *how, *options]) == exit_codes.INCONCLUSIVE
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "not known: the findings of 2 of 3 migrations"
    assert main(["findings", "--json", *how, *options]) == exit_codes.INCONCLUSIVE
    assert capsys.readouterr().out == ""


def test_the_gate_of_nothing_that_can_be_read_has_no_empty_heading(alone: World, capsys) -> None:
    assert main(["gate", *alone.options("never", "neither")]) == exit_codes.INCONCLUSIVE
    told = capsys.readouterr().out
    assert (
        told.startswith("2 migrations: 2 CANNOT BE READ: TOO EARLY TO SAY\n") and "does not cover" not in told
    )


# --- what the file does not name ---------------------------------------------------------------------------


def test_an_entry_that_was_taken_out_of_the_file_is_not_taken_for_go(alone: World, capsys) -> None:
    for one in ("one", "two", "out"):
        alone.begun(one)
    gone = alone.name("out")
    assert main(["gate", *alone.options("one", "two", "out"), *GATE]) == 0
    assert "does not name" not in capsys.readouterr().out
    file, kept = alone.options("one", "two"), alone.folder / "facts.json"
    assert main(["gate", *file, *GATE]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"holds 1 migration that the file does not name and nothing here speaks of: {gone};" in said
    assert main(["gate", *file, *GATE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["not_named"] == [gone]
    assert main(["report", *file, *GATE, "--format", "json", "--output", str(kept)]) == 0
    for form in ("text", "html"):
        assert main(["report", *file, "--facts", str(kept), "--format", form]) == 0
        assert gone in capsys.readouterr().out
    loaded = load(["monitor", *file], {})
    pages = live_page.pages(loaded.process, loaded.migrations)
    assert gone.encode() in pages["/"]("").body
    assert json.loads(pages["/report.json"]("").body)["not_named"] == [gone]
    for command in ("gate", "report"):  # the only one that is left
        assert main([command, *alone.options("one"), *GATE]) == 0
        assert alone.name("two") in (err := capsys.readouterr().err) and gone in err
        narrowed = ["--migration", alone.name("one")]
        assert main([command, *file, *GATE, *narrowed]) == 0
        assert capsys.readouterr().err == ""


def test_who_may_not_see_other_keys_is_told_nothing_of_them(alone: World) -> None:
    alone.begun("one")
    limited = alone.url.replace("://", "://limited:secret@")
    with redis.Redis.from_url(alone.url) as admin:
        for rules, found in ((acl_rules("ddbmm:*"), [alone.name("one")]), ("~ddbmm:* +get", [])):
            admin.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", *rules.split())
            with contextlib.closing(RedisConnection(limited, "any")) as connection:
                assert begun_migrations(connection) == found


# --- what the file names otherwise -------------------------------------------------------------------------


def test_an_entry_that_names_other_tables_now_is_not_answered_by_the_state_of_the_former(
    world, tmp_path: Path, capsys
) -> None:
    """The run has not been started with the new file yet, and all it knows is of the former table."""
    good, other = world.begun("good"), world.begun("other")
    arn = f"arn:aws:dynamodb:eu-west-1:123456789012:table/{good.migration}"
    settings = SETTINGS | {"target_table": arn, "source_table": arn}
    good._redis.hset(good._key("meta"), "settings", json.dumps(settings))
    entry, file = f"{good.migration}: {{}}", tmp_path / "migrations.yml"

    def gate(now: str, *more: str) -> tuple[int, str]:
        file.write_text(f"redis-url: {world.url}\nmigrations:\n  {now}\n  {other.migration}: {{}}\n")
        code = main(["gate", "--config", str(file), *GATE, *more])
        told = capsys.readouterr()
        return code, " ".join((told.out + told.err).split())

    assert gate(entry)[0] == 0
    assert gate(entry.replace("{}", f"{{source-table: '{arn}'}}"))[0] == 0
    for own in (
        "source-table: older",
        f"source-table: '{arn}s'",
        f"source-table: '{arn.replace('123', '321')}'",
        "target-table: new",
    ):
        changed = entry.replace("{}", f"{{{own}}}")
        code, said = gate(changed)
        assert code == 3 and "was begun with other tables (" in said, own
        code, said = gate(changed, "--migration", good.migration)
        assert code == 4 and said.startswith("dynamodb-migration-monitor: migration ")
    loaded = load(["monitor", "--config", str(file)], {})
    page = live_page.pages(loaded.process, loaded.migrations)[f"/m/{good.migration}"]
    assert (page("").status, b"other tables" in page("").body) == (503, True)
    assert main(["gate", "--redis-url", world.url, "--migration", good.migration, *GATE]) == 0


@pytest.mark.parametrize("command", ["gate", "gate --json", "report --format json", "status", "mark T1"])
def test_two_states_of_the_same_tables_are_no_go(world, tmp_path: Path, command: str, capsys) -> None:
    """Taken up after the start, when nobody compared them with each other: one table is watched by nobody."""
    names = {short: world.begun(short) for short in ("one", "again", "other-way")}
    arns = {f"{side}_table": f"arn:aws:dynamodb:{side}:123456789012:table/t" for side in ("source", "target")}
    for short, store in names.items():
        settings = SETTINGS | arns | {"verify_on": "source" if short == "other-way" else "target"}
        store._redis.hset(store._key("meta"), "settings", json.dumps(settings))
    regions = ("eu-west-1", "eu-west-2", "eu-west-3")  # as two profiles may lead to one account
    entries = "".join(
        f"  {store.migration}: {{target-table: t, source-region: {region}}}\n"
        for store, region in zip(names.values(), regions, strict=True)
    )
    file = tmp_path / "migrations.yml"
    file.write_text(f"redis-url: {world.url}\nmigrations:\n{entries}")
    code = main([*command.split(), "--config", str(file), *GATE])
    told = capsys.readouterr()
    said = f"migrations {world.name('one')} and {world.name('again')} watch the same tables"
    assert code == (4 if command.startswith("mark") else 3)
    assert said in " ".join((told.out + told.err).split())
    assert f"and {world.name('other-way')} watch" not in told.out


def test_other_migrations_are_found_on_every_page_up_to_so_many(
    alone: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that others share may have any number of keys, and must not be asked for all of them."""
    for name in ("one", "two", "three"):
        alone.begun(name)
    all_of_them = {alone.name(name) for name in ("one", "two", "three")}
    monkeypatch.setattr("pipeline.store.begun.PAGE", 1)
    with contextlib.closing(RedisConnection(alone.url, "any")) as connection:
        assert set(begun_migrations(connection)) == all_of_them
        monkeypatch.setattr("pipeline.store.begun.MOST_PAGES", 1)
        assert set(begun_migrations(connection)) < all_of_them

"""`findings --explain`: one key against real tables and a real store, as an operator asks for it."""

import json
import uuid
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from pipeline import cli
from pipeline.config import load
from pipeline.core.canonical import Digester, KeySchema
from pipeline.core.ledger import Closing
from pipeline.core.model import ABSENT, UNKNOWN, Change, Checkpoint, Counts, VerdictKind
from pipeline.report.explained import MEANINGS
from pipeline.store.messages import Commit
from tests.servers import eventually
from tests.system import REGION, Item, RealTable, System
from tests.whole_store import WholeStore

Asked = tuple[int, str]
TIMES = {"converge-within": "60s", "stable-for": "30s", "ttl-grace": "7d"}


class Desk:
    """Two real tables, the state of a migration between them, and somebody who asks about its keys."""

    def __init__(
        self,
        aws_url: str,
        redis_url: str,
        capsys: pytest.CaptureFixture[str],
        keys: dict[str, str],
        *more: str,
    ) -> None:
        name = f"explain-{uuid.uuid4().hex}"
        self.source, self.target = (RealTable(aws_url, f"{name}-{side}", keys) for side in ("old", "new"))
        self.capsys = capsys
        sides = ("--source-table", self.source.name, "--target-table", self.target.name)
        endpoints = ("--source-endpoint-url", aws_url, "--target-endpoint-url", aws_url)
        self.options = [*sides, *endpoints, *("--region", REGION, "--migration", name), *more]
        self.options += ["--redis-url", redis_url]
        migration = load(["findings", *self.options], {}).migrations[0]
        parts = [*keys.items(), ("", "")]
        settings = migration.settings() | {
            "partition_key": parts[0][0],
            "partition_type": parts[0][1],
            "sort_key": parts[1][0],
            "sort_type": parts[1][1],
        }
        self.schema = KeySchema(*parts[0], parts[1][0] or None, parts[1][1] or None)  # type: ignore[arg-type]
        self.store = WholeStore.begin(redis_url, name, settings)
        self.store.register("test:shard", Checkpoint(b""), 0)
        lease = self.store.lease("test:shard", "reader", 600_000)
        assert lease is not None
        self.lease, self.checkpoint = lease, Checkpoint(b"")

    def changed(self, item: Item, *versions: Item | bytes | None, age_ms: int = 2_000) -> bytes:
        """Publish the versions of an item's key, oldest first: an item, None = deleted, or a digest."""
        key = self.schema.compact_of(item)
        digests = [one if isinstance(one, bytes) else _digest(one) for one in versions]
        written_ms = self.store.now_ms() - age_ms
        changes = [
            Change(key, before, after, written_ms + number)
            for number, (before, after) in enumerate(pairwise(digests))
        ]
        following = Checkpoint(uuid.uuid4().hex.encode())
        self.store.publish(self.lease, self.checkpoint, following, changes, Counts(len(changes)))
        self.checkpoint = following
        watermark = {"test:shard": (following, self.store.now_ms())}
        self.store.renew("reader", [self.lease], watermark, 600_000)
        return key

    def open_finding(self, key: bytes, kind: str) -> None:
        """As a commit of a validator leaves it."""
        self.store._redis.hset(
            self.store._key("findings"),
            key,
            json.dumps({"kind": kind, "versions_behind": 1, "attributes": ["v"], "last_looked_ms": 5}),
        )
        self.store._redis.zadd(self.store._key("findings-since"), {key: self.store.now_ms()})

    def ask(self, key: str, *options: str) -> Asked:
        """The exit code, and all that is printed."""
        self.capsys.readouterr()
        code = cli.main(["findings", "--explain", key, *self.options, *options], {})
        said = self.capsys.readouterr()
        return code, said.out + said.err

    def told(self, key: str, *options: str) -> tuple[int, dict[str, Any]]:
        code, said = self.ask(key, "--json", *options)
        return code, json.loads(said)


def _digest(item: Item | None) -> bytes:
    return ABSENT if item is None else Digester().digest_item(json.loads(json.dumps(item)))


def plain(**attributes: str) -> Item:
    return {"pk": {"S": "order#17"}, **{name: {"S": value} for name, value in attributes.items()}}


KEY = '{"pk":{"S":"order#17"}}'


@pytest.fixture
def desk(moto_url: str, valkey_url: str, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    made = Desk(moto_url, valkey_url, capsys, {"pk": "S"})
    yield made
    made.store.close()


def test_a_stale_item_is_explained_in_the_words_of_the_rule(desk: Desk) -> None:
    old, new = plain(v="secret-old", same="x"), plain(v="secret-newer", same="x", more="y")
    desk.target.put(old)
    desk.source.put(new)
    desk.changed(old, None, old, new, age_ms=120_000)
    code, told = desk.told(KEY)
    assert (code, told["source"], told["target"]) == (3, "an item, content B", "an item, content A")
    assert told["answer"] == "the sides differ now; no finding is open: late or wrong is not decided"
    assert [(one["content"], one["standing"].partition(" at ")[0]) for one in told["versions"]] == [
        ("absent", "reached"),
        ("content A", "not reached, its time was over"),
        ("content B", "not reached, its time was over"),
    ]
    assert (
        "By the rule, this is progress: the target has reached version 1, and is behind." in told["concluded"]
    )
    assert [(row["path"], row["differs"]) for row in told["outline"]["rows"]] == [
        *(("more", True), ("v", True), ("pk", False), ("same", False)),
    ]
    assert told["outline"]["rows"][0]["source"] == {"type": "S", "size": 1, "unit": "byte", "value": None}
    said = desk.ask(KEY)[1]
    assert "secret" not in said
    assert "order#17" not in said
    assert desk.store.key_hash(b'"order#17"') in said


def test_a_deadline_that_follows_the_lag_is_explained_as_it_is_now(desk: Desk) -> None:
    old, new = plain(v="old"), plain(v="new")
    desk.target.put(old)
    desk.source.put(new)
    desk.changed(old, None, old, new, age_ms=120_000)
    _, told = desk.told(KEY, "--converge-within", "auto", "--converge-at-most", "5m")
    assert all("its time was over" not in one["standing"] for one in told["versions"])


def test_values_are_shown_when_asked_for_and_keys_as_keys_are(desk: Desk) -> None:
    desk.source.put(plain(v="secret"))
    values = desk.ask(KEY, "--show-values")[1]
    assert '{"S":"secret"}' in values
    assert "order#17" not in values
    assert "order#17" in desk.ask(KEY, "--show-values", "--show-keys")[1]
    assert "secret" not in desk.ask(KEY, "--show-keys")[1]


def test_a_finding_is_found_by_its_hash_and_ends_with_1(desk: Desk) -> None:
    item = plain(v="1")
    desk.source.put(item)
    key = desk.changed(item, None, item, age_ms=120_000)
    desk.open_finding(key, "missing")
    code, told = desk.told(desk.store.key_hash(key))
    assert code == 1
    assert told["answer"] == "the sides differ now; a finding is open: missing, the target lacks the item"
    assert told["finding"]["kind"] == "missing"
    desk.target.put(item)
    code, told = desk.told(desk.store.key_hash(key).upper())
    assert (code, told["answer"]) == (1, "both sides hold the same now; its finding is still open")


def test_what_the_rule_makes_of_the_reads(desk: Desk) -> None:
    item, other = plain(v="1"), plain(v="2")
    desk.source.put(item)
    desk.changed(item, None, item)
    assert "replication has its time until" in desk.told(KEY)[1]["concluded"][-1]
    desk.target.put(item)
    code, told = desk.told(KEY)
    assert (code, told["answer"]) == (0, "both sides hold the same now")
    assert (
        told["concluded"][-1]
        == "By the rule, these two reads are a match: the target shows the newest version."
    )
    desk.target.put(other)
    assert desk.told(KEY)[1]["target"] == "an item, content B"


@pytest.mark.parametrize(("held", "kind"), [(None, "missing"), (plain(v="3"), "different")])
def test_what_is_past_its_time_would_be_a_finding(desk: Desk, held: Item | None, kind: str) -> None:
    item = plain(v="1")
    desk.source.put(item)
    if held:
        desk.target.put(held)
    # 120 s old: a target that is still absent may be at the version before, whose successor had its time.
    desk.changed(item, plain(v="0"), item, age_ms=120_000)
    concluded = desk.told(KEY)[1]["concluded"][-1]
    assert concluded.endswith(f"it is a mismatch: {kind}, 1 version behind; {MEANINGS[VerdictKind(kind)]}.")


def test_a_deleted_item_that_the_target_keeps(desk: Desk) -> None:
    item = plain(v="1")
    desk.target.put(item)
    desk.changed(item, item, None, age_ms=120_000)
    code, told = desk.told(KEY)
    assert (code, told["source"]) == (3, "no item")
    assert told["concluded"][-1].endswith(
        "it is a mismatch: extra, 1 version behind; " + MEANINGS[VerdictKind.EXTRA] + "."
    )


def test_contents_that_the_stream_did_not_show(desk: Desk) -> None:
    item = plain(v="1")
    desk.source.put(item)
    desk.changed(item, UNKNOWN, UNKNOWN, age_ms=120_000)
    told = desk.told(KEY)[1]
    assert told["versions"][-1]["content"] == "not shown"
    assert (
        "The history cannot vouch: the stream did not show what a version contains." in told["concluded"][1]
    )


def test_the_other_direction(moto_url: str, valkey_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk(moto_url, valkey_url, capsys, {"pk": "S"}, "--verify-on", "source")
    desk.source.put(plain(v="1"))
    desk.target.put(plain(v="2"))
    desk.changed(plain(v="2"), None, plain(v="2"), age_ms=120_000)
    code, told = desk.told(KEY)
    assert (code, told["source"], told["target"]) == (3, "an item, content B", "an item, content A")
    assert "with --verify-on source the side that is looked at is ahead" in told["concluded"][1]
    assert told["versions"][-1]["standing"] == "not matched yet"
    desk.source.put(plain(v="2"))
    code, told = desk.told(KEY)
    assert code == 0
    assert (
        told["concluded"][-1]
        == "By the rule, these two reads are a match: the source shows the newest version."
    )
    desk.store.close()


def test_what_is_left_out_of_the_comparison_is_that_of_the_state(
    moto_url: str, valkey_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(moto_url, valkey_url, capsys, {"pk": "S"}, "--ignore-attribute", "at")
    desk.source.put(plain(v="1", at="now"))
    desk.target.put(plain(v="1", at="then"))
    desk.options = [one for one in desk.options if one not in ("--ignore-attribute", "at")]
    code, told = desk.told(KEY)
    assert (code, told["outline"]["left_out"]) == (0, ["at"])
    desk.store.close()


def test_nothing_is_known_of_a_key_that_nobody_has(desk: Desk) -> None:
    code, told = desk.told('{"pk":{"S":"order#18"}}')
    assert (code, told["versions"]) == (3, [])
    assert "nothing is known of it: is this the key you mean?" in told["answer"]
    assert "There is no history" in told["concluded"][0]
    assert "history: none" in desk.ask('{"pk":{"S":"order#18"}}')[1]


def test_equal_items_without_a_history_are_equal(desk: Desk) -> None:
    desk.source.put(plain(v="1"))
    desk.target.put(plain(v="1"))
    code, told = desk.told(KEY)
    assert (code, told["answer"]) == (0, "both sides hold the same now")


def test_a_hash_that_stands_for_nothing(desk: Desk) -> None:
    assert desk.ask("0123456789abcdef") == (
        3,
        "no key that anything is kept of has the hash 0123456789abcdef\n",
    )


MALFORMED = (
    *("", "order#17", "{", "[]", "null", '"order#17"', '{"pk":"order#17"}', '{"pk":{"N":"1"}}', '{"pk":{}}'),
    *('{"pk":{"S":""}}', '{"pk":{"S":"a"},"v":{"S":"b"}}', '{"pk":{"S":"\\ud800"}}', "\udcff", "\x1b[2J"),
    *('{"pk":{"S":1}}', "0123456789abcde", '{"pk":{"S":"a","N":"1"}}', '{"pk":null}', "[" * 100_000),
)


def test_a_malformed_key_is_refused_with_an_example(desk: Desk) -> None:
    for given in MALFORMED:
        code, said = desk.ask(given)
        assert code == 2, (given[:40], said)
        assert """write '{"pk":{"S":"…"}}', or the hash that `findings` shows""" in said


def test_a_key_that_ends_in_a_quote_is_no_empty_one(desk: Desk) -> None:
    assert desk.ask('{"pk":{"S":"a\\""}}')[0] == 3


def test_a_key_that_the_sampler_leaves_out(
    moto_url: str, valkey_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(moto_url, valkey_url, capsys, {"pk": "S"}, "--sample-rate", "0.0001")
    desk.source.put(plain(v="1"))
    code, told = desk.told(KEY)
    assert (code, told["answer"]) == (
        3,
        "the sides differ now; no finding is open: late or wrong is not decided",
    )
    assert "The sampler leaves this key out (--sample-rate 0.0001)" in told["concluded"][0]
    desk.store.close()


@pytest.mark.parametrize(
    ("keys", "item", "given"),
    [
        (
            {"a b": "S", "n": "N"},
            {"a b": {"S": 'x"%b,'}, "n": {"N": "1.50"}},
            {"a b": {"S": 'x"%b,'}, "n": {"N": "15E-1"}},
        ),
        ({"id": "N"}, {"id": {"N": "-7"}}, {"id": {"N": "-7.0"}}),
        (
            {"id": "B", "at": "B"},
            {"id": {"B": "AAE="}, "at": {"B": "/w=="}},
            {"id": {"B": "AAE="}, "at": {"B": "/w=="}},
        ),
    ],
    ids=["S and N", "N", "B and B"],
)
def test_keys_of_every_type(
    moto_url: str,
    valkey_url: str,
    capsys: pytest.CaptureFixture[str],
    keys: dict[str, str],
    item: Item,
    given: Item,
) -> None:
    desk = Desk(moto_url, valkey_url, capsys, keys)
    desk.source.put(item)
    desk.target.put({**item, "v": {"BOOL": True}})
    key = desk.changed(item, None, item)
    for one in (json.dumps(given), desk.store.key_hash(key)):
        code, told = desk.told(one, "--show-keys")
        assert (code, told["source"]) == (3, "an item, content A")
        assert desk.schema.compact_of(told["key"]) == key
        assert told["outline"]["rows"][0]["path"] == "v"
    desk.store.close()


def test_hostile_names_and_values_are_text(desk: Desk) -> None:
    names = ["\x1b[31mred", "\u202eevil", "a.b", "<b>", "😀", "n" * 5_000, "line\nbreak"]
    desk.source.put(plain(**dict.fromkeys(names, "\x1b]0;title\x07\u202e")))
    said = desk.ask(KEY, "--show-values")[1]
    assert all(one.isprintable() or one == "\n" for one in said)
    assert "\\x1b[31mred" in said or "\\u001b[31mred" in said
    assert max(map(len, said.splitlines())) < 1_000
    assert desk.told(KEY, "--show-values")[0] == 3


def test_other_tables_than_the_migration_was_begun_with_are_refused(desk: Desk) -> None:
    swapped = ["--source-table", desk.target.name, "--target-table", desk.source.name]
    code, said = desk.ask(KEY, *swapped)
    assert code == 4
    assert "was begun with other tables" in said


def test_a_table_must_be_named_and_csv_is_refused(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    at = desk.options.index("--target-table")
    without = desk.options[:at] + desk.options[at + 2 :]
    assert cli.main(["findings", "--explain", KEY, *without], {}) == 2
    assert "no table is named" in capsys.readouterr().err
    assert desk.ask(KEY, "--csv")[0] == 2


def test_a_damaged_history_is_said(desk: Desk) -> None:
    key = desk.changed(plain(v="1"), None, plain(v="1"))
    desk.store._redis.hset(desk.store._key("history"), key, b"no history")
    code, said = desk.ask(KEY)
    assert code == 5
    assert "is damaged" in said


def test_a_dead_letter_is_told(desk: Desk) -> None:
    desk.source.put(plain(v="1"))
    key = desk.changed(plain(v="1"), None, plain(v="1"))
    [entry] = desk.store.claim("v", 10, 0).entries
    desk.store.commit([Commit(entry, b"", 0, "dead_entries:poison=1", dead=True)], desk.store.now_ms())
    code, told = desk.told(KEY)
    assert code == 3
    assert "dead letters" in told["concluded"][-1]
    assert desk.ask(desk.store.key_hash(key))[0] == 3


def test_a_closed_finding_is_told(desk: Desk) -> None:
    key = desk.changed(plain(v="1"), None, plain(v="1"))
    desk.open_finding(key, "missing")
    [entry] = desk.store.claim("v", 10, 0).entries
    desk.store.commit([Commit(entry, b"", 0, "", None, Closing.RECOVERED)], desk.store.now_ms())
    code, told = desk.told(KEY)
    assert (code, told["finding"], told["closed"][0]["why"]) == (0, None, "recovered")
    assert "closed" in desk.ask(desk.store.key_hash(key))[1]


def test_a_long_history_is_cut_in_its_middle(desk: Desk) -> None:
    versions = [plain(v=str(number)) for number in range(100)]
    desk.changed(versions[0], *versions)
    told = desk.told(KEY)[1]
    assert len(told["versions"]) == 40
    assert told["versions_left_out"] == 60
    assert {one["content"] for one in told["versions"]} >= {"content A", "content CV"}


def test_explains_a_finding_of_a_running_program(tmp_path, valkey_url: str, moto_url: str) -> None:
    name = f"explained-{uuid.uuid4().hex}"
    source = RealTable(moto_url, f"{name}-old", {"pk": "S"}, "NEW_AND_OLD_IMAGES")
    target = RealTable(moto_url, f"{name}-new", {"pk": "S"})
    system = System(tmp_path, valkey_url, source, target, name)
    with system.running():
        system.write("a", "1")
        system.write("a", "2", replica="none")
        eventually(lambda: system.findings() == {"a": "stale"}, 60)
        [line] = system.command("findings", "--json").stdout.splitlines()
        tables = ("--source-table", source.name, "--region", REGION)
        urls = ("--source-endpoint-url", moto_url, "--target-endpoint-url", moto_url)
        said = system.command("findings", "--explain", json.loads(line)["key"], "--json", *tables, *urls)
        assert said.returncode == 1, said.stderr
        told = json.loads(said.stdout)
        assert told["finding"]["kind"] == "stale"
        assert told["versions"][-1]["standing"] == "not reached: the finding is about it"
        assert told["concluded"][-1].startswith(
            "By the rule, the finding stays open: stale, 1 version behind"
        )

"""The preflight: each check's ok, warn and fail, against a fake AWS and moto."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import redis

from pipeline.aws import Connection, SideConfig
from pipeline.both_tables import complete
from pipeline.commands.doctor import examine
from pipeline.commands.lines import Line, closing
from pipeline.config import MigrationConfig, ProcessConfig, load
from pipeline.store import StoreView
from tests import servers
from tests.fake import Fake
from tests.odd_answers import http
from tests.whole_store import WholeStore

UNKNOWN_OPERATION = http(400, '{"__type": "com.amazon.coral.service#UnknownOperationException"}')


@pytest.fixture
def fake() -> Iterator[Fake]:
    """Two sides of one account: `orders` with its stream, and its copy `orders-new`."""
    with Fake() as fake:
        fake.control.create_table("orders", view="NEW_AND_OLD_IMAGES", sort_key="sk", sort_type="N")
        fake.control.create_table("orders-new", sort_key="sk", sort_type="N")
        yield fake


def options(url: str) -> list[str]:
    return [
        *("--source-table", "orders", "--target-table", "orders-new", "--region", "us-east-1"),
        *("--source-endpoint-url", url, "--target-endpoint-url", url),
    ]


def loaded(*argv: str) -> tuple[ProcessConfig, MigrationConfig]:
    made = load(["doctor", *argv], {})
    return made.process, made.migrations[0]


def lines(fake: Fake, *more: str) -> dict[str, Line]:
    return {line.check: line for line in examine(*loaded(*options(fake.url), *more))}


def failed(found: dict[str, Line]) -> list[str]:
    return [check for check, line in found.items() if line.level == "fail"]


def test_a_sound_migration_has_no_failing_line(fake: Fake, valkey_url: str) -> None:
    found = lines(fake, "--redis-url", valkey_url, "--partition-key", "pk", "--sort-key", "sk")
    assert failed(found) == []
    assert found["keys"].says.endswith("partition key pk (S), sort key sk (N)")
    assert found["redis"].says.startswith("valkey 9.")
    assert "NEW_AND_OLD_IMAGES" in found["stream"].says
    assert found["TTL"].level == "ok"


def test_a_target_without_a_stream_is_no_warning_and_one_of_another_view_is(fake: Fake) -> None:
    def said(*more: str) -> Line:
        found = examine(*loaded(*options(fake.url), *more))
        [line] = [line for line in found if line.says.startswith("stream differs")]
        return line

    assert said().level == "ok" and "target off; the target needs none" in said().says
    fake.control.create_table("copy", view="KEYS_ONLY", sort_key="sk", sort_type="N")
    assert said("--target-table", "copy").level == "warn"


def test_every_line_that_is_not_ok_says_what_to_do(fake: Fake) -> None:
    fake.control.create_table("keys-only", view="KEYS_ONLY", ttl="expires")
    fake.control.skew(600)
    found = lines(fake, "--source-table", "keys-only", "--redis-url", "redis://127.0.0.1:1")
    assert failed(found)
    assert [line for line in found.values() if line.level != "ok" and not line.remedy] == []


def test_the_reader_slot_is_always_pointed_out(fake: Fake) -> None:
    assert lines(fake)["stream readers"].level == "warn"


def test_a_table_that_is_missing_is_one_line_and_hides_nothing_else(fake: Fake) -> None:
    found = lines(fake, "--target-table", "nowhere")
    assert failed(found) == ["tables"]
    assert "target" in found["tables"].says
    assert "name" in found["tables"].remedy
    assert found["redis"].level == "ok"


def test_one_table_on_both_sides_fails(fake: Fake) -> None:
    found = lines(fake, "--target-table", "orders")
    assert "same table" in found["tables"].says


def test_key_schemas_that_differ_fail(fake: Fake) -> None:
    fake.control.create_table("other", partition_type="N")
    found = lines(fake, "--target-table", "other")
    assert failed(found) == ["keys"]
    assert "pk (S), sort key sk (N)" in found["keys"].says
    assert "pk (N) alone" in found["keys"].says


def test_a_key_flag_that_contradicts_the_table_fails_and_says_the_right_one(fake: Fake) -> None:
    found = lines(fake, "--sort-key", "range")
    assert found["keys"].remedy == "write --sort-key sk"


@pytest.mark.parametrize(
    ("operation", "check"),
    [
        ("DescribeTable", "tables"),
        ("BatchGetItem", "source reads"),
        ("BatchGetItem", "target reads"),
        ("DescribeStream", "stream"),
        ("GetShardIterator", "stream reads"),
        ("GetRecords", "stream reads"),
    ],
)
def test_a_missing_permission_fails_and_names_the_operation(fake: Fake, operation: str, check: str) -> None:
    fake.control.fail("access_denied", operation, calls=None)
    found = lines(fake)
    assert found[check].level == "fail"
    assert operation in found[check].says
    assert "IAM policy" in found[check].remedy


def test_expired_credentials_fail_with_how_to_renew_them(fake: Fake) -> None:
    fake.control.fail("expired_token", calls=None)
    broken = [line for line in lines(fake).values() if line.level == "fail"]
    assert broken
    assert all("renew" in line.remedy for line in broken)


def test_a_moment_of_throttling_is_not_a_failure(fake: Fake) -> None:
    fake.control.fail("throttle", "DescribeTable", calls=1)
    assert failed(lines(fake)) == []


def test_a_disabled_stream_fails(fake: Fake) -> None:
    fake.control.disable_stream("orders")
    found = lines(fake)
    assert failed(found) == ["stream"]
    assert "NEW_AND_OLD_IMAGES" in found["stream"].remedy


def test_a_disabled_stream_that_was_asked_for_points_to_the_newer_one(fake: Fake) -> None:
    fake.control.create_table("again")
    old = fake.control.enable_stream("again")
    fake.control.disable_stream("again")
    new = fake.control.enable_stream("again")
    fake.control.create_table("again-new")
    found = lines(fake, "--source-table", "again", "--target-table", "again-new", "--stream-arn", old)
    assert new in found["stream"].remedy


def test_another_tables_stream_fails(fake: Fake) -> None:
    arn = fake.control.create_table("invoices", view="NEW_IMAGE")
    found = lines(fake, "--stream-arn", str(arn))
    assert "not a stream of the source table" in found["stream"].says


@pytest.mark.parametrize(
    ("view", "said"), [("NEW_IMAGE", "stale"), ("KEYS_ONLY", "costs a read"), ("OLD_IMAGE", "costs a read")]
)
def test_a_lesser_view_warns_of_what_it_costs(fake: Fake, view: str, said: str) -> None:
    fake.control.create_table("lesser", view=view, sort_key="sk", sort_type="N")
    line = lines(fake, "--source-table", "lesser")["stream"]
    assert line.level == "warn"
    assert said in line.says


def test_without_a_shard_nothing_is_said_of_reading_records(fake: Fake) -> None:
    [shard] = fake.control.shards("orders")
    fake.control.hide_shard("orders", shard["id"])
    found = lines(fake)
    assert "0 shards" in found["stream"].says
    assert found["stream reads"].level == "warn"
    assert "no shard yet" in found["stream reads"].says
    assert fake.control.calls("GetRecords") == 0


def test_a_stream_asked_for_at_its_table_s_endpoint_points_to_the_option(fake: Fake) -> None:
    fake.control.say("DescribeStream", UNKNOWN_OPERATION, calls=None)
    line = lines(fake)["stream"]
    assert (line.level, "--stream-endpoint-url" in line.remedy) == ("fail", True)


def test_shards_are_counted_over_all_pages(fake: Fake) -> None:
    fake.control.create_table("wide", sort_key="sk", sort_type="N")
    fake.control.enable_stream("wide", shards=130)
    assert "130 shards" in lines(fake, "--source-table", "wide")["stream"].says


def test_a_ttl_on_one_side_only_warns(fake: Fake) -> None:
    fake.control.create_table("expiring", sort_key="sk", sort_type="N", ttl="expires")
    line = lines(fake, "--target-table", "expiring")["TTL"]
    assert (line.level, "target: expires" in line.says) == ("warn", True)


@pytest.mark.parametrize(("seconds", "level"), [(0, "ok"), (10, "warn"), (-10, "warn"), (600, "fail")])
def test_the_clock_is_compared_with_aws(fake: Fake, seconds: int, level: str) -> None:
    fake.control.skew(seconds)
    assert lines(fake)["source clock"].level == level


def test_verify_on_source_says_what_it_cannot_see(fake: Fake) -> None:
    fake.control.enable_stream("orders-new")
    assert "direction" not in lines(fake)
    assert "never replicated" in lines(fake, "--verify-on", "source")["direction"].says


def test_access_is_said_after_a_call_has_succeeded_and_not_before(fake: Fake) -> None:
    """Without STS (emulators) nothing had been asked when it said ok."""
    for operation, sides in (
        ("DescribeTable", ("source", "target", "stream")),
        ("DescribeStream", ("stream",)),
    ):
        fake.control.fail("access_denied", operation, calls=None)
        found = lines(fake)
        fake.control.clear_faults()
        assert not {f"{side} access" for side in sides} & found.keys()
        assert failed(found)
    assert {f"{side} access" for side in ("source", "target", "stream")} <= lines(fake).keys()


def test_an_endpoint_where_nobody_is_gives_no_access(fake: Fake) -> None:
    found = lines(fake, "--target-endpoint-url", f"http://127.0.0.1:{servers.free_port()}")
    assert "target access" not in found or found["target access"].level == "fail"


def test_a_redis_that_forgets_is_not_simply_ok(fake: Fake, tmp_path: Path) -> None:
    with servers.redis_like(servers.valkey_binary(), tmp_path, "--appendonly", "no") as url:
        found = lines(fake, "--redis-url", url)
    assert (found["redis"].level, failed(found)) == ("warn", [])
    assert "appendonly" in found["redis"].remedy


def test_who_reads_the_stream_depends_on_whose_it_is(fake: Fake) -> None:
    assert "the replicator is one" in lines(fake)["stream readers"].says
    fake.control.enable_stream("orders-new")
    said = lines(fake, "--verify-on", "source")["stream readers"].says
    assert "the replicator reads the source's" in said


def test_it_ends_with_what_it_comes_to(fake: Fake, valkey_url: str) -> None:
    fine = examine(*loaded(*options(fake.url), "--redis-url", valkey_url))
    assert closing(fine).startswith("doctor: READY: every check passed, ")
    wrong = examine(*loaded(*options(fake.url), "--redis-url", "redis://127.0.0.1:1"))
    assert closing(wrong).startswith("doctor: NOT READY: 1 check failed")


def test_a_redis_that_may_evict_fails(fake: Fake, tmp_path: Path) -> None:
    with servers.redis_like(servers.valkey_binary(), tmp_path, "--maxmemory-policy", "allkeys-lru") as url:
        found = lines(fake, "--redis-url", url)
    assert "noeviction" in found["redis"].says + found["redis"].remedy


def test_a_redis_that_is_not_there_fails(fake: Fake) -> None:
    found = lines(fake, "--redis-url", f"redis://127.0.0.1:{servers.free_port()}")
    assert failed(found) == ["redis"]
    assert "--redis-url" in found["redis"].remedy


@pytest.mark.parametrize("command", ["pfadd", "evalsha", "hset", "xack", "multi"])
def test_a_redis_user_who_may_not_do_everything_fails(fake: Fake, store_url: str, command: str) -> None:
    """It said ok, and the reader failed in the middle of its first batch."""
    with redis.Redis.from_url(store_url) as admin:
        admin.acl_setuser("weak", enabled=True, nopass=True, keys=["*"], commands=["+@all", f"-{command}"])
        found = lines(fake, "--redis-url", store_url.replace("://", "://weak:x@"))
        admin.acl_deluser("weak")
    assert failed(found) == ["redis"]
    assert command.upper() in found["redis"].says
    assert "ACL SETUSER (its name)" in found["redis"].remedy


def test_the_estimate_counts_sampled_keys_only(fake: Fake) -> None:
    fake.control.put("orders-new", {"pk": {"S": "a"}, "sk": {"N": "1"}, "text": {"S": "x" * 5000}})
    tenth = lines(fake, "--sample-rate", "10", "--max-rcu", "50")["read units"].says
    assert "10 % of keys" in tenth
    assert "limited to 50" in tenth


def test_nothing_is_written_anywhere(fake: Fake, valkey_url: str) -> None:
    lines(fake, "--redis-url", valkey_url, "--migration", "untouched")
    assert StoreView.open(valkey_url, "untouched") is None
    reading = ("Describe", "Get", "BatchGet", "List")
    assert [operation for operation in fake.calls if not operation.startswith(reading)] == []


def create(url: str, table: str) -> None:
    boto3.client("dynamodb", endpoint_url=url).create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "B"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )


def failures(source: tuple[str, str], target: tuple[str, str]) -> list[Line]:
    """The failing lines for two (endpoint, table)."""
    argv = ["--source-endpoint-url", source[0], "--source-table", source[1], "--region", "us-east-1"]
    argv += ["--target-endpoint-url", target[0], "--target-table", target[1]]
    return [line for line in examine(*loaded(*argv)) if line.level == "fail"]


def test_one_account_number_at_two_emulators_is_not_one_table_on_both_sides(
    moto_url: str, other_moto_url: str
) -> None:
    create(moto_url, "doctored")
    create(other_moto_url, "doctored")
    assert failures((moto_url, "doctored"), (other_moto_url, "doctored")) == []


def test_dynamodb_local_passes_too(dynamodb_local_url: str) -> None:
    create(dynamodb_local_url, "doctored")
    create(dynamodb_local_url, "doctored-new")
    assert failures((dynamodb_local_url, "doctored"), (dynamodb_local_url, "doctored-new")) == []


# --- state -------------------------------------------------------------------------------------------------


def test_state_that_a_run_would_refuse_fails(fake: Fake, valkey_url: str) -> None:
    name = f"doctor-{uuid.uuid4().hex}"
    asked = ("--redis-url", valkey_url, "--migration", name)
    assert "state" not in lines(fake, *asked), "none yet"
    connection = Connection(SideConfig("source", region="us-east-1", endpoint_url=fake.url))
    _, migration = loaded(*options(fake.url), *asked)
    store = WholeStore.begin(valkey_url, name, complete(migration, connection, connection).settings())
    assert lines(fake, *asked)["state"].says.endswith("with these settings")
    changed = lines(fake, *asked, "--sample-rate", "10")
    assert failed(changed) == ["state"] and "sample_rate: 100.0 → 10.0" in changed["state"].says
    store._redis.hset(store._key("meta"), "settings", b"\xff\x00")
    assert "damaged" in lines(fake, *asked)["state"].says
    store.close()

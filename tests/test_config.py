"""The configuration: precedence, parsing, what is refused and how."""

import pickle
from pathlib import Path

import pytest

from pipeline.config import Effective, MigrationConfig, ProcessConfig, load
from pipeline.config.all_options import OPTIONS
from pipeline.config.parsers import duration_ms, duration_text
from pipeline.core.model import Side
from pipeline.errors import ConfigurationError, MonitorError, UsageError

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
SEED_COMMAND_LINE = [
    *("--source-profile", "A", "--target-profile", "B", "--stream-profile", "C", "--stream-arn", ARN),
    *("--target-table", "orders", "--partition-key", "pk", "--sort-key", "sk", "--region", "eu-west-1"),
    *("--sample-rate", "10", "--verify-on", "target", "--iterator-type", "LATEST", "--verbose"),
]
TABLE = ["--target-table", "orders"]


def migration(*argv: str, **environment: str) -> MigrationConfig:
    return load(argv, environment).migrations[0]


def process(*argv: str, **environment: str) -> ProcessConfig:
    return load(argv, environment).process


def sources(*argv: str, **environment: str) -> dict[str, Effective]:
    return {one.option.name: one for one in load(argv, environment).effective[0]}


def yaml(directory: Path, text: str) -> list[str]:
    path = directory / "monitor.yaml"
    path.write_text(text)
    return ["--config", str(path)]


def test_the_seed_tools_command_line_is_accepted_unchanged() -> None:
    assert process(*SEED_COMMAND_LINE).command == "run"
    assert process(*SEED_COMMAND_LINE).verbose
    made = migration(*SEED_COMMAND_LINE)
    assert (made.source.profile, made.target.profile, made.stream.profile) == ("A", "B", "C")
    assert (made.source_table, made.target_table, made.name) == ("orders", "orders", "orders")
    assert (made.partition_key, made.sort_key, made.stream_arn) == ("pk", "sk", ARN)
    assert {made.source.region, made.target.region, made.stream.region} == {"eu-west-1"}
    assert (made.sample_rate, made.verify_on, made.iterator_type) == (10.0, Side.TARGET, "LATEST")


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(tmp_path: Path) -> None:
    file = yaml(tmp_path, "sample-rate: 5\nworkers: 3\nin-flight: 4\n")
    made = load([*TABLE, *file, "--sample-rate", "7"], {"DDBMM_SAMPLE_RATE": "6", "DDBMM_WORKERS": "5"})
    assert made.migrations[0].sample_rate == 7.0
    assert (made.process.workers, made.process.in_flight, made.process.reader_threads) == (5, 4, 8)


def test_every_value_says_where_it_came_from(tmp_path: Path) -> None:
    file = yaml(tmp_path, "in-flight: 4\nshow-keys: true\n")
    shown = sources(*TABLE, *file, "--verbose", DDBMM_WORKERS="5")
    assert shown["in-flight"].source == file[1]
    assert shown["show-keys"].source == file[1]
    assert shown["workers"].source == "environment"
    assert shown["verbose"].source == "command line"
    assert shown["target-table"].source == "command line"
    assert shown["stable-for"].source == "default"
    assert shown["migration"].source.startswith("default")
    assert shown["migration"].value == "orders"


def test_nought_that_was_given_is_no_default() -> None:
    shown = sources(*TABLE, "--metrics-port", "0", "--max-rcu", "0")
    assert (shown["metrics-port"].source, shown["max-rcu"].source) == ("command line", "command line")


def test_a_password_is_never_shown() -> None:
    shown = sources(*TABLE, "--redis-url", "rediss://:hunter2@cache:6380/0")
    assert shown["redis-url"].value == "(set)"
    assert "hunter2" not in repr(process(*TABLE, "--redis-url", "rediss://:hunter2@cache:6380/0"))


def test_an_external_id_is_never_shown() -> None:
    given = [*TABLE, "--source-role-arn", "arn:aws:iam::1:role/r", "--source-external-id", "hunter2"]
    assert sources(*given)["source-external-id"].value == "(set)"
    assert "hunter2" not in repr(migration(*given))


def test_a_wrong_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(UsageError) as refused:
        load([*TABLE, "--redis-url", "http://:hunter2@cache"], {})
    assert "hunter2" not in str(refused.value)
    assert "rediss://" in str(refused.value)


def test_the_file_can_be_named_by_the_environment(tmp_path: Path) -> None:
    path = yaml(tmp_path, "target-table: invoices\nignore-attribute: [a, b]\n")[1]
    made = migration(DDBMM_CONFIG=path)
    assert (made.target_table, made.ignore_attributes) == ("invoices", ("a", "b"))


def test_a_list_on_the_command_line_replaces_one_from_the_file(tmp_path: Path) -> None:
    file = yaml(tmp_path, "ignore-attribute: [a, b]\n")
    assert migration(*TABLE, *file, "--ignore-attribute", "c").ignore_attributes == ("c",)


def test_a_table_s_arn_names_it_and_its_region() -> None:
    arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders"
    made = migration("--target-table", arn)
    assert (made.name, made.source_table, made.target_table) == ("orders", "orders", arn)
    assert (made.target.region, made.source.region) == ("eu-west-1", None)
    assert migration("--target-table", arn, "--target-region", "us-east-1").target.region == "us-east-1"


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        (None, "eu-west-1"),
        ("http://127.0.0.1:8000", None),  # an emulator; the profile's region signs
        ("https://vpce-1-2.dynamodb.eu-west-1.vpce.amazonaws.com", "eu-west-1"),
        ("https://gateway.example.com", None),
    ],
)
def test_an_arn_s_region_signs_where_aws_answers(endpoint: str | None, region: str | None) -> None:
    arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders"
    given = ["--target-table", arn, "--source-table", arn, "--stream-arn", f"{arn}/stream/2026"]
    at = [] if endpoint is None else ["--source-endpoint-url", endpoint, "--target-endpoint-url", endpoint]
    made = migration(*given, *at)
    assert [made.source.region, made.target.region, made.stream.region] == [region] * 3
    made = migration(*given, *at, "--region", "us-east-1")
    assert [made.source.region, made.target.region] == ["us-east-1"] * 2
    if endpoint and not region:
        assert made.stream.region == "us-east-1", "DynamoDB Local writes ddblocal into its ARNs"


def test_values_in_the_file_are_text_as_on_the_command_line(tmp_path: Path) -> None:
    """YAML 1.1 would read these as True, None and a number."""
    made = migration(*yaml(tmp_path, "target-table: on\npartition-key: no\nsort-key: 010\n"))
    assert (made.target_table, made.partition_key, made.sort_key) == ("on", "no", "010")


def test_an_empty_file_and_empty_variables_count_as_nothing(tmp_path: Path) -> None:
    made = process(*TABLE, *yaml(tmp_path, ""), DDBMM_REDIS_URL="", DDBMM_WORKERS="")
    assert (made.redis_url, made.workers) == ("", 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: b: c\n", "not valid YAML"),
        ("- sample-rate\n", "name: value"),
        ("smaple-rate: 10\n", "no option 'smaple-rate'"),
        ("source: {table: x}\n", "no option 'source'"),
        ("sample-rate: [1, 2]\n", "one value"),
        ("sample-rate: {a: 1}\n", "one value"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load([*TABLE, *yaml(tmp_path, text)], {})
    assert said in str(refused.value)
    assert "monitor.yaml" in str(refused.value)


def test_a_file_that_is_missing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load([*TABLE, "--config", "/nowhere/monitor.yaml"], {})


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--sample-rate", "0"], "percentage"),
        (["--sample-rate", "101"], "percentage"),
        (["--sample-rate", "nan"], "percentage"),
        (["--sample-rate", "ten"], "percentage"),
        (["--stable-for", "30"], "not a duration"),
        (["--stable-for", "0s"], "no time at all"),
        (["--converge-within", "5m1h"], "not a duration"),
        (["--workers", "0"], "whole number"),
        (["--max-rcu", "-1"], "number from 0"),
        (["--verify-on", "both"], "target, source"),
        (["--iterator-type", "AT_TIMESTAMP"], "LATEST, TRIM_HORIZON"),
        (["--stream-arn", "orders"], "stream's ARN"),
        (["--migration", "a{b}"], "not a name"),
        (["--metrics-port", "70000"], "whole number"),
        (["--sample", "10"], "not understood"),
        (["--source-external-id", "x"], "role"),
    ],
)
def test_a_wrong_value_is_a_usage_error_that_says_what_is_right(argv: list[str], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        load([*TABLE, *argv], {})
    assert said in str(refused.value)
    assert refused.value.exit_code == 2


def test_the_external_id_of_one_side_is_not_excused_by_the_role_of_the_other() -> None:
    with pytest.raises(UsageError, match="role"):
        load([*TABLE, "--source-external-id", "x", "--target-role-arn", "arn:aws:iam::1:role/r"], {})


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--target-table"),
        (["status"], "--migration"),
        (["monitor", "--migration", "m"], "--redis-url"),
        (["reader", "--target-table", "t"], "--redis-url"),
        (["--region", "eu-west-1", "status"], "comes first"),
        (["stauts"], "no command"),
    ],
)
def test_what_a_command_needs_and_lacks_is_said(argv: list[str], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(argv, {})
    assert said in str(refused.value)


def test_config_needs_nothing() -> None:
    assert process("config").command == "config"


def test_the_streams_access_is_that_of_its_table() -> None:
    options = [
        "--source-profile",
        "A",
        "--source-role-arn",
        "R",
        "--source-endpoint-url",
        "http://localhost:1",
    ]
    stream = migration(*TABLE, *options).stream
    assert (stream.profile, stream.role_arn, stream.endpoint_url) == ("A", "R", "http://localhost:1")


def test_with_verify_on_source_the_stream_is_the_targets() -> None:
    made = migration(*TABLE, "--verify-on", "source", "--source-profile", "A", "--target-profile", "B")
    assert (made.origin, made.stream.profile) == (Side.TARGET, "B")


def test_a_stream_profile_reads_by_itself_and_not_through_the_tables_role() -> None:
    stream = migration(*TABLE, "--source-role-arn", "R", "--stream-profile", "C").stream
    assert (stream.profile, stream.role_arn) == ("C", None)


def test_the_streams_region_is_its_arns() -> None:
    assert migration(*TABLE, "--region", "us-east-1", "--stream-arn", ARN).stream.region == "eu-west-1"


def test_a_sides_region_beats_the_common_one() -> None:
    made = migration(*TABLE, "--region", "us-east-1", "--target-region", "eu-west-1")
    assert (made.source.region, made.target.region) == ("us-east-1", "eu-west-1")


def test_a_configuration_survives_spawn() -> None:
    made = load(SEED_COMMAND_LINE, {})
    assert pickle.loads(pickle.dumps((made.process, made.migrations[0]))) == (
        made.process,
        made.migrations[0],
    )


def test_the_fingerprint_changes_with_what_changes_the_meaning_and_with_nothing_else() -> None:
    base = migration(*TABLE).settings()
    for same in (["--stable-for", "1m"], ["--workers", "9"], ["--redis-url", "redis://h"], ["--verbose"]):
        assert migration(*TABLE, *same).settings() == base
    for other in (
        ["--sample-rate", "99.99999"],
        ["--verify-on", "source"],
        ["--ignore-attribute", "a"],
        ["--source-table", "old"],
        ["--iterator-type", "TRIM_HORIZON"],
    ):
        assert migration(*TABLE, *other).settings() != base


@pytest.mark.parametrize(
    ("text", "ms"),
    [("250ms", 250), ("90s", 90_000), ("5m", 300_000), ("1h30m", 5_400_000), ("1d", 86_400_000)],
)
def test_durations_are_read_as_prometheus_does(text: str, ms: int) -> None:
    assert duration_ms(text) == ms
    assert duration_ms(duration_text(ms)) == ms


def test_what_is_not_given_is_the_default_of_the_field_that_declares_the_option() -> None:
    """A role that is started by code and one that is started by a command line mean the same."""
    made = load(["config"], {})
    assert made.process == ProcessConfig(command="config")
    assert made.migrations[0] == MigrationConfig()


def test_no_two_options_are_held_in_one_place_or_called_alike() -> None:
    for told_apart_by in ("field", "name", "variable"):
        assert len({getattr(option, told_apart_by) for option in OPTIONS}) == len(OPTIONS)


def test_every_refusal_is_ours() -> None:
    """argparse ends the process by itself; a caller could then not tell usage from the rest."""
    with pytest.raises(MonitorError):
        load(["--workers"], {})


@pytest.mark.parametrize("percent", ["99.9", "99.99", "99.95", "98.7"])
def test_the_objective_is_the_share_that_was_written(percent: str) -> None:
    made = load([*TABLE, "--gate-objective", percent], {}).migrations[0]
    assert repr(made.gate_limits().objective) == repr(float(f"0.{percent.replace('.', '')}"))

"""What was given in vain, in the wrong place or with a secret in it is refused, with the place and a hint."""

import re
from pathlib import Path

import pytest

from pipeline.config import load
from pipeline.config.all_options import OPTIONS
from pipeline.config.given import DEPLOYMENT
from pipeline.config.headings import COMMANDS
from pipeline.errors import ConfigurationError, MonitorError, UsageError
from tests.servers import ROOT

TABLE = ["--target-table", "orders"]


def refused(*argv: str, **environment: str) -> str:
    with pytest.raises(MonitorError) as said:
        load(argv, environment)
    assert said.value.exit_code in (2, 4)
    text = str(said.value)
    assert text.isprintable()
    assert "SECRET" not in text
    return text


def file(directory: Path, text: str) -> list[str]:
    path = directory / "m.yaml"
    path.write_text(text)
    return ["--config", str(path)]


# --- variables ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DDBMM_SAMPEL_RATE", "DDBMM_SAMPLE_RATE"),
        ("DDBMM_SAMPLERATE", "DDBMM_SAMPLE_RATE"),
        ("ddbmm_workers", "DDBMM_WORKERS"),
        ("DDBM_WORKERS", "DDBMM_WORKERS"),
        ("DDBMM_STREAM_REGION", "DDBMM_"),
    ],
)
def test_a_variable_that_names_no_option_is_refused(name: str, meant: str) -> None:
    said = refused(*TABLE, **{name: "SECRET"})
    assert name in said and "environment" in said and f"did you mean {meant}" in said


def test_a_variable_that_names_nothing_like_an_option_is_refused_too() -> None:
    assert "no such option" in refused(*TABLE, DDBMM_QQQQQQQQQQQ="1")


def test_variables_of_the_deployment_and_of_kubernetes_are_no_mistakes() -> None:
    links = {
        "DDBMM_SERVICE_HOST": "10.0.0.1",
        "DDBMM_METRICS_SERVICE_PORT_HTTP": "9464",
        "DDBMM_METRICS_PORT_9464_TCP_ADDR": "10.0.0.1",
        "DDBMM_PORT": "tcp://10.0.0.1:9464",
    }
    assert load(TABLE, {**dict.fromkeys(DEPLOYMENT - {"DDBMM_CONFIG"}, "1"), **links, "DDBMM_X": ""})


def test_the_deployment_s_variables_are_those_of_compose_and_the_environment_s_example() -> None:
    texts = [ROOT / "docker-compose.yml", ROOT / ".env.example", *(ROOT / "deploy" / "hosts").glob("*.yml")]
    used = {name for path in texts for name in re.findall(r"DDBMM_[A-Z_]+", path.read_text())}
    assert used - DEPLOYMENT <= {option.variable for option in OPTIONS}


def test_an_address_that_kubernetes_put_there_is_told_from_a_port() -> None:
    said = refused(*TABLE, DDBMM_METRICS_PORT="tcp://10.0.0.1:9464")
    assert "DDBMM_METRICS_PORT in the environment" in said and "enableServiceLinks" in said


@pytest.mark.parametrize("value", ['"10"', "'10'", '""'])
@pytest.mark.parametrize("name", ["DDBMM_SAMPLE_RATE", "DDBMM_SOURCE_PROFILE", "DDBMM_REDIS_URL"])
def test_quotes_that_came_along_are_blamed_on_the_environment(name: str, value: str) -> None:
    said = refused(*TABLE, **{name: value})
    assert f"{name} in the environment" in said and "quotes" in said


@pytest.mark.parametrize(
    ("argv", "environment"),
    [
        ([], {"DDBMM_IGNORE_ATTRIBUTE": "a,b"}),
        (["--ignore-attribute", "a,b"], {}),
        (["--ignore-attribute=a,b"], {}),
        (["--ignore-attribute", "c", "--ignore-attribute", "a, b"], {}),
    ],
)
def test_a_list_in_one_word_is_not_one_attribute(argv: list[str], environment: dict[str, str]) -> None:
    assert "[a, b]" in refused(*TABLE, *argv, **environment)


def test_lists_as_they_are_told_to_be_written(tmp_path: Path) -> None:
    assert load(TABLE, {"DDBMM_IGNORE_ATTRIBUTE": "[a, b]"}).migrations[0].ignore_attributes == ("a", "b")
    comma = file(tmp_path, "ignore-attribute: [a, 'b,c']\n")
    assert load([*TABLE, *comma], {}).migrations[0].ignore_attributes == ("a", "b,c")
    assert "[a, b]" in refused(*TABLE, *file(tmp_path, "ignore-attribute: a,b\n"))


# --- where a wrong value came from -------------------------------------------------------------------------


def test_a_wrong_value_names_its_place(tmp_path: Path) -> None:
    given = file(tmp_path, "# a comment\n\nsample-rate: many\n")
    assert f"{given[1]}, line 3: sample-rate: 'many'" in refused(*TABLE, *given)
    assert "DDBMM_SAMPLE_RATE in the environment: 'few'" in refused(*TABLE, *given, DDBMM_SAMPLE_RATE="few")
    assert "--sample-rate: 'none'" in refused(*TABLE, *given, "--sample-rate=none", DDBMM_SAMPLE_RATE="few")


@pytest.mark.parametrize("name", ["DDBMM_VERBOSE", "DDBMM_JSON"])
def test_a_switch_is_true_or_false(name: str) -> None:
    assert f"{name} in the environment is neither" in refused(*TABLE, **{name: "SECRET"})


def test_a_switch_of_the_file_is_true_or_false(tmp_path: Path) -> None:
    assert "line 1: verbose is neither" in refused(*TABLE, *file(tmp_path, "verbose: SECRET\n"))


# --- the file ----------------------------------------------------------------------------------------------


def test_a_name_that_stands_there_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    said = refused(*TABLE, *file(tmp_path, "workers: 2\nsample-rate: 5\nworkers: 3\n"))
    assert "line 3" in said and "line 1" in said and "workers" in said


def test_a_name_that_is_nearly_right_is_suggested_with_its_line(tmp_path: Path) -> None:
    said = refused(*TABLE, *file(tmp_path, "workers: 2\nsmaple-rate: 5\n"))
    assert "line 2" in said and "did you mean sample-rate?" in said


@pytest.mark.parametrize(
    "text",
    [
        "redis-url: redis://:SECRET@h: x\n",
        "source-external-id: 'SECRET\n",
        "source-external-id: *SECRET\n",
        "source-external-id: @SECRET\n",
        "source-external-id: !SECRET:x y: z\n",
        "source-external-id: {SECRET\n",
        'source-external-id: "\\SECRET"\n',
        "redis://:SECRET@h: {a: b}\n",
        "redis-url: {redis://:SECRET@h: b}\n",
        "redis://:SECRET@h\n",
        "? [SECRET]\n: x\n",
        "a: x\n\u0000SECRET\n",
        "%SECRET\n---\na: b\n",
    ],
)
def test_no_message_about_the_file_repeats_its_lines(tmp_path: Path, text: str) -> None:
    assert "m.yaml" in refused(*TABLE, *file(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 3_000 + "]" * 3_000,
        "a: " + "{a: " * 3_000 + "1" + "}" * 3_000,
        "".join(f"{' ' * n}a:\n" for n in range(1_000)),
        "a: &a [x]\n" + "".join(f"b{n}: [*a, *a]\n" for n in range(30)),
        "&a a: *a\n",
        "workers: " + "9" * 2_000_000,
    ],
    ids=["lists", "mappings", "blocks", "aliases", "an alias of itself", "two megabytes"],
)
def test_a_file_that_would_explode_is_refused_with_one_message(tmp_path: Path, text: str) -> None:
    assert len(refused(*TABLE, *file(tmp_path, text))) < 400


def test_a_file_without_an_end_is_refused() -> None:
    assert "too large" in refused(*TABLE, "--config", "/dev/zero")


# --- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a}:x{b", "a/../b", "a b", "x" * 256, "\x1b[2J", "arn:aws:dynamodb:r:1:table/a}b"]
)
@pytest.mark.parametrize("flag", ["--target-table", "--source-table"])
def test_a_table_s_name_is_checked_as_the_migration_s_is(flag: str, name: str) -> None:
    """The target table's is the migration's where none is given, and stands in Redis' keys between braces."""
    assert f"{flag}: " in refused(*TABLE, flag, name)


def test_the_gate_cannot_demand_what_no_interval_reaches() -> None:
    assert "can never pass" in refused(*TABLE, "--gate-objective", "100")
    assert load([*TABLE, "--gate-objective", "99.9999"], {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0s", "no time at all"),
        ("0", "write for example 0s"),
        ("5", "write for example 5s"),
        ("99999999d", "too long"),
        ("9" * 5_000 + "s", "not a duration"),
        ("", "not a duration"),
        ("-5s", "not a duration"),
        ("\u0665s", "not a duration"),
    ],
)
def test_a_duration_that_is_none_is_told_why(text: str, said: str) -> None:
    assert said in refused(*TABLE, f"--stable-for={text}")


def test_a_number_of_thousands_of_digits_is_no_defect() -> None:
    assert "whole number" in refused(*TABLE, "--workers", "9" * 5_000)


# --- secrets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        ["--redis-ur", "redis://:SECRET@h"],
        ["--redis-ur=redis://:SECRET@h"],
        ["redis://:SECRET@h"],
        [*TABLE, "redis://:SECRET@h"],
        [*TABLE, "--workers", "redis://:SECRET@h"],
        [*TABLE, "--verify-on", "redis://u:SE/CRET#SECRET@h"],
        [*TABLE, "--stream-arn", "http://u:SECRET@h"],
        [*TABLE, "--verbose=SECRET"],
        [*TABLE, "--source-endpoint-url", "http://u:SECRET@host"],
        [*TABLE, "--stream-endpoint-url", "http://host/?token=SECRET"],
        ["mark", "redis://:SECRET@h"],
        [*TABLE, "--metrics-port", "rediss://h/?password=SECRET"],
    ],
)
def test_no_message_about_the_command_line_repeats_a_secret(argv: list[str]) -> None:
    refused(*argv)


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["--redis-ur", "x"], "did you mean --redis-url?"),
        (["--sampel-rate=5"], "did you mean --sample-rate?"),
        (["statsu"], "did you mean status?"),
        (["--verify_on", "x"], "did you mean --verify-on?"),
    ],
)
def test_a_word_that_is_nearly_right_is_suggested(argv: list[str], meant: str) -> None:
    assert meant in refused(*argv)


def test_the_commands_are_named_where_none_is_near() -> None:
    with pytest.raises(UsageError, match="use one of"):
        load(["qqqq"], {})
    assert "status" in COMMANDS


def test_files_are_configuration_and_words_are_usage(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        load([*TABLE, *file(tmp_path, "a: b\na: c\n")], {})
    with pytest.raises(UsageError):
        load(TABLE, {"DDBMM_A": "1"})


# --- names in other encodings ------------------------------------------------------------------------------


def test_a_name_is_utf_8_whatever_the_locale() -> None:
    """With LC_ALL=C Python reads the command line and the environment as ASCII and keeps the other bytes."""
    as_ascii = "naïve".encode().decode("ascii", "surrogateescape")
    given = load([*TABLE, "--ignore-attribute", as_ascii], {"DDBMM_PARTITION_KEY": as_ascii}).migrations[0]
    assert (given.ignore_attributes, given.partition_key) == (("naïve",), "naïve")
    assert load([*TABLE, "--ignore-attribute", "naïve"], {}).migrations[0].ignore_attributes == ("naïve",)


@pytest.mark.parametrize(
    "flag", ["ignore-attribute", "partition-key", "sort-key", "region", "source-profile"]
)
def test_a_name_that_is_no_text_is_refused_wherever_it_stands(tmp_path: Path, flag: str) -> None:
    """It could not be written to the state: a traceback."""
    assert "is not UTF-8" in refused(*TABLE, f"--{flag}", "\udcff")
    assert "is not UTF-8" in refused(*TABLE, *file(tmp_path, f'{flag}: "\\ud800"'))


@pytest.mark.parametrize("detect", ["1e-300", "1e-15", "0", "-1", "nan", "redis://:SECRET@h"])
def test_a_share_that_is_none_is_refused(detect: str) -> None:
    assert "is not a share" in refused("plan", "--keys", "1000", "--detect", detect)


@pytest.mark.parametrize("flag", ["--since", "--cause"])
def test_a_wrong_value_is_shown_short(flag: str) -> None:
    assert len(refused("findings", *TABLE, flag, "x" * 60_000)) < 300


@pytest.mark.parametrize("place", ["https://u:SECRET@h/x", "file://SECRET@/x", "s3://k:SECRET@bucket/x"])
def test_an_export_is_no_other_url(place: str) -> None:
    assert "an export is a folder" in refused("compare", *TABLE, "--source-export", place)

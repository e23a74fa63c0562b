"""Many migrations in one file: what each one's options are, where they came from, what is refused and how."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import cli
from pipeline.config import Loaded, MigrationConfig, load
from pipeline.core.model import Side
from pipeline.errors import ConfigurationError, MonitorError, UsageError

THREE = """\
redis-url: redis://redis:6379/0
source-profile: old
target-profile: new
sample-rate: 50
migrations:
  orders: {}
  customers: {source-table: customers_v1, sample-rate: 10, target-profile: other}
  on:
    ignore-attribute: [a, b]
    verify-on: source
"""


def written(directory: Path, text: str | bytes) -> list[str]:
    path = directory / "monitor.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return ["--config", str(path)]


def of(loaded: Loaded) -> dict[str, MigrationConfig]:
    return {one.name: one for one in loaded.migrations}


def test_each_entry_is_a_migration_and_the_rest_is_the_default_of_all(tmp_path: Path) -> None:
    made = of(load(["run", *written(tmp_path, THREE)], {}))
    assert list(made) == ["orders", "customers", "on"]
    orders, customers, on = made.values()
    assert (orders.source_table, orders.target_table, orders.sample_rate) == ("orders", "orders", 50.0)
    assert (customers.source_table, customers.target_table) == ("customers_v1", "customers")
    assert (customers.sample_rate, customers.target.profile, customers.source.profile) == (
        10.0,
        "other",
        "old",
    )
    assert (on.ignore_attributes, on.verify_on, on.stream.profile) == (("a", "b"), Side.SOURCE, "new")
    assert orders.ignore_attributes == () and orders.verify_on is Side.TARGET


def test_the_command_line_and_the_environment_beat_every_entry(tmp_path: Path) -> None:
    file = written(tmp_path, THREE)
    made = of(load(["run", *file, "--sample-rate", "7"], {"DDBMM_TARGET_PROFILE": "third"}))
    assert {one.sample_rate for one in made.values()} == {7.0}
    assert {one.target.profile for one in made.values()} == {"third"}


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_migration_narrows_to_one(tmp_path: Path, by: str) -> None:
    argv = ["--migration", "customers"] if by == "flag" else []
    environment = {"DDBMM_MIGRATION": "customers"} if by == "variable" else {}
    (one,) = load(["status", *written(tmp_path, THREE), *argv], environment).migrations
    assert (one.name, one.source_table) == ("customers", "customers_v1")


def test_of_two_names_the_last_one_holds(tmp_path: Path) -> None:
    words = ["--migration=orders", "--migration", "customers"]
    (one,) = load(["gate", *written(tmp_path, THREE), *words], {}).migrations
    assert one.name == "customers"


def test_a_name_that_begins_with_a_dash_can_be_asked_for(tmp_path: Path) -> None:
    """DynamoDB takes it for a table's name."""
    file = written(tmp_path, "migrations: {-abc: {}, bcd: {}}")
    with pytest.raises(UsageError, match=r"--migration: expected one argument: write --migration=VALUE"):
        load(["gate", *file, "--migration", "-abc"], {})
    (one,) = load(["gate", *file, "--migration=-abc"], {}).migrations
    assert one.name == "-abc"


def test_one_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        load(["gate", *written(tmp_path, THREE), "--migration", "order"], {})
    assert "did you mean orders?" in str(refused.value)
    assert "orders, customers, on" in str(refused.value)


def test_config_says_where_each_value_came_from(tmp_path: Path) -> None:
    file = written(tmp_path, THREE)
    loaded = load(["config", *file, "--gate-lag", "9s"], {"DDBMM_STABLE_FOR": "4s"})
    orders, customers, _ = ({one.option.name: one for one in each} for each in loaded.effective)
    assert customers["sample-rate"].source == f"{file[1]}, line 7 (migrations: customers)"
    assert customers["target-table"].source == f"{file[1]}, line 7 (migrations: customers)"
    assert orders["sample-rate"].source == f"{file[1]}, line 4"
    assert orders["redis-url"].source == f"{file[1]}, line 1"
    assert (orders["gate-lag"].source, orders["stable-for"].source) == ("command line", "environment")
    assert orders["max-rcu"].source == "default"
    assert orders["migration"].value == "orders"


def test_config_shows_the_process_once_and_each_migration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, THREE)
    assert cli.main(["config", *file], {"PATH": ""}) == 0
    sections = {part.split("\n")[0]: part for part in capsys.readouterr().out.split("\n\n")}
    assert list(sections) == ["process", "migration orders", "migration customers", "migration on"]
    assert "redis-url" in sections["process"]
    assert "sample-rate" not in sections["process"]
    for name, percent in (("orders", "50.0"), ("customers", "10.0"), ("on", "50.0")):
        [line] = [one for one in sections[f"migration {name}"].split("\n") if "sample-rate" in one]
        assert line.split()[1] == percent
    assert cli.main(["config", "--json", *file], {"PATH": ""}) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["process"]["redis-url"]["value"] == "(set)"
    assert shown["migrations"]["customers"]["source-table"]["value"] == "customers_v1"
    assert {name: one["sample-rate"]["value"] for name, one in shown["migrations"].items()} == {
        "orders": 50.0,
        "customers": 10.0,
        "on": 50.0,
    }


@pytest.mark.parametrize("below", ["{}", "", "~", "null"])
def test_an_entry_may_hold_nothing(tmp_path: Path, below: str) -> None:
    (one,) = load(["run", *written(tmp_path, f"migrations:\n  orders: {below}\n")], {}).migrations
    assert one.target_table == "orders"


def test_what_holds_for_one_migration_alone_goes_with_migration(tmp_path: Path) -> None:
    file = written(tmp_path, THREE)
    (one,) = load(["run", *file, "--migration", "orders", "--source-table", "orders_v0"], {}).migrations
    assert one.source_table == "orders_v0"
    for words in (["--source-table", "x"], ["--target-table", "x"], ["--source-export", "x"]):
        with pytest.raises(UsageError, match="every migration"):
            load(["run", *file, *words], {})
    with pytest.raises(UsageError, match="DDBMM_TARGET_TABLE in the environment"):
        load(["run", *file], {"DDBMM_TARGET_TABLE": "x"})


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("migrations: {a: {sample-rat: 1}}", 1, "no option 'sample-rat': did you mean sample-rate"),
        ("migrations:\n  abc:\n    workers: 3", 3, "migration abc: workers is an option of the process"),
        (
            "migrations:\n  abc:\n    redis-url: redis://u:hunter2@h",
            3,
            "redis-url is an option of the process",
        ),
        ("migrations:\n  abc:\n    migration: b", 3, "an entry's name is its migration's"),
        ("migrations:\n  abc: 7", 2, "migration abc is no mapping"),
        ("migrations:\n  abc: [sample-rate]", 2, "migration abc is no mapping"),
        ("migrations: [abc, bcd]", 1, "no mapping of names"),
        ("migrations: abc", 1, "no mapping of names"),
        ("migrations:", 1, "no mapping of names"),
        ("migrations: {}", 1, "names no migration"),
        ("migrations:\n  abc: {}\n  abc: {}", 3, "twice"),
        ("migrations:\n  abc: {}\nmigrations:\n  bcd: {}", 3, "twice"),
        ("migrations:\n  '': {}", 2, "without a name"),
        ("migrations:\n  a b: {}", 2, "is not a name"),
        ("migrations:\n  a{b}: {}", 2, "is not a name"),
        ("migrations:\n  ..: {}", 2, "is not a name"),
        ("migrations:\n  abc:\n    sample-rate: [1, 2]", 3, "migration abc: sample-rate takes one value"),
        ("migrations:\n  abc:\n    sample-rate: {b: 1}", 3, "migration abc: sample-rate takes one value"),
        ("migrations:\n  abc:\n    sample-rate:", 3, "migration abc: sample-rate has no value"),
        (
            "migrations:\n  abc:\n    ignore-attribute: a,b",
            3,
            "migration abc: ignore-attribute holds a comma",
        ),
        ("migrations:\n  abc:\n    migrations: {}", 3, "migration abc: there is no option 'migrations'"),
        ("target-table: t\nmigrations:\n  abc: {}", 1, "target-table stands beside"),
        ("source-table: t\nmigrations:\n  abc: {}", 1, "source-table stands beside"),
        ("migrations:\n  abc: {}\nmigration: abc", 3, "migration stands beside"),
        ("migration: {abc: {}}", 1, "migration takes one value"),
        ("migratons: {abc: {}}", 1, "did you mean migrations?"),
        ("migrations:\n  abc: {}\n  bcd: {target-table: abc, source-table: abc}", 3, "the same tables"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    file = written(tmp_path, f"{text}\n")
    with pytest.raises(ConfigurationError) as refused:
        load(["run", *file], {})
    assert said in str(refused.value)
    assert f"{file[1]}, line {line}: " in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert refused.value.exit_code == 4


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("sample-rate: 0", "sample-rate of migration abc: '0' is not a percentage"),
        ("stable-for: 9", "stable-for of migration abc: '9' is not a duration"),
        ("source-external-id: x", "migration abc: an external id serves a role"),
        ("{converge-within: auto, verify-on: source}", "migration abc: --converge-within auto cannot"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line_and_migration(tmp_path: Path, own: str, said: str) -> None:
    file = written(tmp_path, f"sample-rate: 5\nmigrations:\n  fine: {{}}\n  abc:\n    {own}\n")
    with pytest.raises(UsageError) as refused:
        load(["run", *file], {})
    assert said in str(refused.value)
    assert f"{file[1]}, line " in str(refused.value)


def test_a_wrong_value_of_all_is_refused_with_its_own_line(tmp_path: Path) -> None:
    file = written(tmp_path, "migrations:\n  abc: {}\nsample-rate: 0\n")
    with pytest.raises(MonitorError, match="line 3: sample-rate: "):
        load(["run", *file], {})


@pytest.mark.parametrize("command", ["plan --keys 10", "findings --explain abc"])
def test_what_speaks_of_one_asks_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    file = written(tmp_path, THREE.replace("orders: {}", "orders: {max-rcu: 7}"))
    assert cli.main([*command.split(), *file], {"PATH": ""}) == 2
    said = capsys.readouterr().err
    assert "--migration" in said and "orders, customers, on" in said


# --- hostile files ------------------------------------------------------------------------------------------

LONG = "x" * 65_536


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('migrations:\n  "a\\nb": {}\n', r"'a\nb' is not a name"),
        ("migrations:\n  \U0001f4a3: {}\n", "is not a name"),
        (f"migrations:\n  {LONG}: {{}}\n", "not valid YAML"),
        (f'migrations:\n  ? "{LONG}"\n  : {{}}\n', "is not a name"),
        ("migrations:\n  abc: &x {}\n  bcd: *x\n", "line 3: aliases"),
        ("migrations: &x {abc: *x}\n", "aliases"),
        ("migrations:\n\tabc: {}\n", "line 2"),
        ("migrations:\n  ? [abc]\n  : {}\n", "line 2: an option without a name"),
        ("migrations:\n  ? {abc: 1}\n  : {}\n", "line 2: an option without a name"),
        ("migrations:\n  <<: {}\n", "line 2: merge keys"),
        ("migrations:\n  abc:\n    <<: {sample-rate: 1}\n", "line 3: merge keys"),
        ("migrations:\n  '<<': {}\n", "'<<' is not a name"),
        ("migrations:\n  abc:\n    '': 1\n", "line 3: an option without a name"),
        ("migrations: {abc: {}}\n---\nmigrations: {bcd: {}}\n", "line 2: a second document"),
        ("migrations: " + "{a: " * 40 + "}" * 40 + "\n", "nested too deep"),
        ("migrations:\n  abc: {sample-rate: 1, sample-rate: 2}\n", "line 2: sample-rate stands there twice"),
        ("migrations:\n  redis://u:hunter2@h: {}\n", "is not a name"),
        ("migrations:\n  abc:\n    redis://u:hunter2@h: 1\n", "there is no option"),
        ("migrations:\n  abc: redis://u:hunter2@h\n", "is no mapping"),
        ("migrations:\n  abc:\n    source-endpoint-url: http://u:hunter2@h\n", "holds no user"),
    ],
)
def test_a_hostile_file_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    assert cli.main(["status", *written(tmp_path, text)], {"PATH": ""}) in (2, 4)
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and "monitor.yaml" in line
    assert line.isprintable() and len(line) < 2_100 and "hunter2" not in line


@pytest.mark.parametrize("make", [str.encode, lambda text: text.replace("\n", "\r\n").encode(), "utf-8-sig"])
def test_line_ends_of_windows_and_a_byte_order_mark_change_nothing(tmp_path: Path, make: object) -> None:
    content = THREE.encode(make) if isinstance(make, str) else make(THREE)  # type: ignore[operator]
    assert load(["run", *written(tmp_path, content)], {}).migrations == (
        load(["run", *written(tmp_path, THREE)], {}).migrations
    )


#: Options that a file may hold outside of entries and in them, and values that differ.
OVERRIDES: dict[str, list[Any]] = {
    "sample-rate": ["1", "2.5", "100"],
    "stable-for": ["1s", "2m", "3h"],
    "source-profile": ["on", "123", "a: b #c"],
    "ignore-attribute": [["a"], ["a", "b c"], ["null", "7"]],
    "verify-on": ["source", "target"],
}
NAMES = st.from_regex(r"[A-Za-z0-9_.-]{3,20}", fullmatch=True)
GIVEN: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(of) for name, of in OVERRIDES.items()}
)


def words_of(given: dict[str, Any]) -> list[str]:
    return [
        word
        for name, value in given.items()
        for each in (value if isinstance(value, list) else [value])
        for word in (f"--{name}", each)
    ]


@settings(max_examples=100, deadline=None)
@given(
    of_all=GIVEN,
    entries=st.dictionaries(NAMES, GIVEN, min_size=1, max_size=4),
    words=GIVEN,
    flow=st.sampled_from([True, False, None]),
)
def test_what_is_nearer_wins(
    tmp_path_factory: pytest.TempPathFactory,
    of_all: dict[str, Any],
    entries: dict[str, dict[str, Any]],
    words: dict[str, Any],
    flow: bool | None,
) -> None:
    directory = tmp_path_factory.mktemp("nearer")
    held = json.loads(json.dumps({**of_all, "migrations": entries}))  # or it dumps aliases
    text = yaml.safe_dump(held, default_flow_style=flow, sort_keys=False)
    made = of(load(["status", *written(directory, text), *words_of(words)], {}))
    assert list(made) == list(entries)
    for name, entry in entries.items():
        alone = words_of({**of_all, **entry, **words})
        (plain,) = load(["status", f"--target-table={name}", *alone], {}).migrations
        assert made[name] == plain


@settings(max_examples=300, deadline=None)
@given(below=st.text(max_size=60) | st.text(alphabet="ab:{}[]&*!|>'\"%@`#-? \n\t,", max_size=60))
def test_whatever_stands_there_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, below: str
) -> None:
    content = f"sample-rate: 5\nmigrations:\n  abc: {below}\n".encode("utf-8", "surrogatepass")
    path = tmp_path_factory.mktemp("any") / "monitor.yaml"
    path.write_bytes(content)
    refused, made = "", tuple[MigrationConfig, ...]()
    try:
        made = load(["status", "--config", str(path)], {}).migrations
    except MonitorError as error:
        refused = str(error)
    assert str(path) in refused or (made and all(one.name and one.target_table for one in made))

"""`config --write` and `--tables`: the file that is made of both accounts' tables, and what it is made of."""

import re
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.aws import Connection, table_names
from pipeline.config import Loaded, load, making
from pipeline.config.all_options import OPTIONS
from pipeline.core.model import Side, SideConfig
from pipeline.errors import MalformedResponse, UsageError
from tests.fake import Fake
from tests.odd_answers import http
from tests.test_cli import MODULE, command

BOTH = ["123", "a.b", "on", "orders", "prod-1", "prod-2", "_x-y"]


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[Fake, Fake]]:
    """Two accounts. `odd-keys` has other keys at the target, `still` no stream."""
    with Fake() as source, Fake(account="210987654321") as target:
        for name in [*BOTH, "odd-keys"]:
            source.control.create_table(name, view="NEW_AND_OLD_IMAGES")
            target.control.create_table(name, sort_key="sk" if name == "odd-keys" else None)
        for fake in (source, target):
            fake.control.create_table("still")
        source.control.create_table("prod-old", view="KEYS_ONLY")
        target.control.create_table("prod-new")
        source.world.list_tables_page = 2
        yield source, target


@pytest.fixture
def access(sides: tuple[Fake, Fake]) -> list[str]:
    source, target = sides
    return [
        *("--region", "us-east-1", "--source-endpoint-url", source.url),
        *("--target-endpoint-url", target.url),
    ]


def written(path: Path, *more: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return command("config", "--write", str(path), *more, **environment)


def test_the_file_names_every_table_of_both_sides_and_loads(access: list[str], tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    done = written(path, *access, "--redis-url", "redis://cache:6379/0", "--sample-rate", "10")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{path}: 9 migrations")
    assert done.stderr.splitlines() == ["on the source only: prod-old", "on the target only: prod-new"]
    loaded = load(["status", "--config", str(path)], {})
    assert [one.name for one in loaded.migrations] == sorted([*BOTH, "odd-keys", "still"])
    assert {one.sample_rate for one in loaded.migrations} == {10.0}
    assert loaded.process.redis_url == "redis://cache:6379/0"
    text = path.read_text()
    assert '"on": {}' in text and '"123": {}' in text and "  a.b: {}" in text
    assert "# on the source only: prod-old" in text and "# on the target only: prod-new" in text
    assert list(yaml.safe_load(text)["migrations"]) == [one.name for one in loaded.migrations]


def test_it_is_printed_too(access: list[str], tmp_path: Path) -> None:
    """A container's files are nobody's: `config --write - > many.yaml`."""
    done = command("config", "--write", "-", *access, "--tables", "prod-?")
    assert done.returncode == 0
    path = tmp_path / "many.yaml"
    path.write_text(done.stdout)
    assert [one.name for one in load(["status", "--config", str(path)], {}).migrations] == [
        "prod-1",
        "prod-2",
    ]


def test_what_the_file_of_defaults_holds_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is called: a value's origin is no name."""
    monkeypatch.chdir(tmp_path)
    Path("defaults.yml").write_text("sample-rate: 7\nworkers: 3\n")
    loaded = load(
        ["config", "--write", "f", "--config", "defaults.yml", "--stable-for", "3s"], {"DDBMM_REGION": "r"}
    )
    text = making.file_text(loaded, ["orders"], {}, "Made.")
    given = ["region: r", "sample-rate: 7", "stable-for: 3s", "workers: 3"]
    assert text.splitlines() == ["# Made.", *given, "migrations:", "  orders: {}"]


def test_a_pattern_narrows_it(access: list[str], tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    assert written(path, *access, "--tables", "prod-[12]").returncode == 0
    assert [one.name for one in load(["status", "--config", str(path)], {}).migrations] == [
        "prod-1",
        "prod-2",
    ]


def test_no_secret_is_written(access: list[str], tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    given = ["--redis-url", "redis://user:hunter2@cache", "--source-role-arn", "arn:aws:iam::1:role/r"]
    assert written(path, *access, *given, DDBMM_SOURCE_EXTERNAL_ID="hunter3", AWS_PROFILE="").returncode == 4
    given[-2:] = []
    assert written(path, *access, *given).returncode == 0
    text = path.read_text()
    assert "hunter" not in text
    assert "# redis-url: left out" in text and "DDBMM_REDIS_URL" in text


def test_a_file_that_is_there_stays_as_it_is(access: list[str], tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    path.write_text("mine")
    done = written(path, *access)
    assert (done.returncode, path.read_text()) == (4, "mine")
    assert "already" in done.stderr
    link = tmp_path / "link.yaml"
    link.symlink_to(tmp_path / "nowhere")
    assert written(link, *access).returncode == 4
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["x" * 300, "none/there.yaml", ""])
def test_a_file_that_cannot_be_made_is_refused(access: list[str], tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [*MODULE, "config", f"--write={name}", *access],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr and "--write" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_who_may_not_list_the_tables_is_told_so(
    sides: tuple[Fake, Fake], access: list[str], tmp_path: Path
) -> None:
    source, _ = sides
    source.control.fail("access_denied", "ListTables", calls=None)
    try:
        done = written(tmp_path / "many.yaml", *access)
        doctor = command("doctor", "--tables", "*", *access)
    finally:
        source.control.clear_faults()
    assert done.returncode == 4 and "ListTables" in done.stderr
    assert doctor.returncode == 4 and "fail tables: source: ListTables" in doctor.stdout
    source.control.fail("throttle", "ListTables", calls=2)
    assert command("doctor", "--tables", "prod-?", *access).returncode == 0


def test_nothing_that_matches_writes_nothing(access: list[str], tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    done = written(path, *access, "--tables", "prod-???")
    assert done.returncode == 4
    assert done.stderr.splitlines()[:2] == ["on the source only: prod-old", "on the target only: prod-new"]
    assert "no table whose name matches prod-??? is on both sides" in done.stderr
    assert not path.exists()


def test_one_account_on_both_sides_is_refused(sides: tuple[Fake, Fake], tmp_path: Path) -> None:
    path, url = tmp_path / "many.yaml", sides[0].url
    same = ["--region", "us-east-1", "--source-endpoint-url", url, "--target-endpoint-url", url]
    done = written(path, *same)
    assert done.returncode == 4 and "are the same table" in done.stderr
    assert not path.exists()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["run", "--tables", "a*", "--target-table", "t"], "says nothing to `run`"),
        (["doctor", "--write", "f"], "says nothing to `doctor`"),
        (["doctor", "--tables", "a*", "--target-table", "t"], "--target-table is of one"),
        (["config", "--write", "f", "--migration", "m"], "--migration is of one"),
        (["doctor", "--tables", "a b"], "can match no table's name"),
        (["doctor", "--tables", "a[b"], "can match no table's name"),
        (["doctor", "--tables", ""], "can match no table's name"),
        (["doctor", "--tables", "ä*"], "can match no table's name"),
    ],
)
def test_what_goes_with_nothing_is_refused(argv: list[str], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(argv, {})
    assert said in str(refused.value)


def test_a_file_that_names_migrations_is_not_made_anew_from(access: list[str], tmp_path: Path) -> None:
    old = tmp_path / "old.yaml"
    old.write_text("migrations: {orders: {}}\n")
    done = written(tmp_path / "new.yaml", *access, "--config", str(old))
    assert done.returncode == 2 and "names its migrations already" in done.stderr


def test_doctor_looks_at_every_pair(access: list[str]) -> None:
    done = command("doctor", *access, "--tables", "*")
    assert done.returncode == 4
    lines = {line.split(": ")[0]: line for line in done.stdout.splitlines()}
    assert "9 tables on both sides, 1 on the source only, 1 on the target only" in lines["ok   tables"]
    assert "fail table odd-keys: the key schemas differ" in done.stdout
    assert "fail table still: source table still has no enabled stream" in done.stdout
    assert "partition key pk (S)" in lines["warn table on"]  # the fake answers neither backups nor tags
    assert "warn table prod-old: on the source only" in done.stdout
    assert "warn table prod-new: on the target only" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("doctor: NOT READY: 2 checks failed")
    assert command("doctor", *access, "--tables", "prod-?").returncode == 0


def test_doctor_says_which_tables_the_file_forgets(access: list[str], tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    path.write_text("migrations:\n  prod-1: {}\n  prod-new: {source-table: prod-old}\n")
    said = command("doctor", *access, "--tables", "prod-*", "--config", str(path)).stdout
    assert "warn table prod-2: no migration of the file watches it" in said
    assert "prod-1: no migration" not in said
    assert "ok   table prod-old: on the source only, where migration prod-new watches it" in said
    assert "ok   table prod-new: on the target only, where migration prod-new watches it" in said


def test_doctor_without_a_match_fails(access: list[str]) -> None:
    done = command("doctor", *access, "--tables", "nothing-*")
    assert done.returncode == 4 and "0 tables on both sides" in done.stdout


def test_every_page_is_listed_once(sides: tuple[Fake, Fake]) -> None:
    connection = Connection(SideConfig("source", region="us-east-1", endpoint_url=sides[0].url))
    assert table_names(connection).all() == sorted(sides[0].world.tables)


def test_a_name_that_no_table_has_is_no_answer() -> None:
    with Fake() as fake:
        fake.control.say("ListTables", http(200, '{"TableNames": ["orders", "x\\n  injected: {}"]}'))
        connection = Connection(SideConfig("source", region="us-east-1", endpoint_url=fake.url))
        with pytest.raises(MalformedResponse, match="no table's name"):
            table_names(connection).all()


def test_moto_lists_its_tables_alike(moto_url: str) -> None:
    """An independent implementation."""
    client = boto3.client("dynamodb", endpoint_url=moto_url, region_name="us-east-1")
    names = {f"listed-{number:03}-{uuid.uuid4().hex[:6]}" for number in range(103)}
    for name in names:
        client.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "N"}],
            BillingMode="PAY_PER_REQUEST",
        )
    listed = table_names(Connection(SideConfig("source", region="us-east-1", endpoint_url=moto_url))).all()
    assert names <= set(listed) and len(listed) == len(set(listed))


# --- the text -----------------------------------------------------------------------------------------------

TEXTS = st.text(min_size=1, max_size=20).filter(lambda text: "," not in text and _is_utf8(text))
#: Option → texts that it takes.
TAKEN: dict[str, st.SearchStrategy[str]] = {
    "region": TEXTS,
    "source-profile": TEXTS,
    "target-profile": TEXTS,
    "stream-profile": TEXTS,
    "source-endpoint-url": st.sampled_from(["http://localhost:8000", "https://h.example.com/x"]),
    "verify-on": st.sampled_from(["source", "target"]),
    "iterator-type": st.sampled_from(["LATEST", "TRIM_HORIZON"]),
    "sample-rate": st.floats(1e-6, 100).map(str),
    "partition-key": TEXTS,
    "converge-within": st.integers(1, 10**9).map("{}ms".format),
    "stable-for": st.integers(1, 10**6).map("{}s".format),
    "max-rcu": st.floats(0, 1e9).map(str),
    "max-backlog": st.integers(1, 10**8).map(str),
    "gate-objective": st.floats(0.001, 99.9).map(str),
    "gate-scope": st.sampled_from(["whole-table", "changes"]),
    "segments": st.integers(1, 1000).map(str),
    "redis-url": st.sampled_from(["redis://cache", "unix:///run/redis.sock", "redis+cluster://a:1,b:2"]),
    "workers": st.integers(1, 256).map(str),
    "state-dir": TEXTS.filter(lambda text: "\0" not in text),
    "log-format": st.sampled_from(["console", "json"]),
    "metrics-port": st.integers(0, 65535).map(str),
}


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeError:
        return False
    return True


NAMES = st.one_of(
    st.from_regex(re.compile(r"[A-Za-z0-9_.-]{3,255}", re.ASCII), fullmatch=True),
    st.sampled_from(
        ["on", "off", "yes", "null", "123", "1e5", "0x1F", "a.b", "---", "...", ".inf", "1_0", "2026-01-01"]
    ),
)


@settings(max_examples=150, deadline=None)
@given(
    options=st.fixed_dictionaries({}, optional=TAKEN),
    ignored=st.lists(TEXTS, max_size=3),
    switched=st.booleans(),
    names=st.lists(NAMES, min_size=1, max_size=5, unique=True),
)
def test_what_is_written_is_read_back_unchanged(
    tmp_path_factory: pytest.TempPathFactory,
    options: dict[str, str],
    ignored: list[str],
    switched: bool,
    names: list[str],
) -> None:
    argv = [f"--{name}={value}" for name, value in options.items()]
    argv += [f"--ignore-attribute={one}" for one in ignored] + ["--show-keys"] * switched
    asked = load(["config", "--write", "f", *argv], {})
    path = tmp_path_factory.mktemp("written") / "many.yaml"
    path.write_text(making.file_text(asked, names, {Side.SOURCE: names, Side.TARGET: []}, "Made."), "utf-8")
    read = load(["config", "--config", str(path)], {})
    assert read.process == replace(asked.process, write=None, of_file=True)
    (of_all,) = asked.migrations
    assert read.migrations == tuple(
        replace(of_all, name=name, target_table=name, source_table=name) for name in names
    )
    others: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    assert list(others["migrations"]) == names


def test_every_option_that_is_a_setting_is_written(tmp_path: Path) -> None:
    """And those that are asked of one command are not."""
    loaded: Loaded = load(["config", "--write", "f", "--json", "--limit", "3", "--verbose"], {})
    text = making.file_text(loaded, ["orders"], {}, "Made.")
    assert text == "# Made.\nverbose: true\nmigrations:\n  orders: {}\n"
    assert {one.name for one in OPTIONS} >= set(TAKEN)

"""The program from outside, as a subprocess: commands, messages, exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import __version__
from pipeline.config.all_options import OPTIONS
from pipeline.config.headings import COMMANDS
from tests import servers
from tests.fake import Fake
from tests.odd_answers import http

Done = subprocess.CompletedProcess[str]
MODULE = [sys.executable, "-m", "pipeline.cli"]


def command(*argv: str, **environment: str) -> Done:
    return subprocess.run(
        [*MODULE, *argv],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def message(done: Done) -> str:
    """The one line that a refusal is; log lines and tracebacks would make it more."""
    assert done.stdout == ""
    said = done.stderr.splitlines()
    refusals = [line for line in said if line.startswith("dynamodb-migration-monitor: ")]
    assert len(refusals) == 1, done.stderr
    assert not any("Traceback" in line or "[error" in line for line in said), done.stderr
    return refusals[0]


@pytest.fixture(scope="module")
def fake() -> Iterator[Fake]:
    with Fake() as fake:
        fake.control.create_table("orders", view="NEW_AND_OLD_IMAGES")
        fake.control.create_table("orders-new")
        yield fake


@pytest.fixture
def migration(fake: Fake, valkey_url: str) -> list[str]:
    """Options of a migration that works; its name is new each time."""
    return [
        *("--source-table", "orders", "--target-table", "orders-new", "--region", "us-east-1"),
        *("--source-endpoint-url", fake.url, "--target-endpoint-url", fake.url, "--redis-url", valkey_url),
        *("--migration", f"cli-{uuid.uuid4().hex}", "--metrics-port", "0", "--workers", "1"),
    ]


# --- help and configuration --------------------------------------------------------------------------------


def test_help_names_every_command_and_option() -> None:
    done = command("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)
    for option in OPTIONS:
        assert option.flag in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    assert command(name, "--help").returncode == 0


def test_help_does_not_load_the_aws_sdk() -> None:
    code = "import sys; from pipeline.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'boto3', 'redis', 'prometheus_client', 'moto'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_version_is_the_packages() -> None:
    assert command("--version").stdout.strip().endswith(__version__)


def test_config_shows_values_and_sources_and_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text("stable-for: 90s\n")
    given = ["--config", str(file), "--sample-rate", "5", "--redis-url", "redis://:hunter2@h:1/0"]
    done = command("config", *given, "--json", DDBMM_WORKERS="3")
    assert done.returncode == 0
    shown = json.loads(done.stdout)
    assert shown["stable-for"] == {"value": "1m30s", "source": str(file)}
    assert shown["sample-rate"] == {"value": 5.0, "source": "command line"}
    assert shown["workers"] == {"value": 3, "source": "environment"}
    assert shown["converge-within"] == {"value": "1m", "source": "default"}
    assert "hunter2" not in done.stdout + command("config", *given).stdout


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["--sample-rate", "0"], 2, "percentage"),
        (["--sample-rate", "1000"], 2, "percentage"),
        (["--no-such-flag"], 2, "--no-such-flag"),
        (["--config", "/nowhere.yaml"], 4, "/nowhere.yaml"),
        (["--target-table", "nowhere"], 4, "target: DescribeTable"),
        (["--source-table", "nowhere"], 4, "source: DescribeTable"),
        (["--target-table", "orders"], 4, "same table"),
        (["--source-table", "orders-new", "--target-table", "orders"], 4, "no enabled stream"),
        (["--partition-key", "id"], 4, "--partition-key pk"),
        (["--sort-key", "sk"], 4, "leave it out"),
        (["--redis-url", "redis://127.0.0.1:1"], 4, "--redis-url"),
        (["--redis-url", "127.0.0.1:6379"], 2, "redis://"),
        (["--source-profile", "nobody"], 4, "profile"),
        (["--source-endpoint-url", "http://127.0.0.1:1"], 4, "endpoint"),
    ],
)
def test_bad_input_gets_one_message_with_the_remedy_and_its_code(
    migration: list[str], argv: list[str], code: int, said: str
) -> None:
    done = command("run", *migration, *argv)
    assert (done.returncode, said in message(done)) == (code, True), done.stderr


def test_a_malformed_file_is_refused(migration: list[str], tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("sample-rate: [1\n")
    done = command("run", *migration, "--config", str(tmp_path / "m.yaml"))
    assert (done.returncode, "not valid YAML" in message(done)) == (4, True)


@pytest.mark.parametrize(
    ("role", "operation"),
    [
        ("run", "DescribeStream"),
        ("run", "BatchGetItem"),
        ("run", "GetRecords"),
        ("reader", "GetRecords"),
        ("validator", "BatchGetItem"),
    ],
)
def test_a_missing_permission_is_refused(migration: list[str], fake: Fake, role: str, operation: str) -> None:
    fake.control.fail("access_denied", operation, calls=None)
    try:
        done = command(role, *migration)
    finally:
        fake.control.clear_faults()
    assert done.returncode == 4
    assert operation in message(done)
    assert "IAM" in message(done)


def test_a_table_that_is_busy_now_is_no_reason_not_to_start(migration: list[str], fake: Fake) -> None:
    """A cutover is just when tables are throttled; being told to slow down proves the permission."""
    fake.control.fail("throttle", "BatchGetItem", calls=None)
    fake.control.fail("throttle", "GetRecords", calls=None)
    try:
        done = command("run", *migration, "--dry-run")
    finally:
        fake.control.clear_faults()
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("role", ["run", "reader", "validator"])
def test_a_page_in_aws_s_place_is_refused_with_a_remedy(migration: list[str], fake: Fake, role: str) -> None:
    page = http(403, "<!DOCTYPE html><h1>Sign in</h1>", "text/html")
    fake.control.say("DescribeTable", page, calls=None)
    try:
        done = command(role, *migration)
    finally:
        fake.control.clear_faults()
    assert done.returncode == 4
    assert "source: DescribeTable: HTTP 403" in message(done)
    assert "proxy" in message(done)
    assert "Sign in" not in message(done)


@pytest.mark.parametrize(
    "config",
    ["credential_process = /bin/false", "role_arn = arn:aws:iam::1:role/r\nsource_profile = nobody"],
    ids=["a sign-in that has run out", "half a profile"],
)
def test_credentials_that_are_not_to_be_had_are_refused_at_the_start(
    migration: list[str], tmp_path: Path, config: str
) -> None:
    (tmp_path / "config").write_text(f"[profile old]\n{config}\n")
    done = command(
        *("run", *migration, "--source-profile", "old", "--dry-run"), AWS_CONFIG_FILE=str(tmp_path / "config")
    )
    assert done.returncode == 4
    assert "source: " in message(done)


def test_changed_settings_on_resume_are_refused_and_nothing_is_lost(migration: list[str]) -> None:
    with running(migration):
        pass
    done = command("run", *migration, "--sample-rate", "50")
    assert done.returncode == 4
    assert "sample_rate: 100.0 → 50.0" in message(done)
    with running(migration):
        pass


def test_a_status_of_nothing_says_so(valkey_url: str) -> None:
    done = command("status", "--migration", "nobody", "--redis-url", valkey_url)
    assert done.returncode == 4
    assert "no migration nobody" in message(done)


# --- running -----------------------------------------------------------------------------------------------


class Running:
    def __init__(
        self, child: "subprocess.Popen[bytes]", directory: "tempfile.TemporaryDirectory[str]"
    ) -> None:
        self.child, self._directory = child, directory  # which goes away with this object

    @property
    def _log(self) -> Path:
        return Path(self._directory.name, "log")

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def port(self) -> int | None:
        found = re.search(r"http://127\.0\.0\.1:(\d+)/metrics", self.log)
        return int(found[1]) if found else None

    def healthy(self) -> bool:
        if self.child.poll() is not None:
            pytest.fail(f"ended with {self.child.returncode}: {self.log}")
        if self.port is None:
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class running:  # noqa: N801 - it stands after `with`
    """`run` (or another role) until the context ends; healthy inside it."""

    def __init__(self, options: list[str], *, role: str = "run", until: int = signal.SIGTERM) -> None:
        self._argv = [*MODULE, role, *options]
        self._until = until
        self.code: int | None = None

    def __enter__(self) -> Running:
        directory = tempfile.TemporaryDirectory(prefix="ddbmm-test-")
        self._process = servers.process(self._argv, log=Path(directory.name, "log"))
        self._child = self._process.__enter__()
        run = Running(self._child, directory)
        servers.eventually(run.healthy, what="a healthy run")
        return run

    def __exit__(self, *_: object) -> None:
        self._child.send_signal(self._until)
        self.code = self._child.wait(120)
        self._process.__exit__(None, None, None)


@pytest.mark.parametrize("role", ["run", "reader", "validator", "monitor"])
def test_every_role_runs_serves_its_metrics_and_ends_well_on_sigterm(migration: list[str], role: str) -> None:
    one = running(migration, role=role)
    with one as run, urllib.request.urlopen(f"http://127.0.0.1:{run.port}/metrics") as answer:
        assert b"ddbmm_" in answer.read()
    assert one.code == 0, run.log


def test_ctrl_c_is_told_apart(migration: list[str]) -> None:
    one = running(migration, until=signal.SIGINT)
    with one:
        pass
    assert one.code == 130


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_run_says_first_what_begins_and_its_console_fits_80_columns(
    migration: list[str], form: str
) -> None:
    for begins, options in (("anew", []), ("resumed", ["--converge-within", "30s"])):
        one = running([*migration, "--log-format", form, "--statistics-every", "1s", *options])
        with one as run:
            servers.eventually(lambda run=run: "statistics" in run.log)  # type: ignore[misc]
        said = run.log
        assert "aws session made" not in said
        assert ("times changed since the last start" in " ".join(said.split())) is bool(options)
        if form == "console":
            assert max(map(len, said.splitlines())) <= 80
            assert said.startswith("migration ") and begins in said
        else:
            first = json.loads(said.splitlines()[0])["event"]
            assert first == ("migration begun" if begins == "anew" else "migration resumed")


def test_run_is_the_default_command(migration: list[str]) -> None:
    done = command(*migration, "--dry-run")
    assert done.returncode == 0
    assert "stream " in done.stdout


def test_a_dry_run_prints_the_plan_and_leaves_no_trace(migration: list[str]) -> None:
    done = command("run", *migration, "--dry-run", "--sample-rate", "12.5")
    assert done.returncode == 0
    for part in (
        "table/orders at http",
        "table/orders-new at http",
        "/stream/",
        "12.5 % of keys",
        "read units",
    ):
        assert part in " ".join(done.stdout.split())
    assert command("status", *migration).returncode == 4


def test_run_without_redis_keeps_its_state_in_the_directory(
    migration: list[str], fake: Fake, tmp_path: Path
) -> None:
    """`status` finds it, beside the run and after it; a second run goes on where the first one was."""
    at = migration.index("--redis-url")
    options = [*migration[:at], *migration[at + 2 :], "--state-dir", str(tmp_path / "state")]
    options += ["--iterator-type", "TRIM_HORIZON"]

    def records_read() -> int:
        return int(json.loads(command("status", *options, "--json").stdout)["ledger"]["records_read"])

    fake.control.put("orders", {"pk": {"S": "before"}})
    with running(options):
        servers.eventually(lambda: records_read() == 1, what="the first record")
    fake.control.put("orders", {"pk": {"S": "between the runs"}})
    assert records_read() == 1
    with running(options):
        servers.eventually(lambda: records_read() == 2, what="the record in between, and the first not again")


def test_doctor_tells_by_its_exit_code_and_json_whether_all_is_well(migration: list[str]) -> None:
    done = command("doctor", *migration, "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["passed"] is True
    assert set(shown["checks"][0]) == {"check", "level", "says", "remedy"}
    broken = command("doctor", *migration, "--target-table", "nowhere")
    assert broken.returncode == 4
    assert broken.stdout.startswith("fail tables: ")
    assert broken.stderr == ""


def test_a_reader_of_our_output_may_leave_early(migration: list[str]) -> None:
    first_line = f"{' '.join(MODULE)} config {' '.join(migration)} | head -1"
    done = subprocess.run(["bash", "-c", first_line], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""

"""The host that the program runs on: what its output goes to, its locale, its directories, its colours.

Each as a real process. Nothing of it may change a verdict, end a run, or be taken for a mismatch.
"""

import ast
import io
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import exit_codes
from pipeline.process import streams
from tests import servers
from tests.fake import Fake
from tests.test_cli import MODULE, Done, running

#: A locale without UTF-8, as a cron job or a minimal container has it.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
KEY = "ключ–\U0001f511"


@pytest.fixture(scope="module")
def fake() -> Iterator[Fake]:
    with Fake() as fake:
        fake.control.create_table("orders", view="NEW_AND_OLD_IMAGES")
        fake.control.create_table("orders-new")
        yield fake


@pytest.fixture(scope="module")
def options(fake: Fake, valkey_url: str) -> list[str]:
    """Of a migration that works."""
    return [
        *("--source-table", "orders", "--target-table", "orders-new", "--region", "us-east-1"),
        *("--source-endpoint-url", fake.url, "--target-endpoint-url", fake.url, "--redis-url", valkey_url),
        *("--migration", f"host-{uuid.uuid4().hex}", "--metrics-port", "0", "--workers", "1"),
        *("--converge-within", "1s", "--stable-for", "1s", "--iterator-type", "TRIM_HORIZON"),
        *("--statistics-every", "1s"),
    ]


@pytest.fixture(scope="module")
def with_finding(fake: Fake, options: list[str]) -> list[str]:
    """Of another one, with one open finding, whose key and attribute no ASCII has.

    In tables of its own: tests write into the other source alone, and when they run, pytest-xdist decides.
    """
    fake.control.create_table("found", view="NEW_AND_OLD_IMAGES")
    fake.control.create_table("found-new")
    fake.control.put("found", {"pk": {"S": KEY}, KEY: {"S": "→"}})
    tables = ["--source-table", "found", "--target-table", "found-new"]
    own = [*options, *tables, "--migration", f"host-{uuid.uuid4().hex}"]
    with running(own):
        servers.eventually(lambda: KEY in shell("findings --json --show-keys", own).stdout, 60)
    return own


def shell(words: str, options: list[str], **environment: str) -> Done:
    """A command as a shell runs it: `words` may redirect."""
    command, _, redirections = words.partition(" >")
    line = " ".join([*MODULE, *command.split(), *options]) + (f" >{redirections}" if redirections else "")
    return subprocess.run(
        ["bash", "-c", line],
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


# --- standard output ---------------------------------------------------------------------------------------

LOOKS = ["--help", "status", "findings --show-keys", "findings --json", "gate", "doctor", "config"]


@pytest.mark.parametrize("look", LOOKS)
def test_an_answer_that_cannot_be_written_is_no_verdict(with_finding: list[str], look: str) -> None:
    done = shell(f"{look} >/dev/full", with_finding)
    assert done.returncode == exit_codes.UNWRITTEN == 74, done.stderr
    assert "standard output cannot be written: No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("look", ["--help", "findings", "doctor"])
def test_what_nobody_listens_to_changes_no_exit_code(with_finding: list[str], look: str) -> None:
    heard = shell(look, with_finding).returncode
    for closed in (">&-", ">&- 2>&- <&-", ">/dev/null 2>/dev/full"):
        done = shell(f"{look} {closed}", with_finding)
        assert (done.returncode, done.stdout, done.stderr) == (heard, "", ""), closed


def test_a_refusal_keeps_its_code_where_its_words_cannot_be_written(options: list[str]) -> None:
    for nowhere in (">/dev/null 2>/dev/full", ">&- 2>&-"):
        assert shell(f"run --no-such-flag {nowhere}", options).returncode == exit_codes.USAGE
        assert shell(f"status --migration nobody {nowhere}", []).returncode != exit_codes.FAILED


@pytest.mark.parametrize("where", [">/dev/full", ">&-", ">&- 2>&- <&-", "> >(true)"])
def test_a_run_goes_on_where_its_output_goes_nowhere(fake: Fake, options: list[str], where: str) -> None:
    """The monitor prints every second. What the processes do is seen at the port."""
    port = servers.free_port()
    more = ["--metrics-port", str(port), "--migration", f"host-{uuid.uuid4().hex}", "--log-format", "console"]
    line = f"exec {' '.join([*MODULE, 'run', *options, *more])} {where}"
    with servers.process(["/bin/bash", "-c", line], log=Path(os.devnull)) as child:
        servers.eventually(lambda: shell("status --json", [*options, *more]).stdout, 60)
        restarts = servers.eventually(lambda: scraped(port, "ddbmm_worker_restarts_total"), 30)
        warned = 'ddbmm_log_messages_total{level="warning"}'
        servers.eventually(lambda: where in (">&-", ">&- 2>&- <&-") or scraped(port, warned) != "0.0")
        fake.control.put("orders", {"pk": {"S": uuid.uuid4().hex}})
        looked = scraped(port, "ddbmm_validations_total")
        servers.eventually(lambda: scraped(port, "ddbmm_validations_total") != looked, 30)
        assert scraped(port, "ddbmm_worker_restarts_total") == restarts == "0.0"
        assert child.poll() is None


def scraped(port: int, name: str) -> str:
    done = subprocess.run(
        ["curl", "-sf", f"http://127.0.0.1:{port}/metrics"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    found = re.search(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", done.stdout, re.MULTILINE)
    return found[1] if found else ""


# --- the locale --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [*LOOKS, "doctor --json", "run --dry-run"])
def test_a_locale_without_utf_8_shows_the_same_in_escapes(with_finding: list[str], look: str) -> None:
    plain, ascii_only = shell(look, with_finding), shell(look, with_finding, **ASCII)
    assert ascii_only.returncode == plain.returncode
    assert ascii_only.stdout.isascii()
    assert "Traceback" not in ascii_only.stderr
    if look in ("findings --json", "doctor --json"):
        for one, other in zip(parsed(plain.stdout), parsed(ascii_only.stdout), strict=True):
            assert one.keys() == other.keys()  # type: ignore[attr-defined]


def parsed(text: str) -> list[object]:
    with_lines = text.splitlines()
    return [json.loads(text)] if text.startswith("{\n") else [json.loads(line) for line in with_lines]


def test_a_key_comes_back_as_it_is_from_json_in_any_locale(with_finding: list[str]) -> None:
    done = shell("findings --json --show-keys", with_finding, **ASCII)
    assert done.stdout.isascii()
    assert [json.loads(line)["key"] for line in done.stdout.splitlines()] == [{"pk": {"S": KEY}}]


def test_a_run_in_a_locale_without_utf_8_judges(
    fake: Fake, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scripts, which Redis gets, are not ASCII."""
    for name, value in ASCII.items():
        monkeypatch.setenv(name, value)
    migration = f"host-{uuid.uuid4().hex}"
    with running([*options, "--migration", migration]) as run:
        item = {"pk": {"S": f"é{uuid.uuid4().hex}"}}
        fake.control.put("orders", item)
        fake.control.put("orders-new", item)
        status = ["--migration", migration, "--redis-url", options[options.index("--redis-url") + 1]]
        servers.eventually(
            lambda: (
                json.loads(shell("status --json", status).stdout or "{}").get("ledger", {}).get("reached")
            ),
            60,
        )
        assert "Traceback" not in run.log


TEXT_CALLS = {"open": 1, "read_text": 0, "write_text": 1, "fdopen": 1}


def test_every_read_and_write_of_text_names_its_encoding() -> None:
    """The locale's would be another one on another host."""
    unnamed = [
        f"{path.relative_to(servers.ROOT)}:{node.lineno}"
        for path in (servers.ROOT / "pipeline").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and is_text(node) and not has(node, "encoding")
    ]
    assert unnamed == []


def is_text(call: ast.Call) -> bool:
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    if name in ("run", "Popen", "check_output"):
        return has(call, "text") or has(call, "universal_newlines")
    if name in ("open", "fdopen"):  # of files; stores and producers open by other words
        modes = [
            one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str)
        ]
        return any(re.fullmatch("[rwxa]\\+?t?", mode) for mode in modes)
    return name in ("read_text", "write_text")


def has(call: ast.Call, name: str) -> bool:
    return any(one.arg == name for one in call.keywords)


# --- directories -------------------------------------------------------------------------------------------


@pytest.fixture(params=["a file in the way", "a lock that is a directory", "read-only", "a log that is none"])
def bad_home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    if request.param == "a file in the way":
        (home / "state").touch()
        yield home / "state"
    elif request.param == "a lock that is a directory":
        (home / "owner.lock").mkdir()
        yield home
    elif request.param == "a log that is none":
        (home / "valkey.log").mkdir()
        yield home
    else:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(home)], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("nothing can be mounted here")
        yield home
        subprocess.run(["umount", "-l", str(home)], check=True)


def test_a_state_directory_that_cannot_be_used_is_said_in_one_line(
    options: list[str], bad_home: Path
) -> None:
    at = options.index("--redis-url")
    embedded = [*options[:at], *options[at + 2 :], "--state-dir", str(bad_home)]
    done = shell("run", embedded)
    assert done.returncode == exit_codes.CONFIGURATION, done.stderr
    assert "--state-dir" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert shell("status", embedded).returncode == exit_codes.CONFIGURATION


def test_a_host_without_a_place_for_temporary_files_is_said_in_one_line(options: list[str]) -> None:
    """As a container with a read-only root and no tmpfs."""
    program = (
        "import sys, tempfile; from pipeline import cli\n"
        "tempfile._candidate_tempdir_list = lambda: ['/nowhere']\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "run", *options],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == exit_codes.CONFIGURATION, done.stderr
    assert "TMPDIR" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


# --- colours, and what the environment holds ---------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "colored"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], colored: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert streams.colored(Terminal()) is colored
    assert not streams.colored(io.StringIO())


def test_a_service_s_variable_of_kubernetes_is_blamed_on_the_environment(options: list[str]) -> None:
    """A service named `ddbmm-metrics` gives every pod of its namespace this variable."""
    at = options.index("--metrics-port")
    done = shell("run", [*options[:at], *options[at + 2 :]], DDBMM_METRICS_PORT="tcp://10.0.0.1:9090")
    assert done.returncode == exit_codes.USAGE
    assert "DDBMM_METRICS_PORT" in done.stderr

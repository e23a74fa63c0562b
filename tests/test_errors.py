"""What an error says, what a process ends with, and how long who failed waits."""

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli, errors, exit_codes
from pipeline.backoff import Backoff
from tests import servers

#: Nothing listens on this port.
NOWHERE = "redis://127.0.0.1:1/0"


def test_an_error_keeps_what_happened_and_what_to_do_apart() -> None:
    error = errors.ConfigurationError("one; two: three", "do four; and five")
    assert (error.problem, error.remedy) == ("one; two: three", "do four; and five")
    assert str(error) == "one; two: three: do four; and five"


def test_an_error_without_a_remedy_is_its_problem() -> None:
    assert str(errors.StoreUnavailable("Redis cannot be reached")) == "Redis cannot be reached"


def test_an_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(errors.Throttled("slow", "wait")))
    assert (type(error), error.problem, error.remedy) == (errors.Throttled, "slow", "wait")


def test_what_could_not_be_asked_is_never_a_mismatch() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.MonitorError)
    ]
    assert {kind.exit_code for kind in kinds} == {
        exit_codes.USAGE,
        exit_codes.CONFIGURATION,
        exit_codes.COULD_NOT_ASK,
    }


@pytest.mark.parametrize("command", [["status"], ["findings"], ["gate"], ["mark", "T0"]])
def test_a_store_that_cannot_be_reached_was_not_asked(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "--migration", "m", "--redis-url", NOWHERE]) == exit_codes.COULD_NOT_ASK == 5
    assert "Redis cannot be reached" in capsys.readouterr().err


def test_a_defect_of_a_command_has_its_own_code_and_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cli._COMMANDS, "status", lambda *_: 1 // 0)
    assert cli.main(["status", "--migration", "m"]) == exit_codes.DEFECT == 70
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said and "defect" in said.splitlines()[-1]


def test_a_defect_of_a_role_has_its_own_code(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from pipeline import metrics, supervisor\n"
        "from pipeline.config import load\n"
        "from pipeline.process.pulse import Pulse\n"
        "loaded = load(['run', '--target-table', 'orders'], {})\n"
        "supervisor._run_role = lambda *_: 1 // 0\n"
        "metrics.prepare_directory(sys.argv[1])\n"
        "work = supervisor._Work(role='reader', slot='reader-0', process=loaded.process, "
        "migrations=loaded.migrations, directory=sys.argv[1])\n"
        "supervisor._child_main(work, Pulse(), os.getppid())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == exit_codes.DEFECT, done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_no_module_writes_an_exit_code_as_a_number() -> None:
    for path in (servers.ROOT / "pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "sys.exit":
                assert not any(isinstance(one, ast.Constant) for one in node.args), path
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "exit_code":
                assert not isinstance(node.value, ast.Constant), path


def test_every_code_is_explained() -> None:
    codes = {value for value in vars(exit_codes).values() if isinstance(value, int)}
    assert codes == set(exit_codes.MEANINGS)


def test_a_wait_doubles_up_to_the_longest() -> None:
    backoff = Backoff(0.5, 30.0)
    assert [backoff.after(failures) for failures in (1, 2, 3, 6, 7, 8)] == [0.5, 1.0, 2.0, 16.0, 30.0, 30.0]
    assert backoff.after(10**9) == 30.0


def test_those_who_failed_together_do_not_return_together() -> None:
    waits = [Backoff(1.0, 8.0, jittered=True).after(3) for _ in range(200)]
    assert all(2.0 <= wait <= 4.0 for wait in waits)
    assert max(waits) - min(waits) > 1.0


def test_a_message_is_cut_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Names that a server made up filled 760,000 characters."""
    assert cli.main(["status", "--config", "x\x1b" * 100_000], {}) == exit_codes.CONFIGURATION
    said = capsys.readouterr().err
    assert len(said) < 2_100 and said.strip().isprintable()

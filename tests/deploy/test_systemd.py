"""The systemd unit: systemd takes it, the program takes its options, and they agree on stopping and state."""

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline import exit_codes, supervisor
from pipeline.config import load
from tests.servers import ROOT

UNIT = ROOT / "deploy" / "systemd" / "ddbmm.service"
#: What systemd 252 (Debian 12) knows of those that the unit uses; a misspelt name is only a warning in a log.
KNOWN = {
    "Unit": {"Description", "Wants", "After"},
    "Service": {
        *(
            "Type",
            "User",
            "Group",
            "ExecStart",
            "Environment",
            "StateDirectory",
            "StateDirectoryMode",
            "UMask",
        ),
        *("KillMode", "TimeoutStopSec", "Restart", "RestartSec", "RestartPreventExitStatus", "MemoryMax"),
        *(
            "NoNewPrivileges",
            "CapabilityBoundingSet",
            "ProtectSystem",
            "ProtectHome",
            "PrivateTmp",
            "TasksMax",
        ),
        *("PrivateDevices", "ProtectClock", "ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs"),
        *("ProtectKernelModules", "ProtectKernelTunables", "RestrictAddressFamilies", "RestrictNamespaces"),
        *("RestrictRealtime", "RestrictSUIDSGID", "LockPersonality", "SystemCallArchitectures"),
        "SystemCallFilter",
    },
    "Install": {"WantedBy"},
}


def unit() -> configparser.ConfigParser:
    """Strict: no section and no name twice."""
    parser = configparser.ConfigParser(delimiters="=", comment_prefixes="#", interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    parser.read(UNIT, encoding="utf-8")
    return parser


def test_it_says_nothing_that_systemd_does_not_know() -> None:
    read = unit()
    assert {name: set(read[name]) for name in read.sections()} == KNOWN


def test_the_program_takes_its_command_line(tmp_path: Path) -> None:
    program, *words = shlex.split(unit()["Service"]["ExecStart"])
    assert program.endswith("/bin/dynamodb-migration-monitor")
    config = tmp_path / "migration.yml"
    config.write_text("target-table: orders\n")
    words[words.index("--config") + 1] = str(config)
    process = load(words, {}).process
    assert (process.command, process.log_format) == ("run", "json")
    assert process.state_dir == "/var/lib/" + unit()["Service"]["StateDirectory"]


def test_it_leaves_time_to_stop_and_does_not_repeat_what_cannot_help() -> None:
    service = unit()["Service"]
    assert int(service["TimeoutStopSec"]) > supervisor.GRACE_SECONDS
    assert set(map(int, service["RestartPreventExitStatus"].split())) == exit_codes.HALTING
    assert service["KillMode"] == "mixed"  # children get SIGTERM from the supervisor, in its order


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_it(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8").replace("/opt/ddbmm/bin/dynamodb-migration-monitor", "/bin/true")
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")

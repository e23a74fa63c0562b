"""The stack on more than one host, and its state from a backup: the files that docs/operations.md uses."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from tests import servers
from tests.servers import ROOT

HOSTS = ROOT / "deploy" / "hosts"
RESTORE = ROOT / "deploy" / "redis" / "restore.sh"
EVERY = pytest.mark.parametrize("name", sorted(file.name for file in HOSTS.iterdir()))


def overriding(name: str) -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((HOSTS / name).read_text(encoding="utf-8"))["services"]
    return services


@EVERY
def test_an_override_follows_the_compose_specification(name: str) -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"
    tool = servers.needed("check-jsonschema", checker if checker.exists() else None, "pip install -e .[dev]")
    command = [tool, "--builtin-schema", "vendor.compose-spec", str(HOSTS / name)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@EVERY
def test_an_override_publishes_on_an_address_that_must_be_named(name: str) -> None:
    for service in overriding(name).values():
        for port in service.get("ports", []):
            assert port.startswith("${DDBMM_HOST_ADDRESS:?")


def test_redis_is_published_with_a_password_only_and_its_exporter_knows_it() -> None:
    services = overriding("redis.yml")
    assert services["redis"]["command"][-2:] == ["--include", "/run/secrets/redis_password"]
    assert services["redis-exporter"]["environment"]["REDIS_PASSWORD_FILE"].startswith("/run/secrets/")


def test_prometheus_reads_further_hosts_from_a_file_that_is_there() -> None:
    prometheus = ROOT / "deploy" / "prometheus"
    scrapes = yaml.safe_load((prometheus / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    (ours,) = [one for one in scrapes if one["job_name"] == "ddbmm"]
    assert ours["file_sd_configs"] == [{"files": ["targets/*.yml"]}]
    assert yaml.safe_load((prometheus / "targets" / "hosts.yml").read_text(encoding="utf-8")) == []


def backup_of(url: str, file: Path) -> None:
    command = ["redis-cli", "-u", url, "--rdb", str(file)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def restore(directory: Path, backup: bytes) -> "subprocess.CompletedProcess[bytes]":
    command = ["sh", str(RESTORE), str(directory)]
    return subprocess.run(command, input=backup, capture_output=True, check=False, timeout=60)


def test_a_backup_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    server, file = servers.redis_binary(), tmp_path / "backup.rdb"
    with servers.redis_like(server, tmp_path / "state") as url, redis.Redis.from_url(url) as client:
        client.hset("history", mapping={"a": b"\x00\xff", "b": "2"})
        backup_of(url, file)
        client.flushall()
        client.set("written", "since")
    ended = restore(tmp_path / "state", file.read_bytes())
    assert (ended.returncode, ended.stdout) == (0, b"keys restored: 1\n")
    with servers.redis_like(server, tmp_path / "state") as url, redis.Redis.from_url(url) as client:
        assert client.hgetall("history") == {b"a": b"\x00\xff", b"b": b"2"}
        assert client.keys("*") == [b"history"]


def test_a_broken_backup_changes_nothing(tmp_path: Path) -> None:
    server, file = servers.redis_binary(), tmp_path / "backup.rdb"
    with servers.redis_like(server, tmp_path / "state") as url, redis.Redis.from_url(url) as client:
        client.set("kept", "yes")
        backup_of(url, file)
    ended = restore(tmp_path / "state", file.read_bytes()[:-12])
    assert ended.returncode == 1
    with servers.redis_like(server, tmp_path / "state") as url, redis.Redis.from_url(url) as client:
        assert client.keys("*") == [b"kept"]

"""What the runbook tells a shift to do, done: the repair loop on real tables, the silence in real amtool."""

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests import servers
from tests.servers import ROOT, eventually
from tests.system import RealTable

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")


def test_the_repair_loop_makes_the_target_what_the_source_is(tmp_path: Path, moto_url: str) -> None:
    [script] = re.findall(r"(?s)```python\n(.*?)```", RUNBOOK)
    name = f"repair-{uuid.uuid4().hex}"
    source, target = (
        RealTable(moto_url, f"{name}-{side}", {"pk": "S", "at": "B"}) for side in ("old", "new")
    )
    keys = [{"pk": {"S": one}, "at": {"B": "AAE="}} for one in ("stale", "missing", "extra")]
    for key in keys[:2]:
        source.put({**key, "v": {"S": "right"}, "tags": {"SS": ["a", "b"]}})
    for key in keys[::2]:
        target.put({**key, "v": {"S": "wrong"}})
    script = script.replace('("orders", "old")', f'("{source.name}", "old")')
    script = script.replace('("orders", "new")', f'("{target.name}", "new")')
    profile = (
        f"region = us-east-1\nendpoint_url = {moto_url}\naws_access_key_id = a\naws_secret_access_key = b\n"
    )
    (tmp_path / "config").write_text(f"[profile old]\n{profile}[profile new]\n{profile}")
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="".join(json.dumps({"key": key, "kind": key["pk"]["S"]}) + "\n" for key in keys),
        env={
            **os.environ,
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["written", "written", "deleted"]
    assert items(source) == items(target)
    assert len(items(target)) == 2


def test_the_repair_loop_takes_the_findings_of_one_migration_alone() -> None:
    """Keys of one table, written into another, would be made wrong."""
    [script] = re.findall(r"(?s)```python\n(.*?)```", RUNBOOK)
    line = json.dumps({"migration": "orders", "key": {"pk": {"S": "a"}}, "kind": "stale"})
    script = script.replace('boto3.Session(profile_name=profile).client("dynamodb")', "None")
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=f"{line}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "") and "--migration" in done.stderr


def items(table: RealTable) -> list[str]:
    return sorted(map(repr, table._client.scan(TableName=table.name)["Items"]))


def test_the_silence_keeps_quiet_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    binary = servers.needed(
        "alertmanager", shutil.which("prometheus-alertmanager"), "apt-get install prometheus-alertmanager"
    )
    url = f"http://127.0.0.1:{servers.free_port()}"
    flags = (f"--storage.path={tmp_path / 'data'}", "--cluster.listen-address=")
    config = f"--config.file={ROOT / 'deploy/alertmanager/alertmanager.yml'}"
    listen = f"--web.listen-address={url.removeprefix('http://')}"
    with servers.process([binary, config, listen, *flags], log=tmp_path / "log"):
        eventually(lambda: ready(url), 60)
        for alert in ("OpenMismatches", "ReplicationLagHigh", "GapFound", "Watchdog"):
            for migration in ("orders", "customers"):
                names = (f"alertname=DynamoDBMigration{alert}", f"migration={migration}")
                amtool(url, "alert", "add", *names, "severity=warning")
        [command] = re.findall(
            r"amtool --alertmanager\.url=\S+ (silence add .*?migration=orders)", RUNBOOK, re.DOTALL
        )
        words = subprocess.run(
            ["sh", "-c", f'printf "%s\\n" {command}'], capture_output=True, text=True, check=True, timeout=30
        )
        silence = amtool(url, *words.stdout.splitlines()).strip()
        assert silence in amtool(url, "silence", "query")
        quiet = json.loads(amtool(url, "alert", "query", "--silenced", "-o", "json"))
        found = {(one["labels"]["alertname"], one["labels"]["migration"]) for one in quiet}
        named = ("OpenMismatches", "ReplicationLagHigh")
        assert found == {(f"DynamoDBMigration{one}", "orders") for one in named}
        amtool(url, "silence", "expire", silence)
        assert silence not in amtool(url, "silence", "query")


def ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except URLError:
        return False


def amtool(url: str, *words: str) -> str:
    binary = servers.needed("amtool", shutil.which("amtool"), "apt-get install prometheus-alertmanager")
    done = subprocess.run(
        [binary, f"--alertmanager.url={url}", *words], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

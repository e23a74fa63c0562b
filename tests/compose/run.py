"""`make compose-test`: the stack and its demo in real containers: scaled, hurt, compared with the truth.

Reads: docker-compose.yml. Writes: images; containers and volumes of a project of its own, which it removes.
Never: containers of another project; Grafana, unless the real images are pulled.

Needs docker and root on Debian 12 (see images.sh). With --pull the real images are pulled instead.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PROJECT = "ddbmm-test"
SERVICES = ("redis", "reader", "validator", "monitor", "prometheus", "alertmanager", "redis-exporter")
DEMO = ("dynamodb-source", "dynamodb-target", "demo")
TRAFFIC_SECONDS = 40
#: The migration of the demo, and one beside it, in whose tables nothing happens and nothing is wrong.
DEMO_MIGRATION, CALM = "demo", "customers"
CALM_TABLES = f"""
from pipeline.demo import tables
items = [{{"pk": {{"S": f"c#{{number}}"}}, "sk": {{"N": "1"}}}} for number in range(50)]
sides = (("http://dynamodb-source:8000", "eu-west-1"), ("http://dynamodb-target:8000", "us-east-1"))
for url, region in sides:
    tables.create(tables.client(url, region), "{CALM}")
    tables.fill(tables.client(url, region), "{CALM}", items)
tables.enable_stream(tables.client(*sides[0]), "{CALM}")
"""
#: Role → how many are up. "": Redis' exporter, Prometheus, Alertmanager.
TARGETS = {"reader": 1, "validator": 3, "monitor": 1, "": 3}
PROMETHEUS_PORT, ALERTMANAGER_PORT = 19090, 19093


class Stack:
    """docker compose on a project of our own, at the settings of the demo, with a second migration."""

    def __init__(self, docker_config: Path | None, folder: Path) -> None:
        self._env = {
            **{name: text for name, text in os.environ.items() if not name.startswith(("DDBMM_", "AWS_"))},
            "DEMO_SECONDS": str(TRAFFIC_SECONDS),
            "DDBMM_CONFIG_FILE": str(_configured(folder)),
            "PROMETHEUS_PORT": str(PROMETHEUS_PORT),
            "ALERTMANAGER_PORT": str(ALERTMANAGER_PORT),
            **({"DOCKER_CONFIG": str(docker_config)} if docker_config else {}),
        }

    def compose(self, *arguments: str) -> str:
        command = ["docker", "compose", "--project-name", PROJECT, "--env-file", os.devnull]
        return self._run([*command, "--profile", "demo", *arguments])

    def docker(self, *arguments: str) -> str:
        return self._run(["docker", *arguments])

    def monitor(self, *arguments: str) -> str:
        """Standard output of a command in the monitor's container, whatever its exit code."""
        command = " ".join(["dynamodb-migration-monitor", *arguments])
        return self.compose("exec", "-T", "monitor", "sh", "-c", f"{command} || true")

    def nothing_left(self) -> None:
        """Raises AssertionError while docker still has something of this project."""
        ours = f"label=com.docker.compose.project={PROJECT}"
        for kind in ("container", "volume", "network"):
            assert not self.docker(kind, "ls", "--quiet", "--filter", ours), f"a {kind} is left"

    def _run(self, command: list[str]) -> str:
        ended = subprocess.run(
            command,
            cwd=ROOT,
            env=self._env,
            text=True,
            capture_output=True,
            check=False,
        )
        if ended.returncode:
            print(ended.stdout[-3000:], ended.stderr[-3000:], sep="\n", file=sys.stderr)
            raise subprocess.CalledProcessError(ended.returncode, command)
        return ended.stdout


def _configured(folder: Path) -> Path:
    """The demo's settings as the default of two migrations."""
    shared = (ROOT / "deploy" / "demo" / "config.yml").read_text(encoding="utf-8").splitlines()
    own = ("migration:", "source-table:", "target-table:")
    lines = [line for line in shared if not line.startswith(own)]
    entries = [
        f"  {name}: {{source-table: {table}, target-table: {table}}}"
        for name, table in ((DEMO_MIGRATION, "orders"), (CALM, CALM))
    ]
    file = folder / "two.yml"
    file.write_text("\n".join([*lines, "migrations:", *entries, ""]))
    file.chmod(0o644)  # the containers' user reads it
    return file


class Figures:
    """What is printed at the end."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.add(what, f"{time.monotonic() - began:.0f} s")

    def add(self, what: str, figure: object) -> None:
        self._lines.append(f"{what:<44} {figure}")
        print(self._lines[-1], flush=True)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--pull", action="store_true", help="pull the real images, Grafana's too")
    args = parser.parse_args(argv)
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="ddbmm-compose-") as own, _daemon(Path(own)):
        cache = Path(os.environ.get("COMPOSE_TEST_DIR", own))
        if not args.pull:
            with figures.timed("stand-in images built"):
                images = [str(ROOT / "tests" / "compose" / "images.sh"), str(cache)]
                subprocess.run(images, check=True, stdout=subprocess.DEVNULL)
        stack = Stack(None if args.pull else cache / "docker", Path(own))
        try:
            _play(stack, figures, grafana=args.pull)
        except BaseException:
            print(stack.compose("ps", "-a"), stack.compose("logs", "--tail", "20"), file=sys.stderr)
            raise
        finally:
            with figures.timed("down"):
                stack.compose("down", "--volumes", "--timeout", "40")
            stack.nothing_left()
    return 0


def _play(stack: Stack, figures: Figures, *, grafana: bool) -> None:
    stack.compose("config", "--quiet")
    with figures.timed("both images built"):
        stack.compose("build", "reader", "demo")
    with figures.timed("the outside world is up, with a second pair of tables"):
        stack.compose("up", "--detach", "--no-build", "--wait", *DEMO)
        stack.compose("exec", "-T", "demo", "python", "-c", CALM_TABLES)
    with figures.timed("up, all healthy"):
        services = [*SERVICES, *(["grafana"] if grafana else [])]
        stack.compose("up", "--detach", "--no-build", "--wait", *services)
    with figures.timed("validators scaled to 3, all targets seen"):
        _scale(stack)
    figures.add("targets up", json.dumps(_targets()))
    with figures.timed("a comparer compares the whole tables"):
        _compare(stack)
    with figures.timed("planted truth written"):
        truth = _eventually(lambda: _truth(stack), TRAFFIC_SECONDS + 120, "the planted truth")
    with figures.timed("findings equal the planted truth"):
        _eventually(lambda: _findings(stack) == truth, 120, "findings = truth")
    figures.add("findings, all of them planted", len(truth))
    figures.add("answers", json.dumps(_answers(stack)))
    assert _answers(stack)[CALM] != "failed", stack.monitor("gate")
    with figures.timed("a killed validator is started again by docker"):
        _crash(stack, "validator")
    stack.docker("kill", _container(stack, "reader"))
    with figures.timed("MismatchRatioHigh fires, of the migration that is bad alone"):
        _eventually(lambda: _firing("MismatchRatioHigh", migration=DEMO_MIGRATION), 200, "it fires")
    assert not _firing("MismatchRatioHigh", migration=CALM)
    with figures.timed("RoleAbsent fires for the reader, killed before that"):
        _eventually(lambda: _firing("RoleAbsent", role="reader"), 200, "RoleAbsent fires")
    with figures.timed("the reader is back, and the alert resolves"):
        stack.compose("up", "--detach", "--no-build", "--no-recreate", "--wait", "reader")
        _eventually(lambda: not _firing("RoleAbsent") and _targets() == TARGETS, 60, "RoleAbsent resolves")
    figures.add("alerts that reached Alertmanager", ", ".join(_alerted()))
    assert _open_for(60) == {DEMO_MIGRATION} and not _firing("OpenMismatches"), (
        "which takes a quarter of an hour"
    )
    _account(stack, figures, truth)
    for name in SERVICES:
        figures.add(f"memory of {name}", _memory(stack, name))


def _compare(stack: Stack) -> None:
    """One comparer, which goes from one migration to the other."""
    stack.compose("up", "--detach", "--no-build", "--no-recreate", "--wait", "comparer")

    def compared() -> bool:
        return all(_checks(stack, name).get("whole-table") == "passed" for name in (DEMO_MIGRATION, CALM))

    _eventually(compared, 180, "the whole tables of both migrations are compared")
    stack.compose("stop", "comparer")
    _eventually(lambda: _targets() == TARGETS, 60, f"targets {TARGETS}")


def _account(stack: Stack, figures: Figures, truth: dict[str, str]) -> None:
    """Both migrations are accounted for to the last record, and the findings are those that were planted."""
    every = json.loads(stack.monitor("status", "--json"))["migrations"]
    assert every.keys() == {DEMO_MIGRATION, CALM} and _findings(stack) == truth
    for status in every.values():
        assert status["balanced"] and status["queue"]["dead"] == status["reader"]["gaps"] == 0
    figures.add("records read, each accounted for", every[DEMO_MIGRATION]["ledger"]["records_read"])


def _scale(stack: Stack) -> None:
    stack.compose(
        "up", "--detach", "--no-build", "--no-recreate", "--wait", "--scale", "validator=3", "validator"
    )
    _eventually(lambda: _targets() == TARGETS, 90, f"targets {TARGETS}")


def _crash(stack: Stack, service: str) -> None:
    """Kill a container's first process behind docker's back: what `docker kill` ends stays ended."""
    container = _container(stack, service)
    os.kill(int(stack.docker("inspect", "--format", "{{.State.Pid}}", container)), signal.SIGKILL)

    def back() -> bool:
        state = json.loads(stack.docker("inspect", "--format", "{{json .}}", container))
        return state["RestartCount"] == 1 and state["State"]["Health"]["Status"] == "healthy"

    _eventually(back, 90, f"{service} is started again")
    _eventually(lambda: _targets() == TARGETS, 60, f"targets {TARGETS}")


def _container(stack: Stack, service: str) -> str:
    return stack.compose("ps", "--quiet", service).split()[0]


def _targets() -> dict[str, int]:
    """How many targets of each role are up."""
    return {s["metric"].get("role", ""): int(s["value"][1]) for s in _query("count by (role) (up == 1)")}


def _firing(alert: str, **labels: str) -> bool:
    """With the shipped rules and their own patience."""
    more = "".join(f',{name}="{value}"' for name, value in labels.items())
    return bool(_query(f'ALERTS{{alertname="DynamoDBMigration{alert}",alertstate="firing"{more}}}'))


def _open_for(seconds: int) -> set[str]:
    """The migrations with a finding as old as that, as the rule of OpenMismatches asks for it."""
    age = "time() - min by (migration) (ddbmm_oldest_finding_timestamp_seconds)"
    found = _query(f"migration:ddbmm_mismatches_open:sum > 0 and {age} > {seconds}")
    return {one["metric"]["migration"] for one in found}


def _alerted() -> list[str]:
    """Names of the alerts that Alertmanager shows now."""
    found = _get(f"http://127.0.0.1:{ALERTMANAGER_PORT}/api/v2/alerts")
    return sorted({alert["labels"]["alertname"] for alert in found})


def _query(expr: str) -> list[dict[str, Any]]:
    query = urllib.parse.urlencode({"query": expr})
    answer = _get(f"http://127.0.0.1:{PROMETHEUS_PORT}/api/v1/query?{query}")
    return list(answer["data"]["result"])


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def _truth(stack: Stack) -> dict[str, str]:
    said = stack.compose("exec", "-T", "demo", "sh", "-c", "cat /tmp/demo/truth.json || true")
    return dict(json.loads(said)["divergent"]) if said else {}


def _checks(stack: Stack, migration: str) -> dict[str, str]:
    """The gate's checks of one migration, by name; none before it has begun."""
    told = stack.monitor("gate", "--json", "--migration", migration)
    checks = json.loads(told)["checks"] if told else []
    return {check["name"]: check["result"] for check in checks}


def _answers(stack: Stack) -> dict[str, str]:
    """The gate's answer of each migration."""
    told = json.loads(stack.monitor("gate", "--json"))["migrations"]
    return {name: one["result"] for name, one in told.items()}


def _findings(stack: Stack) -> dict[str, str]:
    """Of both migrations: the calm one has none."""
    lines = [json.loads(line) for line in stack.monitor("findings", "--json", "--show-keys").splitlines()]
    assert {line["migration"] for line in lines} <= {DEMO_MIGRATION}
    return {json.dumps(line["key"], sort_keys=True, separators=(",", ":")): line["kind"] for line in lines}


def _memory(stack: Stack, service: str) -> str:
    container = _container(stack, service)
    return stack.docker("stats", "--no-stream", "--format", "{{.MemUsage}}", container).strip()


def _eventually(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    ends = time.monotonic() + seconds
    while not (seen := condition()):
        if time.monotonic() > ends:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(1)
    return seen


@contextmanager
def _daemon(directory: Path) -> Iterator[None]:
    """A docker daemon: the one that runs here, else one of our own for as long as we need it."""

    def runs() -> bool:
        return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0

    if runs():
        yield
        return
    with (directory / "dockerd.log").open("wb") as log:
        own = subprocess.Popen(["dockerd"], stdout=log, stderr=subprocess.STDOUT)
    try:
        _eventually(lambda: runs() or own.poll() is not None, 60, "dockerd")
        if own.poll() is not None:
            sys.exit((directory / "dockerd.log").read_text()[-2000:])
        yield
    finally:
        own.terminate()
        own.wait(60)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Who dies, what the wall shows, what pages after how long: measured on real processes, never thought up.

Reads: deploy/, the dashboard's tiles. Writes: directories of its own. Never: a process that outlives it.

`python -m tests.deploy.watch` (`make watch-test`) kills each part of a small migration in turn, each in a
world of its own that was GO before, and prints the table that stands in docs/operations.md. Scrapes, rules
and waits are those that are shipped. With --factor F every duration of the rules (`for`, ranges) is F times
as short, Alertmanager does not wait, and scrapes come every second: the form that runs with the tests. Ages
in seconds that a rule compares with (a finding's, a poll's) stay what they are.

The world is the compose stack's: a container that dies leaves service discovery; nobody restarts it here.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import redis
import yaml

from pipeline.demo import stage, tables
from tests import servers
from tests.deploy import artifacts
from tests.deploy.live import Live
from tests.deploy.receivers import Receivers
from tests.servers import ROOT

#: Changes a second, and how long a world may take until its gate is open.
CHANGES_PER_SECOND, GO_SECONDS = 5, 400.0
#: How long is waited for what a death leads to, by the clock of the shipped rules.
OBSERVED_SECONDS = 480.0
#: Gate and judging of this world: few keys, and a machine that may be busy.
SETTINGS = {"gate-objective": 90, "gate-scope": "changes", "converge-within": "60s"}
SETTINGS |= {"gate-lag": "2m", "gate-reader-lag": "2m"}
#: So slow that its comparison is not finished when it dies.
SLOW_COMPARER = {"DDBMM_MAX_RCU": "0.05", "DDBMM_SEGMENTS": "30"}
ROLES = ("reader", "validator", "monitor")
#: The tile that says go or no-go.
ANSWER = "Switch over?"
DURATION = re.compile(r"(\d+)(ms|s|m|h|d)\b")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def shorter(text: str, factor: float) -> str:
    """Each duration of the text, divided; none shorter than a few evaluations of a second."""

    def one(found: re.Match[str]) -> str:
        return f"{max(3, round(int(found[1]) * _SECONDS[found[2]] / factor))}s"

    return DURATION.sub(one, text)


class World(Live):
    """A migration without faults: traffic and replicator are processes of their own, Alertmanager tells."""

    def __init__(self, directory: Path, factor: float) -> None:
        super().__init__(directory)
        self.factor = factor
        for name in ("redis", "alertmanager"):
            self.ports[name] = servers.free_port()
        self.receivers = Receivers()
        self.discovered: set[str] = set()

    # --- processes -----------------------------------------------------------------------------------------

    def begin(self, *, comparer: bool) -> None:
        """Everything, until the gate is open and Prometheus knows it."""
        self.start_redis()
        self._world(0)
        for role in ROLES:
            self.spawn_role(role)
        for role in ROLES:
            self._answers(role, "/healthz")
        if comparer:
            self._watched()
            self.start_role("comparer")
        self._watch(None)
        servers.eventually(lambda: self.answer() == "GO", GO_SECONDS, "GO on the wall")

    def close(self) -> None:
        super().close()
        self.receivers.close()

    def start_redis(self) -> None:
        own = contextlib.ExitStack()
        self.redis_url = own.enter_context(
            servers.redis_like(servers.valkey_binary(), self.directory / "redis", port=self.ports["redis"])
        )
        self._roles["redis"] = own

    def _world(self, seconds: float) -> None:
        for side, account in (("source", stage.SOURCE_ACCOUNT), ("target", stage.TARGET_ACCOUNT)):
            self._python(side, "-m", "pipeline.demo.emulator", account, f"127.0.0.1:{self.ports[side]}")
        for side in ("source", "target"):
            self._answers(side, "/moto-api/")
        source, target = (
            tables.client(self.url(side), region)
            for side, region in (("source", stage.SOURCE_REGION), ("target", stage.TARGET_REGION))
        )
        tables.create(source, stage.TABLE)
        tables.create(target, stage.TABLE)
        arn = tables.enable_stream(source, stage.TABLE)
        (self.directory / "plan.yaml").write_text("{}", encoding="utf-8")
        where = [
            *("--source-endpoint-url", self.url("source"), "--source-region", stage.SOURCE_REGION),
            *("--target-endpoint-url", self.url("target"), "--target-region", stage.TARGET_REGION),
        ]
        plan = ["--plan", str(self.directory / "plan.yaml"), "--truth", str(self.directory / "truth.json")]
        shared = ["--table", stage.TABLE, "--seed", "1"]
        self._python(
            "replicator", "-m", "pipeline.demo.replicator", *where, *shared, *plan, "--stream-arn", arn
        )
        amount = ["--changes", str(3600 * CHANGES_PER_SECOND), "--seconds", "3600"]
        address = ["--endpoint-url", self.url("source"), "--region", stage.SOURCE_REGION]
        self._python("traffic", "-m", "pipeline.demo.traffic", *address, *shared, *amount)

    def environment(self) -> dict[str, str]:
        made = super().environment()
        file = Path(made["DDBMM_CONFIG"])
        settings = yaml.safe_load(file.read_text(encoding="utf-8")) | SETTINGS
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return made

    def environment_of(self, role: str) -> dict[str, str]:
        return super().environment_of(role) | (SLOW_COMPARER if role == "comparer" else {})

    def spawn_role(self, role: str) -> None:
        super().spawn_role(role)
        self.discovered.add(role)
        self._discover()

    # --- deaths --------------------------------------------------------------------------------------------

    def kill(self, *roles: str) -> None:
        """As the kernel does when there is no memory left; the container leaves service discovery."""
        for role in roles:
            self.processes[role].kill()
            self.processes[role].wait(servers.END_SECONDS)
            self._roles.pop(role).close()
            self.discovered.discard(role)
        self._discover()

    def kill_redis(self) -> None:
        with contextlib.closing(redis.Redis.from_url(self.redis_url)) as asked:
            pid = int(asked.info("server")["process_id"])
        os.kill(pid, signal.SIGKILL)
        self._roles.pop("redis").close()

    def restart_prometheus(self) -> None:
        """Without a chance to say goodbye; what it has kept is there again."""
        self.processes["prometheus"].kill()
        self.processes["prometheus"].wait(servers.END_SECONDS)
        self.start_prometheus()

    def signal(self, name: str, number: int) -> None:
        """To the process and its children."""
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.processes[name].pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        for pid in (self.processes[name].pid, *map(int, listed.stdout.split())):
            os.kill(pid, number)

    # --- Prometheus and Alertmanager -----------------------------------------------------------------------

    def _discover(self) -> None:
        """What DNS does in the compose stack."""
        known = [
            {"targets": [f"127.0.0.1:{self.ports[role]}"], "labels": {"role": role}}
            for role in sorted(self.discovered)
        ]
        fresh = self.directory / "targets.new"
        fresh.write_text(json.dumps(known), encoding="utf-8")
        fresh.replace(self.directory / "targets.json")

    def _configuration(self, home: Path, alerts_after: str | None) -> None:
        self._alertmanager()
        made = yaml.safe_load((artifacts.PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
        if self.factor > 1:
            made["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        made["alerting"]["alertmanagers"] = [{"static_configs": [self._target("alertmanager")]}]
        made["scrape_configs"] = [
            {"job_name": "ddbmm", "file_sd_configs": [{"files": [str(self.directory / "targets.json")]}]},
            {"job_name": "redis", "static_configs": [self._target("exporter")]},
            {"job_name": "prometheus", "static_configs": [self._target("prometheus")]},
            {"job_name": "alertmanager", "static_configs": [self._target("alertmanager")]},
        ]
        (home / "rules").mkdir()
        for file in artifacts.RULES:
            rules = yaml.safe_load(file.read_text(encoding="utf-8"))
            for rule in (rule for group in rules["groups"] for rule in group["rules"] if self.factor > 1):
                for name in {"for", "keep_firing_for"} & rule.keys():
                    rule[name] = shorter(rule[name], self.factor)
                rule["expr"] = re.sub(
                    r"\[[^]]+\]", lambda found: shorter(found[0], self.factor), rule["expr"]
                )
            (home / "rules" / file.name).write_text(yaml.safe_dump(rules), encoding="utf-8")
        (home / "prometheus.yml").write_text(yaml.safe_dump(made), encoding="utf-8")

    def _target(self, name: str) -> dict[str, list[str]]:
        return {"targets": [f"127.0.0.1:{self.ports[name]}"]}

    def _alertmanager(self) -> None:
        made = yaml.safe_load(
            (ROOT / "deploy" / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8")
        )
        self.receivers.switched_on(made)
        if self.factor > 1:
            made["route"] |= {"group_wait": "100ms", "group_interval": "500ms"}
        file = self.directory / "alertmanager.yml"
        file.write_text(yaml.safe_dump(made), encoding="utf-8")
        command = [
            artifacts.tool("prometheus-alertmanager", "prometheus-alertmanager"),
            f"--config.file={file}",
            f"--storage.path={self.directory / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{self.ports['alertmanager']}",
            "--cluster.listen-address=",
        ]
        self._stack.enter_context(servers.process(command, log=self.directory / "alertmanager.log"))
        self._answers("alertmanager", "/-/ready")

    def answer(self) -> str:
        return next(self._said(panel) for panel in tile_panels() if panel["title"] == ANSWER)

    def tiles(self) -> dict[str, str]:
        """What each tile says, as Grafana would write it."""
        return {panel["title"]: self._said(panel) for panel in tile_panels()}

    def _said(self, panel: dict[str, Any]) -> str:
        asked = (self.query(artifacts.filled(target["expr"])) for target in panel["targets"])
        found = next(filter(None, asked), [])
        drawn = panel["fieldConfig"]["defaults"]
        if not found:
            return str(drawn.get("noValue", "no data"))
        value = float(found[0]["value"][1])
        for mapping in drawn.get("mappings", []):
            if mapping["type"] == "value" and f"{value:g}" in mapping["options"]:
                return str(mapping["options"][f"{value:g}"]["text"])
        return f"{value:.6g} {drawn.get('unit', '')}".strip()


def tile_panels() -> list[dict[str, Any]]:
    """The tiles of the row that answers whether to switch over."""
    row = ""
    found = []
    for panel in artifacts.dashboard()["panels"]:
        row = panel["title"] if panel["type"] == "row" else row
        if panel["type"] == "stat" and "go or no-go" in row.lower():
            found.append(panel)
    return found


class Death(NamedTuple):
    """who: in words. kill: what happens. back: undo it, where another death shall follow."""

    who: str
    kill: Callable[[World], None]
    back: Callable[[World], None] = lambda _world: None


DEATHS = {
    "reader": Death("the reader", lambda w: w.kill("reader"), lambda w: w.start_role("reader")),
    "validator": Death(
        "the only validator", lambda w: w.kill("validator"), lambda w: w.start_role("validator")
    ),
    "monitor": Death("the monitor", lambda w: w.kill("monitor"), lambda w: w.start_role("monitor")),
    "redis": Death("Redis", World.kill_redis, World.start_redis),
    "comparer": Death("the comparer, half way", lambda w: w.kill("comparer")),
    "hang": Death("the reader hangs (is stopped)", lambda w: w.signal("reader", signal.SIGSTOP)),
    "replicator": Death("the replicator stops", lambda w: w.signal("replicator", signal.SIGSTOP)),
    "prometheus": Death("Prometheus, and is back", World.restart_prometheus),
    "everything": Death("reader, validator and monitor", lambda w: w.kill(*ROLES)),
}


class Outcome(NamedTuple):
    """answers: the first tile, with the second from which it said so. tiles: (before, at the end) by title.
    told: (receiver, alert, second) of each first notification.
    """

    who: str
    answers: list[tuple[float, str]]
    tiles: dict[str, tuple[str, str]]
    told: list[tuple[str, str, float]]

    def pages(self) -> dict[str, float]:
        """What reached the receiver `page`, and when."""
        return {alert: seconds for receiver, alert, seconds in self.told if receiver == "page"}


def observe(world: World, death: Death, seconds: float, enough: Callable[[Outcome], bool]) -> Outcome:
    """Let it die, and note what follows, for so long or until that is enough."""
    before, since = world.tiles(), len(world.receivers.told)
    answers = [(0.0, before[ANSWER])]
    began = time.time()
    death.kill(world)
    died = time.monotonic()
    while True:
        answer = world.answer()
        passed = time.monotonic() - died
        if answer != answers[-1][1]:
            answers.append((passed, answer))
        told: dict[tuple[str, str], float] = {}
        for one in world.receivers.told[since:]:
            if one.firing and _epoch(one.began) >= began - 1 and one.receiver != "watchdog":
                name = one.labels["alertname"].removeprefix("DynamoDBMigration")
                role = f" ({one.labels['role']})" if name.startswith("Role") else ""
                told.setdefault((one.receiver, name + role), one.at_seconds - died)
        found = Outcome(death.who, answers, {}, [(*who, at) for who, at in told.items()])
        if enough(found) or passed > seconds:
            now = world.tiles()
            return found._replace(tiles={title: (before[title], now[title]) for title in now})
        time.sleep(0.2 if world.factor > 1 else 1.0)


def _epoch(rfc3339: str) -> float:
    text = re.sub(r"\.\d+", "", rfc3339).replace("Z", "+0000")
    return float(time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone)


@contextlib.contextmanager
def world(factor: float, *, comparer: bool = False) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ddbmm-watch-") as where:
        made = World(Path(where), factor)
        try:
            made.begin(comparer=comparer)
            yield made
        finally:
            made.close()


# --- the table ---------------------------------------------------------------------------------------------


def row(found: Outcome) -> str:
    """One line of the table in docs/operations.md."""
    answers = ", ".join(text if at == 0 else f"{text} after {at:.0f} s" for at, text in found.answers)
    silent = [
        title for title, (before, after) in found.tiles.items() if before != after and "SILENT" in after
    ]
    wall = answers + (f"; {len(silent)} of {len(found.tiles)} tiles grey" if silent else "")

    def told(*receivers: str) -> str:
        said = [f"`{alert}` {at:.0f} s" for receiver, alert, at in found.told if receiver in receivers]
        return ", ".join(said) or "-"

    return f"| {found.who} | {wall} | {told('page')} | {told('warnings', 'information')} |"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--factor", type=float, default=1, help="how much shorter every duration is")
    parser.add_argument("--only", choices=DEATHS, action="append", help="one death; may be repeated")
    parser.add_argument("--at-once", type=int, default=2, help="worlds side by side")
    parser.add_argument("--seconds", type=float, default=OBSERVED_SECONDS, help="to wait for what follows")
    parser.add_argument("--details", action="store_true", help="print every tile too")
    args = parser.parse_args(argv)
    if args.only and len(args.only) == 1:
        print(json.dumps(_alone(args.only[0], args.factor, args.seconds)), flush=True)
        return 0

    def elsewhere(name: str) -> Outcome:
        options = ["--factor", str(args.factor), "--only", name, "--seconds", str(args.seconds)]
        line = [sys.executable, "-m", "tests.deploy.watch", *options]
        ended = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False)
        if ended.returncode:  # said on standard error
            return Outcome(DEATHS[name].who, [(0.0, "not measured")], {}, [])
        return Outcome(*json.loads(ended.stdout))

    print("| Who dies | What the wall shows | What pages, after | What else is told, after |")
    print("|---|---|---|---|", flush=True)
    with ThreadPoolExecutor(args.at_once) as pool:
        for found in pool.map(elsewhere, args.only or DEATHS):
            print(row(found), flush=True)
            if args.details:
                print(json.dumps(found.tiles, indent=1), file=sys.stderr, flush=True)
    return 0


def _alone(name: str, factor: float, seconds: float) -> Outcome:
    with world(factor, comparer=name == "comparer") as made:
        return observe(made, DEATHS[name], seconds / factor, lambda _found: False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The compose stack's demo without containers: the same processes and files, on free ports of this host.

Reads: deploy/. Writes: a directory. Never: a process that outlives it, a port that is not on 127.0.0.1.

Run as `python -m tests.deploy.live SECONDS` it prints where Prometheus is and stays until Ctrl-C: a world to
draw the dashboard from (tools/render_dashboard.py).
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pipeline.demo import stage, tables
from pipeline.store import StoreView
from tests import servers
from tests.deploy import artifacts
from tests.servers import ROOT

#: In the order in which they are started: a comparison counts for the gate when it began under watch.
ROLES = ("reader", "validator", "monitor", "comparer")
BOOT_SECONDS = 60.0


class Live:
    """Emulated accounts with traffic and faults, every role, Redis with its exporter, Prometheus."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        names = ("source", "target", *ROLES, "exporter", "prometheus")
        self.ports = {name: servers.free_port() for name in names}
        self.truth_file = directory / "demo" / "truth.json"
        self._stack = contextlib.ExitStack()
        self._roles: dict[str, contextlib.ExitStack] = {}
        #: What runs, by its name.
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def url(self, name: str, path: str = "") -> str:
        return f"http://127.0.0.1:{self.ports[name]}{path}"

    # --- processes -----------------------------------------------------------------------------------------

    def start(self, seconds: float, alerts_after: str | None) -> None:
        """seconds: of traffic. alerts_after: what stands for every `for` of the alerts; None: as written."""
        self.redis_url = self._stack.enter_context(
            servers.redis_like(servers.valkey_binary(), self.directory / "redis")
        )
        self._world(seconds)
        for role in ROLES:
            if role == "comparer":
                self._watched()
            self.start_role(role)
        self._watch(alerts_after)

    def close(self) -> None:
        for stack in self._roles.values():
            stack.close()
        self._stack.close()

    def _world(self, seconds: float) -> None:
        for side, account in (("source", stage.SOURCE_ACCOUNT), ("target", stage.TARGET_ACCOUNT)):
            address = f"127.0.0.1:{self.ports[side]}"
            self._python(side, "-m", "pipeline.demo.emulator", account, address)
            self._answers(side, "/moto-api/")
        endpoints = [f"--{side}-endpoint-url={self.url(side)}" for side in ("source", "target")]
        options = [*endpoints, f"--seconds={seconds}", f"--directory={self.directory / 'demo'}"]
        self._python("cutover", "-m", "pipeline.demo.cutover", *options)
        ready = self.directory / "demo" / "ready"
        servers.eventually(ready.exists, BOOT_SECONDS, "the demo's tables")

    def start_role(self, role: str) -> None:
        self.spawn_role(role)
        self._answers(role, "/healthz")

    def spawn_role(self, role: str) -> None:
        own = contextlib.ExitStack()
        self.processes[role] = own.enter_context(
            servers.process(
                [sys.executable, "-m", "pipeline.cli", role],
                log=self.directory / f"{role}.log",
                env=self.environment_of(role),
            )
        )
        self._roles[role] = own

    def _watched(self) -> None:
        """Wait until the reader has said how far the stream is read."""

        def read() -> bool:
            store = StoreView.open(self.redis_url, stage.MIGRATION)
            return store is not None and store.reader_state().watermark_ms > 0

        servers.eventually(read, BOOT_SECONDS, "the reader's watermark")

    def stop_role(self, role: str) -> None:
        self._roles.pop(role).close()

    def environment_of(self, role: str) -> dict[str, str]:
        return self.environment() | {"DDBMM_METRICS_PORT": str(self.ports[role]), "DDBMM_WORKERS": "1"}

    def environment(self) -> dict[str, str]:
        """What the commands of this migration need."""
        file = self.directory / "config.yml"
        settings = yaml.safe_load((ROOT / "deploy" / "demo" / "config.yml").read_text(encoding="utf-8"))
        settings |= {"redis-url": self.redis_url}
        settings |= {f"{side}-endpoint-url": self.url(side) for side in ("source", "target")}
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return {**os.environ, **tables.EMULATED_AWS, "DDBMM_CONFIG": str(file)}

    def _python(self, name: str, *arguments: str) -> None:
        log = self.directory / f"{name}.log"
        self.processes[name] = self._stack.enter_context(
            servers.process([sys.executable, *arguments], log=log)
        )

    def _answers(self, name: str, path: str) -> None:
        def well() -> bool:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(self.url(name, path), timeout=5) as answer,
            ):
                return bool(answer.status == 200)
            return False

        servers.eventually(well, BOOT_SECONDS, f"{name} at {path}, see {self.directory / f'{name}.log'}")

    # --- Prometheus ----------------------------------------------------------------------------------------

    def _watch(self, alerts_after: str | None) -> None:
        exporter = artifacts.tool("prometheus-redis-exporter", "prometheus-redis-exporter")
        listen = f"127.0.0.1:{self.ports['exporter']}"
        command = [exporter, f"--redis.addr={self.redis_url}", f"--web.listen-address={listen}"]
        self._stack.enter_context(servers.process(command, log=self.directory / "exporter.log"))
        home = self.directory / "prometheus"
        home.mkdir()
        self._configuration(home, alerts_after)
        self.start_prometheus()

    def start_prometheus(self) -> None:
        """With what it has kept, if it ran before."""
        home = self.directory / "prometheus"
        command = [
            artifacts.tool("prometheus", "prometheus"),
            f"--config.file={home / 'prometheus.yml'}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}",
        ]
        self.processes["prometheus"] = self._stack.enter_context(
            servers.process(command, log=self.directory / "prometheus.log")
        )
        self._answers("prometheus", "/-/ready")

    def _configuration(self, home: Path, alerts_after: str | None) -> None:
        """The shipped configuration and rules, with this host's ports, and faster."""
        made = yaml.safe_load((artifacts.PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
        made["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        del made["alerting"]
        roles = [{"targets": [f"127.0.0.1:{self.ports[r]}"], "labels": {"role": r}} for r in ROLES]
        exporter = [{"targets": [f"127.0.0.1:{self.ports['exporter']}"]}]
        prometheus = [{"targets": [f"127.0.0.1:{self.ports['prometheus']}"]}]
        made["scrape_configs"] = [
            {"job_name": "ddbmm", "static_configs": roles},
            {"job_name": "redis", "static_configs": exporter},
            {"job_name": "prometheus", "static_configs": prometheus},
        ]
        (home / "rules").mkdir()
        for file in artifacts.RULES:
            rules = yaml.safe_load(file.read_text(encoding="utf-8"))
            for rule in (rule for group in rules["groups"] for rule in group["rules"] if alerts_after):
                for name in ("for", "keep_firing_for"):
                    if name in rule:
                        rule[name] = alerts_after
                rule["expr"] = rule["expr"].replace("> 15 * 60", "> 2")  # a finding's age
            (home / "rules" / file.name).write_text(yaml.safe_dump(rules), encoding="utf-8")
        (home / "prometheus.yml").write_text(yaml.safe_dump(made), encoding="utf-8")

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        return self._ask("query", query=expr)

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        return self._ask("query_range", query=expr, start=start, end=end, step=step)

    def _ask(self, what: str, **parameters: object) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(self.url("prometheus", f"/api/v1/{what}?{query}"), timeout=10) as answer:
            reported = json.load(answer)["data"]
        return list(reported["result"])

    def firing(self, alert: str, **labels: str) -> bool:
        matchers = "".join(f',{name}="{value}"' for name, value in labels.items())
        expr = f'ALERTS{{alertname="DynamoDBMigration{alert}",alertstate="firing"{matchers}}}'
        return bool(self.query(expr))


@contextlib.contextmanager
def running(directory: Path, seconds: float, alerts_after: str | None) -> Iterator[Live]:
    live = Live(directory)
    try:
        live.start(seconds, alerts_after)
        yield live
    finally:
        live.close()


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory(prefix="ddbmm-live-") as where,
        running(Path(where), float(sys.argv[1]), None) as live,
        contextlib.suppress(KeyboardInterrupt),
    ):
        print(live.url("prometheus"), live.redis_url, where, flush=True)
        threading.Event().wait()

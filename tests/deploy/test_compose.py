"""The compose stack without a docker daemon: its schema, its hardening, the files it names."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import load
from tests import servers
from tests.servers import ROOT

FILE = ROOT / "docker-compose.yml"
STACK: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
OURS = ("reader", "validator", "comparer", "monitor")
DEMO = ("dynamodb-source", "dynamodb-target", "demo")
EVERY = pytest.mark.parametrize("name", SERVICES)


def run(*command: object, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    words = [*map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, env=env)


def script(name: str) -> str:
    """A program that a development dependency brings; not everywhere (hadolint: on Linux)."""
    path = Path(sys.executable).parent / name
    return servers.needed(name, path if path.exists() else None, "pip install -e .[dev]")


def compose() -> list[str]:
    """Compose, which needs no daemon to read a file: .ci/run's, or docker's plugin."""
    own = ROOT / ".tools" / "docker-compose"
    if own.exists():
        return [str(own)]
    docker = shutil.which("docker")
    if docker and run(docker, "compose", "version").returncode != 0:
        docker = None
    return [servers.needed("docker compose", docker, ".ci/run shows how to unpack it into .tools"), "compose"]


def default(text: str) -> str:
    """The value with every variable at its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_the_file_follows_the_compose_specification() -> None:
    ended = run(script("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", FILE)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "overrides", ["", *sorted(path.name for path in (ROOT / "deploy" / "hosts").iterdir())]
)
def test_compose_takes_the_file_with_every_override(overrides: str) -> None:
    files = ["-f", FILE, *(["-f", ROOT / "deploy" / "hosts" / overrides] if overrides else [])]
    address = {"DDBMM_HOST_ADDRESS": "192.0.2.1"}
    ended = run(*compose(), *files, "--profile", "demo", "config", "--quiet", env=os.environ | address)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_dockerfile_passes_hadolint_and_needs_no_new_builder() -> None:
    ended = run(script("hadolint"), ROOT / "Dockerfile")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for new in ("# syntax=", "<<", "--link", "--mount"):
        assert new not in text, f"{new} is not known to old engines"


def test_yaml_is_tidy() -> None:
    ended = run(script("yamllint"), "--strict", "-c", ROOT / ".yamllint.yml", FILE, ROOT / "deploy")
    assert ended.returncode == 0, ended.stdout


@EVERY
def test_a_service_has_only_what_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]
    assert service["mem_limit"]
    assert service["cpus"] <= 1, "more than one is refused on a host with one"
    assert service["pids_limit"]
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert not service.get("privileged")


@EVERY
def test_ports_are_published_on_this_host_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@EVERY
def test_an_image_of_others_is_pinned_to_a_version(name: str) -> None:
    image = SERVICES[name]["image"]
    if "build" not in SERVICES[name]:
        assert re.fullmatch(r"[\w/.-]+:v?\d+\.\d+[\w.-]*", image), image


@EVERY
def test_no_secret_stands_in_the_environment(name: str) -> None:
    for variable in SERVICES[name].get("environment", {}):
        assert not re.search("PASSWORD|SECRET|TOKEN|ACCESS_KEY", variable)


@EVERY
def test_a_service_says_whether_it_is_well(name: str) -> None:
    if name == "redis-exporter":  # its image has no shell and no client
        return
    if name in OURS:
        assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    else:
        assert SERVICES[name]["healthcheck"]["test"]


def test_redis_and_the_monitor_have_no_way_out() -> None:
    inner = {name for name, network in STACK["networks"].items() if network and network.get("internal")}
    assert inner == {"state"}
    for name in ("redis", "redis-exporter", "monitor"):
        assert SERVICES[name]["networks"] == ["state"]


@pytest.mark.parametrize("name", OURS)
def test_a_role_may_finish_what_is_under_way(name: str) -> None:
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= 30


@pytest.mark.parametrize("name", ["reader", "validator"])
def test_aws_files_are_read_only_but_for_the_cache_of_tokens(name: str) -> None:
    mounts = {mount["target"]: mount for mount in SERVICES[name]["volumes"]}
    assert mounts["/home/monitor/.aws"]["read_only"] is True
    assert not mounts["/home/monitor/.aws/sso/cache"].get("read_only")
    assert "DDBMM_UID" in SERVICES[name]["user"]


def test_the_demo_is_a_profile_and_everything_else_runs_without_it() -> None:
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["demo"]} == set(DEMO)
    assert {name for name, service in SERVICES.items() if service.get("profiles")} == {*DEMO, "comparer"}
    for name, service in SERVICES.items():
        for needed, how in (service.get("depends_on") or {}).items():
            assert needed not in DEMO or name in DEMO or how["required"] is False


@EVERY
def test_every_file_that_a_service_mounts_exists(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source = mount["source"] if isinstance(mount, dict) else default(mount).split(":")[0]
        source = default(source)
        if source.startswith("./"):
            assert (ROOT / source).exists(), source
        else:
            assert source in STACK["volumes"]


def test_every_variable_is_explained_in_the_example() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    used = set(re.findall(r"\$\{(\w+)", FILE.read_text(encoding="utf-8")))
    assert used - {"DDBMM_VERSION", "DDBMM_REVISION", "DEMO_SECONDS"} == set(
        re.findall(r"(?m)^(\w+)=", example)
    )


@pytest.mark.parametrize("name", ["demo/config.yml", "config.example.yml", "many.example.yml"])
@pytest.mark.parametrize("command", OURS)
def test_the_settings_are_accepted_by_every_role(name: str, command: str) -> None:
    loaded = load([command], {"DDBMM_CONFIG": str(ROOT / "deploy" / name)})
    assert loaded.process.redis_url == "redis://redis:6379/0"
    assert len(loaded.migrations) == (3 if name == "many.example.yml" else 1)


def test_every_role_is_given_the_file_of_many_migrations_that_env_names(tmp_path: Path) -> None:
    """One stack, whatever is in the file: as its migrations' settings, and as nothing else."""
    many = tmp_path / "many.yml"
    shutil.copy(ROOT / "deploy" / "many.example.yml", many)
    env = {**os.environ, "DDBMM_CONFIG_FILE": str(many)}
    words = (*compose(), "-f", FILE, "--profile", "compare", "config", "--format", "json")
    made = json.loads(run(*words, env=env).stdout)
    assert made["secrets"]["monitor_config"]["file"] == str(many)
    for name in OURS:
        service = made["services"][name]
        (secret,) = service["secrets"]
        given = {key: text for key, text in service["environment"].items() if text}
        assert given["DDBMM_CONFIG"] == f"/run/secrets/{secret['source']}"
        loaded = load(service["command"], {**given, "DDBMM_CONFIG": str(many)})
        assert [one.name for one in loaded.migrations] == ["orders", "customers", "sessions"]


def test_the_demo_settings_point_at_the_demo_services() -> None:
    migration = load(["reader"], {"DDBMM_CONFIG": str(ROOT / "deploy" / "demo" / "config.yml")}).migrations[0]
    assert migration.source.endpoint_url == "http://dynamodb-source:8000"
    assert migration.target.endpoint_url == "http://dynamodb-target:8000"
    assert migration.target_table == "orders"


def test_prometheus_finds_every_role_by_its_service_name_and_port() -> None:
    scrapes = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (ddbmm,) = [one for one in scrapes["scrape_configs"] if one["job_name"] == "ddbmm"]
    (found,) = ddbmm["dns_sd_configs"]
    assert tuple(found["names"]) == OURS
    assert f"EXPOSE {found['port']}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_grafana_reads_what_prometheus_scrapes_as_often() -> None:
    provisioned = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioned / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["uid"], source["editable"]) == ("prometheus", False)
    scrapes = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    assert source["jsonData"]["timeInterval"] == scrapes["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((provisioned / "dashboards" / "cutover.yml").read_text())["providers"]
    assert provider["allowUiUpdates"] is False
    mounted = [mount for mount in SERVICES["grafana"]["volumes"] if "deploy/grafana/dashboards" in mount]
    assert mounted == [f"./deploy/grafana/dashboards:{provider['options']['path']}:ro"]


def test_what_watches_real_tables_holds_nothing_that_only_the_demo_needs() -> None:
    """moto alone brings a web server and a client of docker's socket along."""
    pinned = {
        name: re.findall(r"(?m)^([a-z0-9.-]+)==", (ROOT / name).read_text(encoding="utf-8"))
        for name in ("requirements.lock", "requirements-demo.lock")
    }
    of_the_demo = {"moto", "flask", "flask-cors", "werkzeug", "docker", "jinja2", "requests", "cryptography"}
    assert of_the_demo <= set(pinned["requirements-demo.lock"])
    assert not (of_the_demo - {"jinja2"}) & set(pinned["requirements.lock"])
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    stages = re.findall(r"(?m)^FROM (\S+) AS (\S+)$", dockerfile)
    assert stages[-1] == ("base", "runtime"), "what is built without a target"
    assert dockerfile.rstrip().endswith("COPY --from=build /opt/venv /opt/venv")
    for name, service in SERVICES.items():
        if "build" in service:
            target, image = service["build"]["target"], service["image"]
            assert (target == "demo") is (name in DEMO)
            assert image.startswith("dynamodb-migration-monitor-demo:") is (name in DEMO)


def test_nothing_reaches_the_image_but_what_the_dockerfile_copies() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*"
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert {name for line in copied for name in line.split()} == allowed

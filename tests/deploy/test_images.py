"""Images: every tag that is named was checked, and the health of Redis is what it answers."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from tests import servers
from tests.servers import ROOT

CHECKED: dict[str, str] = yaml.safe_load((ROOT / "deploy" / "images.yml").read_text(encoding="utf-8"))
STACK: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
OWN = "dynamodb-migration-monitor"


def named() -> set[str]:
    composed = {service["image"] for service in STACK["services"].values()}
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("Dockerfile", "tests/compose/images.sh")]
    built = re.findall(r"^(?:FROM|stand_in) (\S+:\S+)", "\n".join(texts), re.MULTILINE)
    return {image for image in {*composed, *built} if not image.startswith(OWN)}


def test_every_image_that_is_named_was_checked_and_no_other_is_listed() -> None:
    assert named() == CHECKED.keys()
    assert all(len(how) > 40 for how in CHECKED.values())


@pytest.mark.parametrize("name", ["Makefile", "README.md", "Dockerfile"])
def test_what_is_pinned_is_installed_as_it_is_pinned(name: str) -> None:
    """Left to choose, pip takes what was released since, of what is asked for with an extra, and ends."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if "--require-hashes" in line]
    assert pinned and all("--require-hashes --no-deps -r" in line for line in pinned)


def test_no_image_of_redis_claims_a_debian_that_its_version_never_had() -> None:
    """The official images of Redis are made from trixie from 8.4 on, from bookworm before."""
    for image in named():
        if found := re.fullmatch(r"redis:(\d+)\.(\d+)\S*-(trixie|bookworm)", image):
            version = int(found[1]), int(found[2])
            assert (found[3] == "trixie") == (version >= (8, 4)), image


# --- health ------------------------------------------------------------------------------------------------


def healthy(url: str, override: Path | None = None, password_file: str = "") -> bool:
    """What the stack's health check says of this server."""
    stack = yaml.safe_load(override.read_text(encoding="utf-8")) if override else STACK
    kind, text = stack["services"]["redis"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    cli = servers.needed("redis-cli", shutil.which("redis-cli"), "apt-get install redis-tools")
    port = redis.Redis.from_url(url).connection_pool.connection_kwargs["port"]
    text = text.replace("$$", "$").replace("redis-cli", f"{cli} -p {port}")
    text = text.replace("/run/secrets/redis_password", password_file)
    return subprocess.run(["sh", "-c", text], capture_output=True, timeout=30, check=False).returncode == 0


def misconf(client: "redis.Redis", directory: Path) -> None:
    """A background save that failed."""
    client.config_set("save", "1 1")
    client.set("k", "v")
    (directory / "there.rdb").mkdir()
    (directory / "there.rdb" / "x").touch()
    client.bgsave()
    servers.eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] != "ok", 30)


def password(client: "redis.Redis", _directory: Path) -> None:
    client.config_set("requirepass", "secret")


@pytest.mark.parametrize("refuses", [misconf, password])
def test_a_redis_that_refuses_is_not_healthy(
    tmp_path: Path, refuses: Callable[["redis.Redis", Path], None]
) -> None:
    with servers.redis_like(servers.redis_binary(), tmp_path / "r", "--dbfilename", "there.rdb") as url:
        assert healthy(url)
        refuses(redis.Redis.from_url(url), tmp_path / "r")
        assert not healthy(url)


def test_one_with_a_password_is_healthy_where_its_check_knows_it(tmp_path: Path) -> None:
    secret = tmp_path / "redis_password"
    secret.write_text("requirepass secret\n")
    with servers.redis_like(servers.redis_binary(), tmp_path / "r", "--requirepass", "") as url:
        redis.Redis.from_url(url).config_set("requirepass", "secret")
        assert healthy(url, ROOT / "deploy" / "hosts" / "redis.yml", str(secret))


def test_a_server_with_the_stacks_configuration_makes_no_snapshots(tmp_path: Path) -> None:
    """One that fails would have all writes refused."""
    lines = (ROOT / "deploy" / "redis" / "redis.conf").read_text(encoding="utf-8").splitlines()
    assert 'save ""' in lines

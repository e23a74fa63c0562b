"""Files of AWS's SDK that it would pass over in silence."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.aws.credential_files import Trouble, troubles

NOBODY = 65534
SIGNING_ON = "[profile main]\nsso_session = ours\n[profile plain]\nregion = eu-west-1\n"


@pytest.fixture
def home() -> Iterator[Path]:
    """A home whose files another user may find; pytest's own directories are closed to others."""
    made = Path(tempfile.mkdtemp(prefix="ddbmm-home-"))
    made.chmod(0o755)
    (made / ".aws" / "sso" / "cache").mkdir(parents=True)
    try:
        yield made
    finally:
        shutil.rmtree(made)


@contextlib.contextmanager
def somebody_else() -> Iterator[None]:
    """Another user than the files' owner; root may read everything."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def found(home: Path, *profiles: str | None) -> list[Trouble]:
    return list(troubles(profiles or (None,), {}, home))


def test_no_files_are_no_trouble(home: Path) -> None:
    shutil.rmtree(home / ".aws")
    assert found(home) == []


@pytest.mark.parametrize("name", ["credentials", "config"])
def test_a_file_of_another_user_is_told_with_owner_and_mode(home: Path, name: str) -> None:
    file = home / ".aws" / name
    file.write_text("[default]\n")
    file.chmod(0o600)
    assert found(home) == []
    with somebody_else():
        (trouble,) = found(home)
    assert trouble.says == f"{file} is there but cannot be read by uid {NOBODY}: owner 0, mode 0600"


def test_a_closed_directory_is_told_once(home: Path) -> None:
    (home / ".aws").chmod(0o700)
    with somebody_else():
        (trouble,) = found(home)
    assert str(home / ".aws") in trouble.says


def test_a_cache_of_sso_tokens_must_be_writable_for_profiles_that_sign_on(home: Path) -> None:
    (home / ".aws" / "config").write_text(SIGNING_ON)
    assert found(home, "main") == []
    with somebody_else():
        assert found(home, "plain") == []
        (trouble,) = found(home, "plain", "main")
    assert "AWS_SSO_CACHE" in trouble.remedy


def test_files_named_by_the_environment_are_looked_at(home: Path) -> None:
    elsewhere = home / "elsewhere"
    elsewhere.write_text("[default]\n")
    elsewhere.chmod(0o600)
    with somebody_else():
        (trouble,) = troubles([None], {"AWS_SHARED_CREDENTIALS_FILE": str(elsewhere)}, home)
    assert str(elsewhere) in trouble.says


@pytest.mark.parametrize("content", [b"sso_session = before any section", b"[default]\n\xff = 1"])
def test_a_file_that_cannot_be_understood_is_the_sdk_s_to_refuse(home: Path, content: bytes) -> None:
    config = home / "odd"
    config.write_bytes(content)
    assert list(troubles([None], {"AWS_CONFIG_FILE": str(config)}, home)) == []

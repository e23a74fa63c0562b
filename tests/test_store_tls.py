"""The store over TLS and with a password, against the Redis that Debian ships."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from pipeline.errors import StoreUnavailable, StoreUnusable
from pipeline.store import RedisConnection, StoreView, begin, check_server
from tests import servers

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A TLS-only server with a password: its port, and the certificate that vouches for it."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = servers.certificate(directory)
    port, plain = servers.free_port(), servers.free_port()
    options = [
        *("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
        *("--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no"),
    ]
    with servers.redis_like(servers.redis_binary(), directory, *options, port=plain) as url:
        redis.Redis.from_url(url).config_set("requirepass", PASSWORD)
        yield port, certificate


def test_a_store_behind_tls_and_a_password_works(tls: tuple[int, Path]) -> None:
    port, certificate = tls
    connection = RedisConnection(
        f"rediss://:{quote(PASSWORD)}@127.0.0.1:{port}/0?ssl_ca_certs={certificate}", "m"
    )
    assert check_server(connection).kind == "redis"
    assert StoreView(connection, begin(connection, {"target_table": "t"})).ledger().balanced


def test_a_wrong_password_is_said(tls: tuple[int, Path]) -> None:
    port, certificate = tls
    with pytest.raises(StoreUnusable, match="credentials"):
        check_server(RedisConnection(f"rediss://:wrong@127.0.0.1:{port}/0?ssl_ca_certs={certificate}", "m"))


def test_a_certificate_that_nobody_vouches_for_is_refused(tls: tuple[int, Path]) -> None:
    port, _ = tls
    with pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
        check_server(RedisConnection(f"rediss://:{quote(PASSWORD)}@127.0.0.1:{port}/0", "m"))


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ("ssl_ca_certs={gone}", StoreUnusable),
        ("ssl_ca_certs={directory}", StoreUnusable),
        ("ssl_ca_certs={certificate}&ssl_certfile={gone}&ssl_keyfile={gone}", StoreUnusable),
        ("ssl_ca_certs={rubbish}", StoreUnavailable),
        ("ssl_ca_certs={certificate}&ssl_certfile={rubbish}&ssl_keyfile={rubbish}", StoreUnavailable),
        ("ssl_check_hostname=yes", StoreUnavailable),
    ],
)
def test_what_is_wrong_with_the_files_of_tls_is_said_with_the_options_that_name_them(
    tls: tuple[int, Path], tmp_path: Path, options: str, kind: type[StoreUnavailable]
) -> None:
    """Nothing is wrong with the server, nor with the way to it."""
    port, certificate = tls
    (rubbish := tmp_path / "rubbish").write_text("none\n")
    files = {"gone": tmp_path / "gone", "directory": tmp_path, "rubbish": rubbish, "certificate": certificate}
    url = f"rediss://:{quote(PASSWORD)}@127.0.0.1:{port}/0?{options.format(**files)}"
    with pytest.raises(StoreUnavailable) as refused:
        RedisConnection(url, "m").time_ms()
    assert type(refused.value) is kind and "ssl_ca_certs" in refused.value.remedy
    assert str(tmp_path) not in str(refused.value), "any part of the URL may be one of the password"


def test_a_socket_that_is_not_there_is_no_file_of_tls(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached") as refused:
        RedisConnection(f"unix://{tmp_path}/gone.sock", "m").time_ms()
    assert "TLS" not in str(refused.value)

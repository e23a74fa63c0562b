"""A Redis URL: what can be used, what is refused and how; and that no message repeats a part of it."""

import os
import subprocess
import sys
import traceback

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import parse_url

from pipeline.config import load
from pipeline.core.redis_url import Form, fault_of, where
from pipeline.errors import ConfigurationError, UsageError
from pipeline.store import RedisConnection

PASSWORD = "Zq7XkV9pLm"
#: Pieces of it that a message would show if it took the URL apart.
PIECES = ("Zq7X", "XkV9", "9pLm")

LOCATED = {
    "redis+sentinel://a:1,b,[::1]:3/mymaster/5": (
        Form.SENTINEL,
        (("a", 1), ("b", 26379), ("::1", 3)),
        "mymaster",
    ),
    "redis+sentinel://a/my.master_1-x": (Form.SENTINEL, (("a", 26379),), "my.master_1-x"),
    f"redis+sentinel://u:{PASSWORD}@a,b/s/0?sentinel_username=x&sentinel_password=y": (
        Form.SENTINEL,
        (("a", 26379), ("b", 26379)),
        "s",
    ),
    f"rediss+sentinel://:{PASSWORD},@a/s?ssl_ca_certs=/ca.pem": (Form.SENTINEL, (("a", 26379),), "s"),
    "redis+cluster://a": (Form.CLUSTER, (("a", 6379),), ""),
    "redis+cluster://a:1,b/0": (Form.CLUSTER, (("a", 1), ("b", 6379)), ""),
    f"rediss+cluster://u:{PASSWORD}@a,b/?ssl_check_hostname=no": (
        Form.CLUSTER,
        (("a", 6379), ("b", 6379)),
        "",
    ),
}
USABLE = (
    "redis://localhost",
    "redis://localhost/",
    "redis://localhost:6379/0",
    "redis://127.0.0.1:6379/15/",
    "redis://[::1]:6379/0",
    "rediss://host:6380/0?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required",
    "rediss://host?ssl_check_hostname=False",
    f"redis://:{PASSWORD}@host:6379/0",
    f"redis://user:{PASSWORD}@host/0",
    f"redis://:{PASSWORD}@{PASSWORD}@host/0",
    f"redis://:{PASSWORD}:{PASSWORD}@host/0",
    f"redis://:{PASSWORD}%2F%23%5B%40%25%3F@host/0",
    f"redis://:100%{PASSWORD}@host/0",
    f"redis://host/?username=u&password={PASSWORD}&db=3",
    "unix:///run/redis.sock?db=1",
    "unix:///run/a%20b%23c@d.sock",
    f"unix://user:{PASSWORD}@/run/redis.sock",
    *LOCATED,
)
REFUSED = (
    f"redis://:{PASSWORD}/{PASSWORD}@host:6379/0",
    f"redis://:{PASSWORD}#{PASSWORD}@host:6379/0",
    f"redis://:{PASSWORD}?{PASSWORD}@host:6379/0",
    f"redis://:{PASSWORD}[{PASSWORD}@host:6379/0",
    f"redis://:{PASSWORD}]{PASSWORD}@host:6379/0",
    f"redis://:[{PASSWORD}]@host:6379/0",
    f"redis://:12/{PASSWORD}@host:6379/0",
    f"redis://:12?{PASSWORD}@host:6379/0",
    f"redis://h:12/{PASSWORD}@host:6379/0",
    f"redis://:{PASSWORD} {PASSWORD}@host:6379/0",
    f"redis://:{PASSWORD}\n@host:6379/0",
    f"redis://:{PASSWORD}\u202e@host:6379/0",
    f"redis://:{PASSWORD}%FF@host:6379/0",
    f"redis://{PASSWORD}@host:6379/0",
    f"redis://{PASSWORD}:@host:6379/0",
    f"redis://:{PASSWORD}@",
    f"redis://:{PASSWORD}@/0",
    f"redis://:{PASSWORD}@host:{PASSWORD}/0",
    f"redis://:{PASSWORD}@host:99999/0",
    f"redis://:{PASSWORD}@host:0/0",
    f"redis://:{PASSWORD}@host/{PASSWORD}",
    f"redis://:{PASSWORD}@host/1/2",
    f"redis://:{PASSWORD}@host/-1",
    f"redis://:{PASSWORD}@host/?{PASSWORD}=1",
    f"redis://:{PASSWORD}@host/?{PASSWORD}",
    f"redis://:{PASSWORD}@host/?decode_responses=1",
    f"redis://:{PASSWORD}@host/?protocol=2",
    f"redis://:{PASSWORD}@host/?socket_timeout=x",
    f"redis://:{PASSWORD}@host/?ssl_ca_certs=/x",
    f"rediss://:{PASSWORD}@host/?ssl_keyfile=/x",
    f"rediss://:{PASSWORD}@host/?ssl_cert_reqs=maybe",
    f"redis://host/?password={PASSWORD}&password={PASSWORD}",
    f"redis://host/?db={PASSWORD}",
    "redis://host/?password=",
    f"{PASSWORD}",
    f"http://:{PASSWORD}@host",
    f"redis:{PASSWORD}",
    f"redis:/:{PASSWORD}@host",
    "redis://",
    "redis:///0",
    f"unix://{PASSWORD}/redis.sock",
    f"unix://:{PASSWORD}/{PASSWORD}@/run/redis.sock",
    "unix://",
    "unix:///",
    f"redis://[{PASSWORD}",
    f"redis://[::1{PASSWORD}]/0",
    "redis+sentinel://a",
    "redis+sentinel://a/",
    f"redis+sentinel://:{PASSWORD}@a/service/{PASSWORD}",
    f"redis+sentinel://:{PASSWORD}@a/{PASSWORD}%20/0",
    f"redis+sentinel://{PASSWORD}@a/s",
    f"redis+sentinel://:{PASSWORD}/{PASSWORD}@a/s",
    f"redis+sentinel://:{PASSWORD}@a:{PASSWORD},b/s",
    f"redis+sentinel://a,{PASSWORD}:99999/s",
    "redis+sentinel://a,,b/s",
    "redis+sentinel://a,b:0/s",
    f"redis+sentinel://a/s?{PASSWORD}=1",
    f"redis+sentinel://a/s?sentinel_{PASSWORD}=1",
    f"redis+sentinel://a/s?sentinel_password={PASSWORD}&sentinel_password={PASSWORD}",
    "redis+sentinel://a/s?ssl_ca_certs=/x",
    f"redis+cluster://:{PASSWORD}#@a",
    f"redis+cluster://:{PASSWORD}?@a",
    f"redis+cluster://[{PASSWORD},a",
    f"redis+cluster://[::1]{PASSWORD},a",
    "redis+cluster://",
    "redis+cluster:a",
    "redis+cluster://a/1",
    "redis+cluster://a/?db=2",
    f"redis+cluster://a/{PASSWORD}",
    f"redis+cluster://a?sentinel_password={PASSWORD}",
    f"unix+cluster://{PASSWORD}",
    f"redis+{PASSWORD}://a",
    "",
)


@pytest.mark.parametrize("url", USABLE)
def test_a_url_that_can_be_used_reaches_the_client_as_it_is_meant(url: str) -> None:
    assert fault_of(url) == ""
    kwargs = RedisConnection(url, "m").redis.connection_pool.connection_kwargs
    if PASSWORD in url:
        assert PASSWORD in kwargs["password"]


def test_a_password_with_every_character_arrives_whole() -> None:
    kwargs = RedisConnection(
        "redis://:a%3A%2F%3F%23%5B%5D%40%25%20b@host/0", "m"
    ).redis.connection_pool.connection_kwargs
    assert (kwargs["password"], kwargs["host"]) == ("a:/?#[]@% b", "host")


@pytest.mark.parametrize("url", LOCATED)
def test_who_knows_where_the_server_is_is_read_from_the_url(url: str) -> None:
    found = where(url)
    assert (found.form, found.hosts, found.service) == LOCATED[url]


def test_the_sentinels_are_asked_with_credentials_of_their_own_and_the_same_certificates() -> None:
    found = where("rediss+sentinel://u:p@a/s/3?ssl_ca_certs=/ca&sentinel_username=x&sentinel_password=y")
    asked, server = parse_url(found.asked), parse_url(found.server)
    assert (asked["username"], asked["password"], asked["ssl_ca_certs"]) == ("x", "y", "/ca")
    assert (server["username"], server["password"], server["ssl_ca_certs"], server["db"]) == (
        *("u", "p", "/ca"),
        3,
    )
    assert "password" not in parse_url(where("redis+sentinel://u:p@a/s").asked)


def test_a_plus_is_a_plus_wherever_it_stands() -> None:
    """Passwords of random bytes in base64 have one."""
    for url in ("redis://:ab+%2F=@h/0", "redis://h/0?password=ab+/=", "redis://h/0?password=ab%2B%2F%3D"):
        assert parse_url(where(url).server)["password"] == "ab+/="
    found = where("redis+sentinel://:c+d@h/s/0?sentinel_password=ab+/=")
    assert (parse_url(found.asked)["password"], parse_url(found.server)["password"]) == ("ab+/=", "c+d")


@pytest.mark.parametrize("url", REFUSED)
def test_a_url_that_cannot_be_used_is_refused_without_a_part_of_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        RedisConnection(url, "m")
    assert not any(piece in "".join(traceback.format_exception(refused.value)) for piece in PIECES)
    if url:
        with pytest.raises((UsageError, ConfigurationError)) as given_in_vain:
            load(["status", "--migration", "m", "--redis-url", url], {})
        assert not any(piece in str(given_in_vain.value) for piece in PIECES)
        assert "--redis-url" in str(given_in_vain.value)


@pytest.mark.parametrize(
    "url", [REFUSED[0], REFUSED[3], REFUSED[6], REFUSED[23], f"redis://:{PASSWORD}@127.0.0.1:1"]
)
@pytest.mark.parametrize("command", ["status", "config", "monitor", "doctor"])
def test_no_command_shows_a_part_of_the_credentials(url: str, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", command, "--target-table", "t", "--log-level", "debug"],
        env={**os.environ, "DDBMM_REDIS_URL": url, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not any(piece in done.stdout + done.stderr for piece in PIECES)
    assert "Traceback" not in done.stderr


CHARACTERS = st.text(st.sampled_from("aB1:/?#[]@% &=.é\n\x00"), max_size=12)


@given(CHARACTERS, CHARACTERS, CHARACTERS)
def test_whatever_is_written_is_refused_or_understood_by_the_client(user: str, host: str, rest: str) -> None:
    url = f"redis://{user}@{host}{rest}"
    if not fault_of(url):
        redis.Redis.from_url(url).connection_pool.make_connection()


@given(st.text(max_size=30))
def test_no_text_at_all_is_a_defect(text: str) -> None:
    for begins in ("", "redis://", "rediss://h?", "unix://", "redis+sentinel://", "redis+cluster://h,"):
        if not fault_of(begins + text):
            RedisConnection(begins + text, "m").redis.connection_pool.make_connection()

"""One side's AWS session: credentials, clients, endpoint, clock skew; foreign errors become ours here.

Reads: AWS configuration and environment through boto3. Writes: nothing. Never: retries (the callers' schedules are
the only ones), secrets in messages.
"""

from typing import Any, Protocol

import msgspec


class SideConfig(msgspec.Struct, frozen=True):
    """How to reach one side ("source", "target" or "stream"). None: what boto3 finds on its own."""

    side: str
    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    role_arn: str | None = None
    external_id: str | None = None


class Identity(msgspec.Struct, frozen=True):
    """Who we are on a side. `account` and `arn` are None where no STS answers (emulators)."""

    account: str | None
    arn: str | None
    region: str
    endpoint: str


class Observer(Protocol):
    """Told about every request; `code` is the error's (AWS code or exception class), None for success."""

    def request(self, operation: str, seconds: float, code: str | None) -> None: ...

    def consumed(self, units: float) -> None: ...


class Silent:
    """An Observer that looks away."""

    def request(self, operation: str, seconds: float, code: str | None) -> None:
        pass

    def consumed(self, units: float) -> None:
        pass


class Connection:
    """Session and clients of one side. Make it after spawn, never before. Thread-safe.

    An expired credential raises CredentialsExpired; the next call after a back-off (1 s … 60 s) builds a new session by
    itself, calls before that raise CredentialsExpired without a request. So callers just try again later.
    """

    config: SideConfig
    region: str
    endpoint: str

    def __init__(self, config: SideConfig, observer: Observer | None = None, *, pool_size: int = 16) -> None:
        raise NotImplementedError

    @property
    def skew_ms(self) -> int | None:
        """AWS's clock minus this host's, ± 1 s, from the last answers' Date header; None before the first."""
        raise NotImplementedError

    def identity(self) -> Identity:
        raise NotImplementedError

    def rebuild(self) -> None:
        """New session, credentials and clients, now."""
        raise NotImplementedError

    def call(self, service: str, operation: str, **params: Any) -> Any:
        """One request, one attempt: the decoded body (see aws_decode). Raises AwsErrors and ConfigurationError."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

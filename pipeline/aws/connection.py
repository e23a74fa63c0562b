"""One side's connection to AWS: requests, counted; over a session that others may share.

Reads: AWS through `access`. Writes: nothing. Retries are left to the callers' schedules.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.aws.access import Access, Identity, Observer
from pipeline.aws.date_clock import DateClock
from pipeline.aws.operations import Body, Operation
from pipeline.core.model import SideConfig


class Silent:
    """An Observer that looks away."""

    def request(self, operation: str, seconds: float, code: str | None) -> None:
        pass

    def consumed(self, operation: str, units: float) -> None:
        pass


class Connection:
    """Session and clients of one side. Make it after spawn, never before (a client does not survive a fork).

    Thread-safe. An expired credential raises CredentialsExpired; the next call after a back-off builds a new
    session by itself, calls before it raise CredentialsExpired without a request. So callers just try again.
    Raises ConfigurationError when the profile, region or endpoint cannot be used.
    """

    def __init__(
        self,
        config: SideConfig,
        observer: Observer | None = None,
        *,
        pool_size: int = 16,
        clock: Callable[[], float] = time.monotonic,
        beside: "Connection | None" = None,
    ) -> None:
        """beside: one that is reached alike, whose session this one shares; only their requests are counted
        apart.
        """
        self.config = config
        self.observer: Observer = observer or Silent()
        self.access: Access = beside.access if beside else Access(config, pool_size=pool_size, clock=clock)

    @property
    def endpoint(self) -> str:
        """The URL that requests really go to, whatever flag, variable or profile it came from."""
        return self.access.endpoint

    @property
    def region(self) -> str:
        return self.access.region

    @property
    def dates(self) -> DateClock:
        """The time there."""
        return self.access.dates

    @property
    def skew_ms(self) -> int | None:
        """AWS's clock minus this host's, ± 1 s, from the Date header; None before the first answer."""
        aws_ms = self.dates.about_ms()
        return None if aws_ms is None else aws_ms - round(time.time() * 1000)

    @property
    def credentials_expire_at_seconds(self) -> float | None:
        """Unix time at which the credentials in use end; None for those that do not, or are not known yet."""
        return self.access.credentials_expire_at_seconds

    def rebuild(self) -> None:
        """New session, credentials and services, now."""
        self.access.rebuild()

    def identity(self) -> Identity:
        """Asks STS who we are, unless that would ask the real STS about an emulator's credentials."""
        return self.access.identity(self.observer)

    def call(self, operation: Operation[Body], request: bytes | Mapping[str, object]) -> Body:
        """One request, one attempt: the decoded answer. request: its JSON, or what it is made of.

        Raises Throttled, AwsUnavailable, CredentialsExpired, AccessDenied, NotFound, MalformedResponse,
        IteratorExpired, Trimmed, AwsError, ConfigurationError.
        """
        return self.access.call(self.observer, operation, request)

    def is_beside(self, service: str) -> bool:
        """Whether another service is reached where ours is: at AWS, or at an emulator."""
        return self.access.is_beside(service)

    def ask(self, service: str, method: str, **params: Any) -> dict[str, Any]:
        """One request, one attempt, through boto3's own client of another service than DynamoDB.

        Raises what `call` does.
        """
        return self.access.ask(self.observer, service, method, params)

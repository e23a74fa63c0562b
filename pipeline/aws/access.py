"""An AWS session: credentials, clients, endpoint, the time there; a new session when credentials expire.

Reads: AWS configuration and environment through boto3, STS. Writes: nothing. Retries are left to the callers'
schedules; no message holds a secret.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import boto3
import botocore.session
import msgspec
import structlog
from botocore.config import Config
from botocore.credentials import DeferredRefreshableCredentials

from pipeline.aws import prompts
from pipeline.aws.date_clock import DateClock
from pipeline.aws.errors import (
    FOREIGN,
    UNUSABLE,
    NoCredentials,
    OddAnswer,
    asking_botocore,
    code_of,
    headers_of,
    translate,
)
from pipeline.aws.hosts import PRICE_LIST, is_aws, loader, price_list_region
from pipeline.aws.operations import Body, Operation, ServiceName
from pipeline.aws.service import USER_AGENT, Service
from pipeline.backoff import Backoff
from pipeline.core.model import SideConfig
from pipeline.core.quoting import masked
from pipeline.errors import (
    AwsError,
    ConfigurationError,
    CredentialsExpired,
    MalformedResponse,
    MonitorError,
)

log = structlog.get_logger(__name__)

#: boto3's defaults block 240 s on a stalled socket; SIGTERM has to be through in 30.
CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 5
#: Between rebuilds of a session whose credentials AWS refuses.
REBUILD_BACKOFF = Backoff(1.0, 60.0)

_Answer = TypeVar("_Answer")
_Made = TypeVar("_Made")


class Identity(msgspec.Struct, frozen=True):
    """Who we are on a side. `account` and `arn` are None where no STS answers (emulators)."""

    account: str | None
    arn: str | None
    region: str
    endpoint: str


class Observer(Protocol):
    """Sees every request; `code` is the error's (see errors.code_of), None for success."""

    def request(self, operation: str, seconds: float, code: str | None) -> None: ...

    def consumed(self, operation: str, units: float) -> None: ...


class Access:
    """Session and clients, shared by the connections that are reached alike; see `connection.Connection`."""

    def __init__(self, config: SideConfig, *, pool_size: int, clock: Callable[[], float]) -> None:
        self.config = config
        self._client_config = _client_config(pool_size)
        self._clock = clock
        self._lock = threading.RLock()
        self._refusals = 0  # sessions in a row whose credentials AWS refused
        self._rebuild_at: float | None = None  # None: the session is not known to be refused
        self._has_worked = False  # AWS has answered once: the settings are right
        self.dates = DateClock(clock)
        self.rebuild()

    @property
    def credentials_expire_at_seconds(self) -> float | None:
        """Unix time at which the credentials in use end; None for those that do not, or are not known yet."""
        with self._lock:
            # botocore says this nowhere in public; without the attribute the metric is simply absent.
            expiry = getattr(self._session.get_credentials(), "_expiry_time", None)
        return None if expiry is None else float(expiry.timestamp())

    def rebuild(self) -> None:
        """New session, credentials and services, now."""
        with self._lock:
            self._rebuild_at = None
            self._services: dict[str, Service] = {}
            self._clients: dict[str, Any] = {}
            try:
                with asking_botocore(NoCredentials):
                    self._session = _session(self.config)
            except UNUSABLE as error:
                raise self._unusable(error) from error
            service = self._service("dynamodbstreams" if self.config.side == "stream" else "dynamodb")
            _check_endpoint(self.config.side, service.endpoint)
            self.region, self.endpoint = service.region, service.endpoint
        log.debug(
            "aws session made",
            side=self.config.side,
            endpoint=self.endpoint,
            region=self.region,
            profile=self.config.profile,
            role=self.config.role_arn,
        )

    def identity(self, observer: Observer) -> Identity:
        """Asks STS who we are, unless that would ask the real STS about an emulator's credentials."""
        account = arn = None
        session, sts = self._current(), self._made(lambda: self._client("sts"))
        if is_aws(sts.meta.endpoint_url) == is_aws(self.endpoint):
            try:
                answer = self._asked(
                    observer, "GetCallerIdentity", session, lambda: _sent(sts.get_caller_identity, {})
                )
                account, arn = answer.get("Account"), answer.get("Arn")
            except CredentialsExpired:
                raise
            except AwsError as error:
                log.info("account unknown", side=self.config.side, reason=str(error))
        return Identity(account, arn, self.region, self.endpoint)

    def call(
        self, observer: Observer, operation: Operation[Body], request: bytes | Mapping[str, object]
    ) -> Body:
        """See `Connection.call`."""
        content = request if isinstance(request, bytes) else msgspec.json.encode(request)
        with self._lock:
            session, service = self._current(), self._service(operation.service)

        def ask() -> tuple[Mapping[str, str], Body]:
            answer = service.send(operation.name, content)
            return answer.headers, operation.decode(answer.body, answer.headers.get("x-amz-crc32"))

        return self._asked(observer, operation.name, session, ask)

    def ask(self, observer: Observer, service: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """See `Connection.ask`."""
        with self._lock:
            session = self._current()
            if service not in self._clients:
                self._clients[service] = self._client(service, None)
            send = getattr(self._clients[service], method)
        return self._asked(observer, method, session, lambda: _sent(send, params))

    def _asked(
        self,
        observer: Observer,
        operation: str,
        session: boto3.Session,
        ask: Callable[[], tuple[Mapping[str, str], _Answer]],
    ) -> _Answer:
        """What `ask` gets beside the headers; errors as ours, and all that is noted of a request."""
        started = self._clock()
        headers: Mapping[str, str] = {}
        code: str | None = None
        try:
            headers, answer = ask()
        except FOREIGN as error:
            code, headers = code_of(error), headers_of(error)
            ours = self._ours(error, operation)
            if isinstance(ours, CredentialsExpired):
                self._refused(session)
            raise ours from error
        except MalformedResponse as error:
            code = code_of(error)
            raise
        finally:
            observer.request(operation, self._clock() - started, code)
            if date := headers.get("date"):
                self.dates.saw(date, started, self._clock())
        self._refusals, self._has_worked = 0, True
        return answer

    def _current(self) -> boto3.Session:
        """The session; a new one first, when the old one was refused long enough ago."""
        with self._lock:
            if self._rebuild_at is not None:
                wait_seconds = self._rebuild_at - self._clock()
                if wait_seconds > 0:
                    raise CredentialsExpired(
                        f"{self.config.side}: credentials were refused, new session in {wait_seconds:.0f} s"
                    )
                self.rebuild()
            return self._session

    def _service(self, name: ServiceName) -> Service:
        """The current session's."""
        if name not in self._services:
            self._services[name] = self._made(
                lambda: Service(self._client(name, self.config.endpoint_url), self._session.get_credentials)
            )
        return self._services[name]

    def is_beside(self, service: str) -> bool:
        """Whether another service is reached where ours is: at AWS, or at an emulator."""
        found: str = self._made(lambda: self._client(service).meta.endpoint_url)
        return is_aws(found) == is_aws(self.endpoint)

    def _client(self, service: str, endpoint_url: str | None = None) -> Any:
        return self._session.client(
            service,
            region_name=price_list_region(self.region) if service == PRICE_LIST else None,
            endpoint_url=endpoint_url,
            config=self._client_config,
        )

    def _made(self, make: Callable[[], _Made]) -> _Made:
        try:
            with asking_botocore(NoCredentials, ValueError):
                return make()
        except UNUSABLE as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> MonitorError:
        """No session or client can be made of what is configured, at least not now."""
        ours = self._ours(error, "session")
        if isinstance(ours, CredentialsExpired):
            with self._lock:
                self._back_off()
        return ours

    def _ours(self, error: Exception, operation: str) -> MonitorError:
        """As ours. What was right before is only away for a while: a profile's file that is being rewritten,
        the credentials of a machine whose metadata service is.
        """
        ours = translate(error, self.config.side, operation)
        if self._has_worked and isinstance(ours, ConfigurationError):
            return CredentialsExpired(ours.problem, ours.remedy)
        return ours

    def _refused(self, session: boto3.Session) -> None:
        """AWS refused `session`'s credentials. Many threads may say so about one session: it counts once."""
        with self._lock:
            if session is self._session:
                self._back_off()

    def _back_off(self) -> None:
        if self._rebuild_at is None:
            self._refusals += 1
            wait_seconds = REBUILD_BACKOFF.after(self._refusals)
            self._rebuild_at = self._clock() + wait_seconds
            log.warning("aws credentials refused", side=self.config.side, new_session_in_seconds=wait_seconds)


def _check_endpoint(side: str, endpoint: str) -> None:
    """Raises ConfigurationError for one with a user or a question, wherever it came from, or no port.

    botocore fails on such a port at the first request, with a ValueError.
    """
    try:
        _ = urlsplit(endpoint).port
    except ValueError:
        raise ConfigurationError(
            f"{side}: the endpoint's port is no number from 1 to 65535", f"check the {side} endpoint's URL"
        ) from None
    if "@" in endpoint or "?" in endpoint or "#" in endpoint:
        raise ConfigurationError(
            f"{side}: the endpoint {masked(endpoint)} holds a user, password or question",
            "requests are signed with the profile's credentials: leave it out, in AWS_ENDPOINT_URL… or the "
            "profile too",
        )


def _client_config(pool_size: int) -> Config:
    return Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        # One attempt: a monitor that is throttled yields, and a failed read is due again on our schedule.
        # botocore's own retries stop working anyway once their quota is spent (~ 11 failures).
        retries={"mode": "standard", "total_max_attempts": 1},
        parameter_validation=False,
        user_agent=USER_AGENT,
        # One endpoint for a region, not one for each account in it.
        account_id_endpoint_mode="disabled",
        max_pool_connections=pool_size,
        tcp_keepalive=True,
    )


def _session(config: SideConfig) -> boto3.Session:
    base = _boto_session(config)
    return base if config.role_arn is None else _boto_session(config, _AssumedRole(config, base))


def _boto_session(config: SideConfig, role: "_AssumedRole | None" = None) -> boto3.Session:
    core = botocore.session.get_session()
    core.register_component("data_loader", loader())
    if role is not None:
        core.register_component("credential_provider", role)
    session = boto3.Session(botocore_session=core, profile_name=config.profile, region_name=config.region)
    if role is None:
        prompts.refuse(core, config.profile)
    return session


class _AssumedRole:
    """botocore's "credential_provider": the role's credentials, renewed by AssumeRole before they expire."""

    def __init__(self, config: SideConfig, base: boto3.Session) -> None:
        self._request = {"RoleArn": config.role_arn, "RoleSessionName": f"migration-monitor-{config.side}"}
        if config.external_id is not None:
            self._request["ExternalId"] = config.external_id
        self._sts = base.client("sts", config=_client_config(pool_size=1))

    def load_credentials(self) -> DeferredRefreshableCredentials:
        return DeferredRefreshableCredentials(refresh_using=self._assume, method="assume-role")

    def _assume(self) -> dict[str, str]:
        given = self._sts.assume_role(**self._request)["Credentials"]
        return {
            "access_key": given["AccessKeyId"],
            "secret_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expiry_time": given["Expiration"].isoformat(),
        }


def _sent(
    send: Callable[..., dict[str, Any]], params: dict[str, Any]
) -> tuple[Mapping[str, str], dict[str, Any]]:
    """Through a client of boto3's."""
    with asking_botocore(OddAnswer):
        answer = send(**params)
        return answer["ResponseMetadata"]["HTTPHeaders"], answer

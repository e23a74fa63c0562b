"""DynamoDB or its streams as one session reaches them: signed requests in AWS's JSON protocol.

The bodies are ready on the way out and `wire`'s on the way in, so of a boto3 client only what finds the
service is used: endpoint, credentials, signature, certificates, proxies, sockets. The rest of it (serializer,
endpoint rules, parser, hooks, retries) would cost as much as judging 25 keys, every time, and its parser
raises anything at all about the page of a proxy.

Reads: the service. Writes: nothing. Never: retries. What a body means is decided elsewhere.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.credentials import Credentials
from botocore.exceptions import NoCredentialsError

from pipeline.aws import bodies
from pipeline.aws.errors import NoCredentials, asking_botocore
from pipeline.aws.refusal import Refusal

USER_AGENT = "dynamodb-migration-monitor"
#: Every other status is an error; DynamoDB redirects nobody.
_GOOD = 200
#: An operation of each service whose endpoint does not depend on what is asked.
_BY_REGION = {"dynamodb": "DescribeLimits", "dynamodbstreams": "ListStreams"}


class Answer(NamedTuple):
    """A complete answer that is no error."""

    headers: Mapping[str, str]
    body: bytes


class Service:
    """Thread-safe. `endpoint` is the URL that requests really go to, whatever it came from."""

    def __init__(self, client: Any, credentials: Callable[[], Credentials | None]) -> None:
        """client: boto3's of the service. credentials: the session's, which renew themselves."""
        model = client.meta.service_model
        self.endpoint = _endpoint(client)
        self.region: str = client.meta.region_name
        self._signing_name: str = model.signing_name
        self._target: str = model.metadata["targetPrefix"]
        self._content_type = f"application/x-amz-json-{model.metadata['jsonVersion']}"
        self._credentials = credentials
        # botocore makes it by the client's settings and has no public name for it.
        self._http = client._endpoint.http_session  # noqa: SLF001

    def send(self, operation: str, body: bytes) -> Answer:
        """The answer to one request, read to its end.

        Raises Refusal for an answer that is an error, BotoCoreError or NoCredentials where there is none.
        """
        with asking_botocore(NoCredentials):
            credentials = self._credentials()
            if credentials is None:
                raise NoCredentialsError
            frozen = credentials.get_frozen_credentials()
        headers = {
            "Content-Type": self._content_type,
            "User-Agent": USER_AGENT,
            "X-Amz-Target": f"{self._target}.{operation}",
        }
        request = AWSRequest("POST", self.endpoint, headers, body, stream_output=True)
        SigV4Auth(frozen, self._signing_name, self.region).add_auth(request)
        came: AWSResponse = self._http.send(request.prepare())
        if came.status_code != _GOOD:
            raise Refusal(came.status_code, came.headers, _of_an_error(came))
        return Answer(came.headers, bodies.read(came.raw, bodies.BODY_BYTES))


def _endpoint(client: Any) -> str:
    """By AWS's rules for endpoints. `client.meta.endpoint_url` is by an older list, in which dual-stack hosts
    of streams and those of some partitions are wrong; botocore itself asks the rules at each request.
    """
    client.meta.events.register("before-endpoint-resolution", _of_any_account)
    operation = client.meta.service_model.operation_model(_BY_REGION[client.meta.service_model.service_name])
    found: str = client._ruleset_resolver.construct_endpoint(operation, {}, {}).url  # noqa: SLF001
    return found


def _of_any_account(builtins: dict[str, object], **_: object) -> None:
    """To know the account, botocore would fetch credentials."""
    builtins["AWS::Auth::AccountId"] = None


def _of_an_error(came: AWSResponse) -> bytes:
    """Its body; one that cannot be read takes nothing from what the status says."""
    try:
        return bodies.read(came.raw, bodies.ERROR_BYTES)
    except bodies.Unreadable:
        return b""

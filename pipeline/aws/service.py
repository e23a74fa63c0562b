"""DynamoDB or its streams as one session reaches them: signed requests in AWS's JSON protocol.

The bodies are ready on the way out and `wire`'s on the way in, so of a boto3 client only what finds the
service is used: endpoint, credentials, signature, certificates, proxies, sockets. The rest of it (serializer,
endpoint rules, parser, hooks, retries) would cost as much as judging 25 keys, every time, and its parser
raises anything at all about the page of a proxy.

Reads: the service. Writes: nothing. Never: retries. What a body means is decided elsewhere.
"""

from collections.abc import Callable
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.credentials import Credentials
from botocore.exceptions import NoCredentialsError

from pipeline.aws.errors import NoCredentials, asking_botocore
from pipeline.aws.refusal import Refusal

USER_AGENT = "dynamodb-migration-monitor"
#: From here on an answer is an error; DynamoDB redirects nobody.
_NOT_GOOD = 300


class Service:
    """Thread-safe. `endpoint` is the URL that requests really go to, whatever it came from."""

    def __init__(self, client: Any, credentials: Callable[[], Credentials | None]) -> None:
        """client: boto3's of the service. credentials: the session's, which renew themselves."""
        model = client.meta.service_model
        self.endpoint: str = client.meta.endpoint_url
        self.region: str = client.meta.region_name
        self._signing_name: str = model.signing_name
        self._target: str = model.metadata["targetPrefix"]
        self._content_type = f"application/x-amz-json-{model.metadata['jsonVersion']}"
        self._credentials = credentials
        # botocore makes it by the client's settings and has no public name for it.
        self._http = client._endpoint.http_session  # noqa: SLF001

    def send(self, operation: str, body: bytes) -> AWSResponse:
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
        request = AWSRequest("POST", self.endpoint, headers, body)
        SigV4Auth(frozen, self._signing_name, self.region).add_auth(request)
        answer: AWSResponse = self._http.send(request.prepare())
        if answer.status_code >= _NOT_GOOD:
            raise Refusal(answer.status_code, answer.headers, answer.content)
        return answer

    def close(self) -> None:
        """Close idle sockets."""
        self._http.close()

"""DynamoDB or its streams as one session reaches them: signed requests in AWS's JSON protocol.

Bodies come ready made and are decoded elsewhere, so of a boto3 client only what finds the service is used:
endpoint, credentials, signature, certificates, proxies, sockets. The rest of it (serializer, endpoint rules,
parser, hooks, retries) would cost as much as judging 25 keys, every time.

Reads: the service. Writes: nothing. Never: retries, what a body means.
"""

from collections.abc import Callable
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, NoCredentialsError

from pipeline.aws import answers
from pipeline.aws.answers import Answer

USER_AGENT = "dynamodb-migration-monitor"
#: Every other status is an error; DynamoDB redirects nobody.
_GOOD = 200


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
        self._http = client._endpoint.http_session

    def send(self, operation: str, body: bytes) -> Answer:
        """The answer to one request, read to its end.

        Raises ClientError for an answer that is an error, BotoCoreError where there is none.
        """
        credentials = self._credentials()
        if credentials is None:
            raise NoCredentialsError
        headers = {
            "Content-Type": self._content_type,
            "User-Agent": USER_AGENT,
            "X-Amz-Target": f"{self._target}.{operation}",
        }
        request = AWSRequest("POST", self.endpoint, headers, body, stream_output=True)
        SigV4Auth(credentials.get_frozen_credentials(), self._signing_name, self.region).add_auth(request)
        came: AWSResponse = self._http.send(request.prepare())
        if came.status_code != _GOOD:
            raise _error(operation, came)
        return Answer(came.status_code, came.headers, answers.read(came.raw, answers.BODY_BYTES))

    def close(self) -> None:
        """Close idle sockets."""
        self._http.close()


def _error(operation: str, came: AWSResponse) -> ClientError:
    """The error as botocore says it. A body that cannot be read takes nothing from what its status says."""
    try:
        body = answers.read(came.raw, answers.ERROR_BYTES)
    except answers.Unreadable:
        body = b""
    refused = answers.refusal(Answer(came.status_code, came.headers, body))
    return ClientError(
        {
            "Error": {"Code": refused.code, "Message": refused.message},
            "ResponseMetadata": {"HTTPHeaders": came.headers, "HTTPStatusCode": came.status_code},
        },
        operation,
    )

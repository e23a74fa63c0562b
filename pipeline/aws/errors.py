"""What boto3 raises, as our exceptions.

Reads: foreign exceptions. Writes: nothing. Never: request parameters or item values in a message.
"""

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from pipeline.errors import (
    AccessDenied,
    AwsError,
    AwsUnavailable,
    ConfigurationError,
    CredentialsExpired,
    IteratorExpired,
    MalformedResponse,
    MonitorError,
    NotFound,
    Throttled,
    Trimmed,
)

_THROTTLED = (
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "RequestLimitExceeded",
    "LimitExceededException",
    "TooManyRequestsException",
)
# A token that is wrong rather than old looks the same from here (a profile is rewritten while it is read, a
# clock is off), so every one of them is worth a new session; AWS is asked once per session.
_EXPIRED = (
    "ExpiredTokenException",
    "ExpiredToken",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "MissingAuthenticationTokenException",
    "RequestExpired",
)
_DENIED = ("AccessDeniedException", "AccessDenied", "UnauthorizedOperation", "OptInRequired")

#: AWS error code → ours. Codes that are not here: 5xx is AwsUnavailable, the rest a plain AwsError.
BY_CODE: dict[str, type[AwsError]] = {
    **dict.fromkeys(_THROTTLED, Throttled),
    **dict.fromkeys(_EXPIRED, CredentialsExpired),
    **dict.fromkeys(_DENIED, AccessDenied),
    "ExpiredIteratorException": IteratorExpired,
    "TrimmedDataAccessException": Trimmed,
    "ResourceNotFoundException": NotFound,
    "TableNotFoundException": NotFound,
}

_REMEDIES: dict[type[AwsError], str] = {
    CredentialsExpired: "renew the credentials (for example `aws sso login`) and check this host's clock",
    AccessDenied: "allow the operation in the IAM policy of the profile or role",
    NotFound: "check the name, the region and the account",
}

_CONFIGURATION = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.ProfileNotFound,
    boto.NoRegionError,
    boto.InvalidRegionError,
    boto.ConfigNotFound,
    boto.ConfigParseError,
    boto.InvalidConfigError,
)
_CREDENTIALS = (boto.CredentialRetrievalError, boto.SSOError, boto.TokenRetrievalError)

#: What a request through boto3 can raise.
FOREIGN = (boto.ClientError, boto.BotoCoreError, ResponseParserError)
#: What making a session or client can raise; ValueError is botocore's for an endpoint that is no URL.
UNUSABLE = (boto.BotoCoreError, ValueError)


def code_of(error: Exception) -> str:
    """A short name of bounded variety: AWS's error code, else "Unavailable", "Malformed" or a class name."""
    if isinstance(error, boto.ClientError):
        code = str(error.response.get("Error", {}).get("Code", "Unknown"))
        return "Unavailable" if code.isdigit() else code  # an HTML 502 has no other code than its status
    if isinstance(error, (MalformedResponse, ResponseParserError)):
        return "Malformed"
    return "Unavailable" if isinstance(error, boto.HTTPClientError) else type(error).__name__


def headers_of(error: Exception) -> dict[str, str]:
    """The headers of the answer that was an error; none where there was no answer."""
    answer = error.response if isinstance(error, boto.ClientError) else {}
    headers: dict[str, str] = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers


def translate(error: Exception, side: str, operation: str) -> MonitorError:
    """`error` as ours, saying which side and operation it was and what to do."""
    if isinstance(error, boto.ClientError):
        return _translate_answer(error, side, operation)
    if isinstance(error, (*_CONFIGURATION, ValueError)):
        return ConfigurationError(f"{side}: {error}", f"check the {side} profile, region and endpoint")
    kind: type[AwsError] = AwsUnavailable
    if isinstance(error, _CREDENTIALS):
        kind = CredentialsExpired
    elif isinstance(error, ResponseParserError):
        kind = MalformedResponse
    return kind(f"{side}: {operation}: {error}", _REMEDIES.get(kind, ""))


def _translate_answer(error: boto.ClientError, side: str, operation: str) -> AwsError:
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    kind = BY_CODE.get(code, AwsUnavailable if status >= 500 else AwsError)
    # The failing operation may be another one than ours: AssumeRole on the way to credentials.
    asked = error.operation_name or operation
    said = error.response.get("Error", {}).get("Message", "")
    return kind(f"{side}: {asked}: {f'{code}: {said}' if said else code}", _REMEDIES.get(kind, ""))

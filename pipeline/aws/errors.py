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

#: AWS error code → ours. Codes that are not here: 5xx, and what is not AWS's, are AwsUnavailable, the rest a
#: plain AwsError.
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

_NOT_AWS = "check the endpoint, and what answers in AWS's place: a proxy, a gateway, a portal"

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


#: The code of what nobody answered, or not AWS.
UNAVAILABLE = "Unavailable"
#: As much of a text from outside goes into a message.
TEXT_LENGTH = 200
_SERVER_ERROR = 500


def code_of(error: Exception) -> str:
    """A short name of bounded variety: AWS's error code, else "Unavailable", "Malformed" or a class name."""
    if isinstance(error, boto.ClientError):
        code = said(str(error.response.get("Error", {}).get("Code", "Unknown")))
        return UNAVAILABLE if code.isdigit() else code  # what is not AWS's has no other code than its status
    if isinstance(error, MalformedResponse):
        return "Malformed"
    away = isinstance(error, (boto.HTTPClientError, ResponseParserError))
    return UNAVAILABLE if away else type(error).__name__


def said(text: str) -> str:
    """A text from outside, for a message: on one line, harmless to a terminal, and not longer than that."""
    shown = text if len(text) <= TEXT_LENGTH else f"{text[:TEXT_LENGTH]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


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
        return ConfigurationError(
            f"{side}: {said(str(error))}", f"check the {side} profile, region and endpoint"
        )
    if isinstance(error, ResponseParserError):  # its text is the body
        return AwsUnavailable(f"{side}: {operation}: not an answer of AWS's", _NOT_AWS)
    kind = CredentialsExpired if isinstance(error, _CREDENTIALS) else AwsUnavailable
    return kind(f"{side}: {operation}: {said(str(error))}", _REMEDIES.get(kind, ""))


def _translate_answer(error: boto.ClientError, side: str, operation: str) -> AwsError:
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    kind = BY_CODE.get(code, AwsUnavailable if status >= _SERVER_ERROR else AwsError)
    # The failing operation may be another one than ours: AssumeRole on the way to credentials.
    asked = error.operation_name or operation
    message = said(error.response.get("Error", {}).get("Message", ""))
    if code == UNAVAILABLE:
        return AwsUnavailable(f"{side}: {asked}: {message}", _NOT_AWS)
    return kind(f"{side}: {asked}: {f'{code}: {message}' if message else code}", _REMEDIES.get(kind, ""))

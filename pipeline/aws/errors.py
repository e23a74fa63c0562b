"""What boto3 raises and AWS refuses, as our exceptions.

Reads: foreign exceptions. Writes: nothing. No request parameter, no item value and no more than a line of
what comes from outside is in a message.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from pipeline.aws.refusal import Refusal
from pipeline.core.quoting import masked, quoted
from pipeline.errors import (
    THROTTLE_CODES,
    AccessDenied,
    AwsError,
    AwsUnavailable,
    ConfigurationError,
    CredentialsExpired,
    IteratorExpired,
    MalformedResponse,
    MonitorError,
    NotFound,
    NotServed,
    Throttled,
    Trimmed,
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

_SERVER_ERROR = 500

#: AWS error code → ours. Others are a plain AwsError, AwsUnavailable with a 5xx.
BY_CODE: dict[str, type[AwsError]] = {
    **dict.fromkeys(THROTTLE_CODES, Throttled),
    **dict.fromkeys(_EXPIRED, CredentialsExpired),
    **dict.fromkeys(_DENIED, AccessDenied),
    "ExpiredIteratorException": IteratorExpired,
    "TrimmedDataAccessException": Trimmed,
    "ResourceNotFoundException": NotFound,
    "TableNotFoundException": NotFound,
    "UnknownOperationException": NotServed,
}

_REMEDIES: dict[type[AwsError], str] = {
    CredentialsExpired: "renew the credentials (for example `aws sso login`) and check this host's clock",
    AccessDenied: "allow the operation in the IAM policy of the profile or role",
    NotFound: "check the name, the region and the account",
    NotServed: "check the endpoint: it is another service's, or an emulator without this operation",
}
#: A stream without an endpoint of its own is asked for where its table is.
_STREAMS_ELSEWHERE = "streams have endpoints of their own: give the stream's as --stream-endpoint-url"

_WITHOUT_CODE = (
    "use a profile that needs none, or put temporary credentials made with the code (`aws sts assume-role "
    "--serial-number … --token-code …`) into a profile of their own"
)
#: What `aws login` stores is read with a package that botocore does not bring along.
_LOGIN_EXTRA = "profiles of `aws login` need it: install dynamodb-migration-monitor[login]"
_NOT_AWS = "check the endpoint, and what answers in AWS's place: a proxy, a gateway, a portal"

_CONFIGURATION = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.ProfileNotFound,
    boto.InvalidRegionError,
    boto.ConfigNotFound,
    boto.ConfigParseError,
    boto.InvalidConfigError,
    boto.EndpointProviderError,
    boto.EndpointVariantError,
)
_CREDENTIALS = (
    boto.CredentialRetrievalError,
    boto.SSOError,
    boto.TokenRetrievalError,
    *([boto.LoginError] if hasattr(boto, "LoginError") else []),  # botocore 1.41
)
#: botocore's name of credential_process. What such a program says may be anything, secrets included.
_PROGRAM = "custom-process"


class NeedsCode(boto.InvalidConfigError):  # type: ignore[misc]
    """Credentials that somebody would have to type something for."""


class OddAnswer(Exception):
    """botocore failed on an answer in a way of which its documentation says nothing."""


class NoCredentials(Exception):
    """A source of credentials failed in a way of which botocore's documentation says nothing."""


#: What a request can raise.
FOREIGN = (boto.ClientError, boto.BotoCoreError, ResponseParserError, Refusal, OddAnswer, NoCredentials)
#: What making a session or client can raise; ValueError is botocore's for an endpoint that is not a URL.
UNUSABLE = (boto.BotoCoreError, ValueError, NoCredentials)


#: Of urllib3: behind it stands the address, a proxy's with whatever was taken for its host.
_UNPARSED = re.compile(r"(Failed to parse): .*", re.DOTALL)


@contextlib.contextmanager
def asking_botocore(otherwise: type[OddAnswer | NoCredentials], *meant: type[Exception]) -> Iterator[None]:
    """Within it, what is not botocore's own becomes `otherwise`; meant: also botocore's own, there.

    Its parsers fail on the page of a gateway with AttributeError or KeyError, its sources of credentials
    (files, other programs, a prompt, plug-ins) with whatever they meet: all of it the outside world's doing.
    """
    try:
        yield
    except (*FOREIGN, *meant):
        raise
    except Exception as error:
        raise otherwise(f"{type(error).__name__}: {quoted(masked(str(error)))}") from error


def code_of(error: Exception) -> str:
    """A short name of bounded variety: AWS's error code, else "Unavailable", "Malformed" or a class name."""
    if isinstance(error, Refusal):
        return error.code or "Unavailable"
    if isinstance(error, boto.ClientError):
        code = str(_error_in(error).get("Code", "Unknown"))
        return "Unavailable" if code.isdigit() else code  # an HTML 502 has no other code than its status
    if isinstance(error, (MalformedResponse, ResponseParserError, OddAnswer)):
        return "Malformed"
    return "Unavailable" if isinstance(error, boto.HTTPClientError) else type(error).__name__


def headers_of(error: Exception) -> Mapping[str, str]:
    """The headers of AWS's answer that was an error; none where AWS did not answer."""
    if isinstance(error, Refusal):
        return error.headers if error.code else {}
    answer = error.response if isinstance(error, boto.ClientError) else {}
    headers: dict[str, str] = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers


def translate(error: Exception, side: str, operation: str) -> MonitorError:
    """`error` as ours, saying which side and operation it was and what to do."""
    if wrong := _of_configuration(error, side):
        return wrong
    says = quoted(_UNPARSED.sub(r"\1", masked(str(error))))
    kind: type[AwsError] = AwsUnavailable
    if isinstance(error, Refusal):
        if not error.code:
            return AwsUnavailable(f"{side}: {operation}: {says}", _NOT_AWS)
        kind = _kind_of(error.code, error.status)
    elif isinstance(error, ResponseParserError):  # its text is the body
        return AwsUnavailable(f"{side}: {operation}: an answer that is not AWS's", _NOT_AWS)
    elif isinstance(error, boto.ClientError):
        # The failing operation may be another one than ours: AssumeRole on the way to credentials.
        operation = error.operation_name or operation
        code, said = code_of(error), quoted(str(_error_in(error).get("Message", "")))
        says = f"{code}: {said}" if said else code
        kind = _kind_of(code, error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    elif isinstance(error, (*_CREDENTIALS, NoCredentials)):
        kind = CredentialsExpired
        if getattr(error, "kwargs", {}).get("provider") == _PROGRAM:
            says = "credential_process failed or gave no credentials: run it by hand"
    remedy = _STREAMS_ELSEWHERE if (kind, side) == (NotServed, "stream") else _REMEDIES.get(kind, "")
    return kind(f"{side}: {operation}: {says}", remedy)


def _of_configuration(error: Exception, side: str) -> ConfigurationError | None:
    """What is configured cannot be used; None for another trouble."""
    says = quoted(masked(str(error)))
    if isinstance(error, NeedsCode):
        return ConfigurationError(f"{side}: {says}", _WITHOUT_CODE)
    if isinstance(error, boto.MissingDependencyException):
        return ConfigurationError(f"{side}: {says}", _LOGIN_EXTRA)
    if isinstance(error, boto.NoRegionError):
        return ConfigurationError(f"{side}: no region is given", "give --region, or a profile that has one")
    if isinstance(error, _CONFIGURATION):
        return ConfigurationError(f"{side}: {says}", f"check the {side} profile, region and endpoint")
    if isinstance(error, ValueError):
        # "Invalid endpoint: " and all of it: a password in it need not stand where one is looked for.
        return ConfigurationError(
            f"{side}: {quoted(str(error).partition(':')[0])}",
            f"check --{side}-endpoint-url, AWS_ENDPOINT_URL… and the {side} profile",
        )
    return None


def _kind_of(code: str, status: int) -> type[AwsError]:
    """By AWS's code. An answer without one is not AWS's, whatever its status: nobody reached AWS."""
    unknown = AwsError if code and status < _SERVER_ERROR else AwsUnavailable
    return BY_CODE.get(code, unknown)


def _error_in(error: boto.ClientError) -> Mapping[str, object]:
    found: Mapping[str, object] = error.response.get("Error", {})
    return found

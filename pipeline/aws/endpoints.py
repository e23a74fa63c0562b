"""Which endpoints are AWS's own, and which two lead to the same service.

Reads: nothing. Writes: nothing. Never: resolves a name.
"""

from urllib.parse import urlsplit

#: The suffixes of every partition, dual-stack ones too; a test holds them against botocore's.
AWS_SUFFIXES = (
    "amazonaws.com",
    "api.aws",
    "amazonaws.com.cn",
    "api.amazonwebservices.com.cn",
    "amazonaws.eu",
    "api.amazonwebservices.eu",
    "c2s.ic.gov",
    "api.aws.ic.gov",
    "sc2s.sgov.gov",
    "api.aws.scloud",
    "cloud.adc-e.uk",
    "api.cloud-aws.adc-e.uk",
    "csp.hci.ic.gov",
    "api.aws.hci.ic.gov",
)
_ENDINGS = tuple(f".{suffix}" for suffix in AWS_SUFFIXES)


def is_aws(url: str) -> bool:
    """False for an emulator, and for a proxy that stands before AWS under a name of its own."""
    return (urlsplit(url).hostname or "").endswith(_ENDINGS)


def is_one_service(one: str, other: str) -> bool:
    """Whether two endpoints lead to the same tables: all of AWS's do (an ARN holds account and region)."""
    return _place(one) == _place(other)


def _place(url: str) -> object:
    if is_aws(url):
        return "AWS"
    parts = urlsplit(url)
    host = parts.hostname or ""
    return "127.0.0.1" if host in ("localhost", "::1") else host, parts.port

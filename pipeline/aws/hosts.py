"""Whose host an endpoint is: AWS's, or somebody else's.

Reads: botocore's list of AWS's partitions. Writes: nothing. Never: sockets.
"""

import functools
from typing import Any
from urllib.parse import urlsplit

import botocore.loaders

_LOOPBACK = ("localhost", "::1")
#: The service that tells prices, by boto3's name, and where it is: in three regions, for all.
PRICE_LIST = "pricing"
_PRICE_LIST_REGIONS = {"eu": "eu-central-1", "ap": "ap-south-1"}


@functools.cache
def loader() -> Any:
    """botocore's data, read once for all sessions of a process: saves 10 MB and 40 ms a session."""
    return botocore.loaders.create_loader()


def is_aws(url: str) -> bool:
    """Whether the endpoint is one of AWS's, in any partition, dual-stack or not."""
    return (urlsplit(url).hostname or "").endswith(_suffixes())


def price_list_region(region: str) -> str:
    """The region of the price list that is nearest to this one."""
    return _PRICE_LIST_REGIONS.get(region.partition("-")[0], "us-east-1")


def one_service(one: str, other: str) -> bool:
    """Whether two endpoints lead to the same tables: all of AWS's do (an ARN holds account and region)."""
    return _place(one) == _place(other)


def _place(url: str) -> object:
    if is_aws(url):
        return "AWS"
    parts = urlsplit(url)
    host = parts.hostname or ""
    return "127.0.0.1" if host in _LOOPBACK else host, parts.port


@functools.cache
def _suffixes() -> tuple[str, ...]:
    outputs = [partition["outputs"] for partition in loader().load_data("partitions")["partitions"]]
    return tuple(f".{given[name]}" for given in outputs for name in ("dnsSuffix", "dualStackDnsSuffix"))

"""Whose host an endpoint is."""

import pytest

from pipeline.aws import one_service
from pipeline.aws.hosts import is_aws


@pytest.mark.parametrize(
    "url",
    [
        "https://dynamodb.eu-west-1.amazonaws.com",
        "https://streams.dynamodb.cn-north-1.amazonaws.com.cn",
        "https://123456789012.ddb.us-east-1.amazonaws.com",
        "https://dynamodb.us-east-1.api.aws",
        "https://vpce-1-2.dynamodb.us-east-1.vpce.amazonaws.com:443",
        "https://dynamodb.us-iso-east-1.c2s.ic.gov",
        "https://dynamodb.cn-north-1.api.amazonwebservices.com.cn",
        "https://dynamodb.eusc-de-east-1.amazonaws.eu",
    ],
)
def test_hosts_of_every_partition_are_aws(url: str) -> None:
    assert is_aws(url)


@pytest.mark.parametrize(
    "url",
    ["http://localhost:8000", "https://amazonaws.com.example.org", "https://evilamazonaws.com", "nonsense"],
)
def test_other_hosts_are_not(url: str) -> None:
    assert not is_aws(url)


def test_regions_of_aws_are_one_service_and_emulators_are_each_their_own() -> None:
    assert one_service("https://dynamodb.eu-west-1.amazonaws.com", "https://dynamodb.us-east-1.api.aws")
    assert one_service("http://localhost:8000", "http://127.0.0.1:8000/")
    assert not one_service("http://localhost:8000", "http://localhost:8001")
    assert not one_service("http://localhost:8000", "https://dynamodb.eu-west-1.amazonaws.com")

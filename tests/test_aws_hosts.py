"""Whose host an endpoint is, and which one is asked."""

import itertools

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from pipeline.aws import Connection, SideConfig, one_service
from pipeline.aws.hosts import is_aws, loader
from pipeline.aws.service import Service
from pipeline.errors import ConfigurationError


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


def regions() -> list[str]:
    partitions = loader().load_data("endpoints")["partitions"]
    return sorted({region for one in partitions for region in one["services"]["dynamodb"]["endpoints"]})


class Asked(Exception):
    """Instead of a request."""


@pytest.mark.parametrize(("dual_stack", "fips"), [(False, False), (False, True), (True, False), (True, True)])
def test_the_host_that_is_asked_is_the_one_that_boto3_asks(dual_stack: bool, fips: bool) -> None:
    """In every region that botocore knows."""
    session = boto3.Session("AKIA", "s")
    config = Config(
        use_dualstack_endpoint=dual_stack, use_fips_endpoint=fips, account_id_endpoint_mode="disabled"
    )
    asked: list[str] = []

    def note(request: object, **_: object) -> None:
        asked.append(str(getattr(request, "url", "")))
        raise Asked

    compared = 0
    for region, name in itertools.product(regions(), ("dynamodb", "dynamodbstreams")):
        try:
            client = session.client(name, region_name=region, config=config)
        except BotoCoreError:  # no such variant there
            continue
        client.meta.events.register("before-send", note)
        try:
            client.list_tables() if name == "dynamodb" else client.list_streams()
        except BotoCoreError:
            with pytest.raises(BotoCoreError):
                Service(client, lambda: None)
            continue
        except Asked:
            pass
        assert Service(client, lambda: None).endpoint.rstrip("/") == asked.pop().rstrip("/")
        compared += 1
    assert compared > 60


@pytest.mark.parametrize(
    ("region", "variable"),
    [("us-isof-east-1", "AWS_USE_DUALSTACK_ENDPOINT"), ("local", "AWS_USE_FIPS_ENDPOINT")],
)
def test_a_variant_that_a_region_lacks_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch, region: str, variable: str
) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ConfigurationError, match="source: ") as refused:
        Connection(SideConfig("source", region=region))
    assert "endpoint" in refused.value.remedy

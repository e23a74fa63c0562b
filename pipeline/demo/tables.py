"""The demo's tables as an outsider sees them: clients, creation, whole contents.

Reads and writes: DynamoDB through boto3. Never: the monitor's code. Its mistakes would be shared.

An item is boto3's wire form ({"pk": {"S": "a"}}); a key's text is that form of its key attributes as JSON,
which is also how `findings --json --show-keys` writes it.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]

#: The environment of every process of the demo: nothing of the user's AWS set-up may leak into it, or out.
EMULATED_AWS = {
    "AWS_ACCESS_KEY_ID": "demo",
    "AWS_SECRET_ACCESS_KEY": "demo",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}
QUICK = Config(connect_timeout=2, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 4})


def client(endpoint_url: str, region: str) -> "DynamoDBClient":
    """A DynamoDB client of an emulator."""
    made: DynamoDBClient = _session(region).client("dynamodb", endpoint_url=endpoint_url, config=QUICK)
    return made


def streams_client(endpoint_url: str, region: str) -> Any:
    """A DynamoDB Streams client of an emulator."""
    return _session(region).client("dynamodbstreams", endpoint_url=endpoint_url, config=QUICK)


def _session(region: str) -> boto3.Session:
    return boto3.Session(
        aws_access_key_id=EMULATED_AWS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=EMULATED_AWS["AWS_SECRET_ACCESS_KEY"],
        region_name=region,
    )


def create(dynamodb: "DynamoDBClient", table: str) -> None:
    """A table with partition key `pk` (S) and sort key `sk` (N)."""
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "N"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )


def fill(dynamodb: "DynamoDBClient", table: str, items: Sequence[Item]) -> None:
    """Put items, 25 a request."""
    for start in range(0, len(items), 25):
        requests: Any = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        dynamodb.batch_write_item(RequestItems={table: requests})


def enable_stream(dynamodb: "DynamoDBClient", table: str) -> str:
    """Switch the stream on (both images); its ARN."""
    answer = dynamodb.update_table(
        TableName=table,
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    return answer["TableDescription"]["LatestStreamArn"]


def key_text(item: Item) -> str:
    """The text of an item's key, or of a key: attributes `pk` and `sk`."""
    return as_text({name: item[name] for name in ("pk", "sk")})


def as_text(value: object) -> str:
    """Wire JSON, the same for equal items whatever their attribute order; binaries as hex."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=lambda other: bytes(other).hex())


def contents(dynamodb: "DynamoDBClient", table: str) -> dict[str, Item]:
    """Every item of a table by its key's text."""
    pages = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return {key_text(item): item for page in pages for item in page["Items"]}


def equal(one: Item | None, other: Item | None) -> bool:
    """The same item; the order of a set's elements does not matter, as DynamoDB keeps none."""
    return as_text(_sorted_sets(one)) == as_text(_sorted_sets(other))


def _sorted_sets(value: Any) -> Any:
    if isinstance(value, list):
        return [_sorted_sets(element) for element in value]
    if not isinstance(value, dict):
        return value
    return {
        name: sorted(inner) if name in ("SS", "NS", "BS") and isinstance(inner, list) else _sorted_sets(inner)
        for name, inner in value.items()
    }

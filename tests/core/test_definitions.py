"""Definitions: what is refused, what is named, what is left open."""

import copy
from typing import Any

import pytest

from pipeline.core.comparing.definitions import (
    Definition,
    Difference,
    compare_definitions,
)

TABLE: dict[str, Any] = {
    "TableName": "t",
    "TableArn": "arn:aws:dynamodb:us-east-1:111111111111:table/t",
    "KeySchema": [
        {"AttributeName": "pk", "KeyType": "HASH"},
        {"AttributeName": "sk", "KeyType": "RANGE"},
    ],
    "AttributeDefinitions": [
        {"AttributeName": "pk", "AttributeType": "S"},
        {"AttributeName": "sk", "AttributeType": "N"},
        {"AttributeName": "email", "AttributeType": "S"},
    ],
    "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
    "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    "GlobalSecondaryIndexes": [
        {
            "IndexName": "by-email",
            "KeySchema": [{"AttributeName": "email", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["b", "a"]},
            "IndexStatus": "ACTIVE",
            "ItemCount": 3,
        }
    ],
}
TTL = {"TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": "gone_at"}}
BACKUPS = {
    "ContinuousBackupsDescription": {
        "ContinuousBackupsStatus": "ENABLED",
        "PointInTimeRecoveryDescription": {
            "PointInTimeRecoveryStatus": "ENABLED",
            "RecoveryPeriodInDays": 35,
        },
    }
}
TAGS = {"Tags": [{"Key": "team", "Value": "a"}, {"Key": "aws:cloudformation:stack-id", "Value": "x"}]}


def definition(ttl: Any = TTL, backups: Any = BACKUPS, tags: Any = TAGS, **changed: Any) -> Definition:
    """One whose table has these fields changed; None takes a field away."""
    table = copy.deepcopy(TABLE) | changed
    return Definition(
        {"Table": {name: value for name, value in table.items() if value is not None}}, ttl, backups, tags
    )


def test_tables_defined_alike_have_no_differences_in_any_order() -> None:
    other = definition(
        TableName="u",
        AttributeDefinitions=TABLE["AttributeDefinitions"][::-1],
        KeySchema=TABLE["KeySchema"][::-1],
        TableClassSummary={"TableClass": "STANDARD"},
        DeletionProtectionEnabled=False,
        SSEDescription={"Status": "DISABLED"},
        ItemCount=7,
    )
    compared = compare_definitions(definition(), other)
    assert (compared.refused, compared.differences, compared.unknown) == ([], [], [])


@pytest.mark.parametrize(
    "changed",
    [
        {"KeySchema": TABLE["KeySchema"][:1]},
        {"KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}, TABLE["KeySchema"][1]]},
        {
            "AttributeDefinitions": [
                TABLE["AttributeDefinitions"][0],
                {"AttributeName": "sk", "AttributeType": "S"},
            ]
        },
    ],
)
def test_other_keys_are_refused(changed: dict[str, Any]) -> None:
    [refused] = compare_definitions(definition(), definition(**changed)).refused
    assert refused.what == "key schema"
    assert refused.source == "pk (HASH, S), sk (RANGE, N)"
    assert refused.target != refused.source


INDEX = TABLE["GlobalSecondaryIndexes"][0]
INDEX_TEXT = "email (HASH, S), projects INCLUDE of a, b"


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"GlobalSecondaryIndexes": None}, Difference("global index by-email", INDEX_TEXT, "none")),
        (
            {"GlobalSecondaryIndexes": [INDEX | {"Projection": {"ProjectionType": "ALL"}}]},
            Difference("global index by-email", INDEX_TEXT, "email (HASH, S), projects ALL"),
        ),
        (
            {"GlobalSecondaryIndexes": [INDEX | {"IndexStatus": "CREATING"}]},
            Difference("global index by-email", INDEX_TEXT, f"{INDEX_TEXT}, CREATING"),
        ),
        (
            {"LocalSecondaryIndexes": [{"IndexName": "l", "KeySchema": TABLE["KeySchema"]}]},
            Difference("local index l", "none", "pk (HASH, S), sk (RANGE, N), projects ALL"),
        ),
        ({"StreamSpecification": None}, Difference("stream", "NEW_AND_OLD_IMAGES", "off")),
        (
            {"TableClassSummary": {"TableClass": "STANDARD_INFREQUENT_ACCESS"}},
            Difference("table class", "STANDARD", "STANDARD_INFREQUENT_ACCESS"),
        ),
        ({"DeletionProtectionEnabled": True}, Difference("deletion protection", "off", "on")),
        (
            {"SSEDescription": {"Status": "ENABLED", "SSEType": "KMS", "KMSMasterKeyArn": "arn:x"}},
            Difference("encryption", "key owned by AWS", "KMS key"),
        ),
        (
            {"ttl": {"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}}},
            Difference("time to live", "gone_at", "off"),
        ),
        (
            {"backups": {"ContinuousBackupsDescription": {"ContinuousBackupsStatus": "DISABLED"}}},
            Difference("point-in-time recovery", "35 days", "off"),
        ),
        ({"tags": {"Tags": []}}, Difference("tag team", "a", "none")),
    ],
)
def test_every_other_difference_is_named_with_both_values(changed: Any, difference: Difference) -> None:
    compared = compare_definitions(definition(), definition(**changed))
    assert compared.differences == [difference]
    assert compared.refused == []


def test_provisioned_units_are_compared_where_both_sides_have_them() -> None:
    units = {"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
    source = definition(BillingModeSummary=None, ProvisionedThroughput=units)
    target = definition(BillingModeSummary=None, ProvisionedThroughput=units | {"WriteCapacityUnits": 1})
    assert compare_definitions(source, target).differences == [Difference("write capacity units", "5", "1")]
    on_demand = definition(ProvisionedThroughput={"ReadCapacityUnits": 0, "WriteCapacityUnits": 0})
    named = [difference.what for difference in compare_definitions(source, on_demand).differences]
    assert named == ["billing mode"]


def test_what_could_not_be_asked_is_said_and_not_guessed() -> None:
    compared = compare_definitions(definition(tags=None), definition(ttl=None))
    assert compared.unknown == ["time to live", "tags"]
    assert compared.differences == []

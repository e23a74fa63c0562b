"""Whether two tables are defined alike: what must be refused, and what has to be named.

Reads: the bodies of DescribeTable, DescribeTimeToLive, DescribeContinuousBackups and ListTagsOfResource, as
decoded JSON. Writes: nothing. Never: I/O. No item is looked at; a difference shows both sides' values.

Tables whose keys differ cannot be compared by key: refused. Everything else is a difference that a cutover
wants to know of and that no comparison of items shows (an index that is missing, a TTL that is off).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

Body = Mapping[str, Any]

#: Stands in a difference for what a side has not.
NOTHING = "none"


class Definition(msgspec.Struct, frozen=True):
    """One table's bodies. None: could not be asked (a missing permission); nothing is said about it."""

    table: Body
    ttl: Body | None = None
    backups: Body | None = None
    tags: Body | None = None


class Difference(msgspec.Struct, frozen=True):
    """What differs, and each side's value."""

    what: str
    source: str
    target: str


class DefinitionsCompared(msgspec.Struct, frozen=True):
    """refused: no comparison is possible. differences: to be named. unknown: could not be asked."""

    refused: list[Difference]
    differences: list[Difference]
    unknown: list[str]


def compare_definitions(source: Definition, target: Definition) -> DefinitionsCompared:
    """What differs between two tables as AWS describes them; keys that differ refuse a comparison."""
    left, right = source.table["Table"], target.table["Table"]
    differences = _differing(_settings(left), _settings(right))
    if _billing(left) == _billing(right) == "PROVISIONED":
        differences += _differing(_provisioned(left), _provisioned(right))
    unknown: list[str] = []
    for what, read, ours, theirs in (
        ("time to live", _ttl, source.ttl, target.ttl),
        ("point-in-time recovery", _recovery, source.backups, target.backups),
        ("tags", _tags, source.tags, target.tags),
    ):
        if ours is None or theirs is None:
            unknown.append(what)
        else:
            differences += _differing(read(ours), read(theirs))
    return DefinitionsCompared(_differing(_keys(left), _keys(right)), differences, unknown)


def _differing(source: Mapping[str, str], target: Mapping[str, str]) -> list[Difference]:
    """The names whose texts differ, the source's first; what a side lacks is NOTHING."""
    found = []
    for name in {**source, **target}:
        left, right = source.get(name, NOTHING), target.get(name, NOTHING)
        if left != right:
            found.append(Difference(name, left, right))
    return found


def _keys(table: Body) -> dict[str, str]:
    return {"key schema": _key_schema(table, table["KeySchema"])}


def _key_schema(table: Body, elements: list[Body]) -> str:
    """`pk (HASH, S), sk (RANGE, N)`; an index may have several of a kind, whose order counts."""
    types = {each["AttributeName"]: each["AttributeType"] for each in table.get("AttributeDefinitions", [])}
    ordered = sorted(elements, key=lambda each: str(each["KeyType"]))  # HASH, RANGE
    return ", ".join(
        f"{each['AttributeName']} ({each['KeyType']}, {types.get(each['AttributeName'], '?')})"
        for each in ordered
    )


def _settings(table: Body) -> dict[str, str]:
    """What DescribeTable says beside the keys. AWS leaves out what has its default."""
    return {
        **_indexes(table, "GlobalSecondaryIndexes", "global index"),
        **_indexes(table, "LocalSecondaryIndexes", "local index"),
        "stream": _stream(table.get("StreamSpecification") or {}),
        "billing mode": _billing(table),
        "table class": (table.get("TableClassSummary") or {}).get("TableClass", "STANDARD"),
        "deletion protection": _on(table.get("DeletionProtectionEnabled", False)),
        "encryption": _encryption(table.get("SSEDescription") or {}),
    }


def _indexes(table: Body, field: str, word: str) -> dict[str, str]:
    return {f"{word} {index['IndexName']}": _index(table, index) for index in table.get(field) or []}


def _index(table: Body, index: Body) -> str:
    projection = index.get("Projection", {})
    kind = projection.get("ProjectionType", "ALL")
    names = sorted(projection.get("NonKeyAttributes", []))
    state = index.get("IndexStatus", "ACTIVE")
    return "".join(
        (
            _key_schema(table, index["KeySchema"]),
            f", projects {kind}",
            f" of {', '.join(names)}" if names else "",
            "" if state == "ACTIVE" else f", {state}",
        )
    )


def _billing(table: Body) -> str:
    return str((table.get("BillingModeSummary") or {}).get("BillingMode", "PROVISIONED"))


def _provisioned(table: Body) -> dict[str, str]:
    units = table.get("ProvisionedThroughput", {})
    return {
        "read capacity units": str(units.get("ReadCapacityUnits", 0)),
        "write capacity units": str(units.get("WriteCapacityUnits", 0)),
    }


def _stream(stream: Body) -> str:
    return str(stream.get("StreamViewType", "enabled")) if stream.get("StreamEnabled") else "off"


def _encryption(encryption: Body) -> str:
    """The kind of key alone: two accounts never share one."""
    if encryption.get("Status") in ("ENABLED", "ENABLING", "UPDATING"):
        return f"{encryption.get('SSEType', 'KMS')} key"
    return "key owned by AWS"


def _ttl(body: Body) -> dict[str, str]:
    ttl = body["TimeToLiveDescription"]
    on = ttl.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
    return {"time to live": str(ttl.get("AttributeName")) if on else "off"}


def _recovery(body: Body) -> dict[str, str]:
    described = body["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    if described.get("PointInTimeRecoveryStatus") != "ENABLED":
        return {"point-in-time recovery": "off"}
    return {"point-in-time recovery": f"{described.get('RecoveryPeriodInDays', 35)} days"}


def _tags(body: Body) -> dict[str, str]:
    """Those of the owner: AWS's own name its stacks and services, which are never the same twice."""
    tags = {each["Key"]: each["Value"] for each in body.get("Tags", [])}
    return {f"tag {name}": value for name, value in tags.items() if not name.startswith("aws:")}


def _on(enabled: bool) -> str:
    return "on" if enabled else "off"

"""The AWS edge: how a table is defined, as AWS describes it, undigested.

Reads: DescribeTable, DescribeTimeToLive, DescribeContinuousBackups, ListTagsOfResource. Writes: nothing.
Never: retries.
"""

from typing import Any, Final

from pipeline.aws.connection import Connection
from pipeline.aws.operations import Operation
from pipeline.core.comparing.definitions import Definition
from pipeline.errors import AwsError, AwsUnavailable, CredentialsExpired, Throttled

Body = dict[str, Any]

_TABLE: Final = Operation("dynamodb", "DescribeTable", Body)
_TTL: Final = Operation("dynamodb", "DescribeTimeToLive", Body)
_BACKUPS: Final = Operation("dynamodb", "DescribeContinuousBackups", Body)
_TAGS: Final = Operation("dynamodb", "ListTagsOfResource", Body)


def read_definition(connection: Connection, table: str) -> Definition:
    """How a table is defined. What this user may not ask, or this service cannot answer, is None.

    Raises AwsError for the table itself, and for what may be answered later.
    """
    described = connection.call(_TABLE, {"TableName": table})
    arn = described["Table"]["TableArn"]
    return Definition(
        table=described,
        ttl=_optional(connection, _TTL, {"TableName": table}),
        backups=_optional(connection, _BACKUPS, {"TableName": table}),
        tags=_tags(connection, arn),
    )


def _tags(connection: Connection, arn: str) -> Body | None:
    """Of all pages."""
    tags: list[Any] = []
    request: Body = {"ResourceArn": arn}
    while (page := _optional(connection, _TAGS, request)) is not None:
        tags += page.get("Tags", [])
        if not page.get("NextToken"):
            return {"Tags": tags}
        request["NextToken"] = page["NextToken"]
    return None


def _optional(connection: Connection, operation: Operation[Body], request: Body) -> Body | None:
    try:
        return connection.call(operation, request)
    except (AwsUnavailable, CredentialsExpired, Throttled):
        raise
    except AwsError:
        return None

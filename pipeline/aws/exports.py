"""The AWS edge: where an export lies, by its ARN.

Reads: DescribeExport. Writes: nothing. Never: files.
"""

import msgspec

from pipeline.aws.connection import Connection
from pipeline.aws.operations import DESCRIBE_EXPORT


class ExportInfo(msgspec.Struct, frozen=True):
    """An export as AWS describes it. manifest: the path of its summary in the bucket, once it is finished."""

    arn: str
    status: str
    bucket: str
    manifest: str | None
    format: str
    filtered: bool


def describe_export(connection: Connection, arn: str) -> ExportInfo:
    """Raises NotFound (an export is forgotten after 35 days), AccessDenied and the other AwsErrors."""
    found = connection.call(DESCRIBE_EXPORT, {"ExportArn": arn}).export_description
    return ExportInfo(
        arn=found.export_arn,
        status=found.export_status,
        bucket=found.s3_bucket,
        manifest=found.export_manifest,
        format=found.export_format,
        filtered=bool(found.filter_specification),
    )

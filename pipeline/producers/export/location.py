"""An export by the name that an operator has for it: a folder, `s3://bucket/path`, or its ARN.

Reads: DescribeExport for an ARN. Writes: nothing. Never: the store. The export's files are read by others.
"""

import re

from pipeline.aws import Bucket, Connection, describe_export
from pipeline.errors import ExportRefused
from pipeline.producers.export.files import Files, open_folder

#: What botocore takes for a bucket's name.
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")


def locate(given: str, connection: Connection) -> tuple[Files, str]:
    """Its files, and the path in them that `open_export` takes.

    connection: of the side whose table was exported; its credentials read the bucket as well. Raises
    ExportRefused, and AwsError for an ARN.
    """
    if given.startswith("arn:"):
        return _by_arn(given, connection)
    if given.startswith("s3://"):
        bucket, _, path = given.removeprefix("s3://").partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise ExportRefused(f"{given}: names no bucket", "write s3://BUCKET/PREFIX")
        return Bucket(connection, bucket), path.rstrip("/")
    return open_folder(given)


def _by_arn(arn: str, connection: Connection) -> tuple[Files, str]:
    info = describe_export(connection, arn)
    if info.status != "COMPLETED" or info.manifest is None:
        raise ExportRefused(f"{arn}: is {info.status}", "wait until it is completed, or name another one")
    if info.filtered:
        raise ExportRefused(
            f"{arn}: a filtered export holds only a part of the table", "make an export without a filter"
        )
    return Bucket(connection, info.bucket), info.manifest

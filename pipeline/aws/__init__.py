"""The AWS edge: one side's table and streams, as structs. Others import from here.

Rooms inside: `connection` (session, credentials), `service` (requests), `tables` and streams (what is asked),
`wire` (bodies), `errors` (foreign errors), `rate_limiter` (read units), `credential_files`.
"""

from pipeline.aws.connection import Connection, Identity, Observer, SideConfig, Silent
from pipeline.aws.exports import ExportInfo, describe_export
from pipeline.aws.rate_limiter import RateLimiter
from pipeline.aws.s3 import Bucket
from pipeline.aws.scanning import ScanPage, TableScanner
from pipeline.aws.tables import (
    MAX_KEYS,
    BatchResult,
    IteratorKind,
    RecordsPage,
    StreamClient,
    StreamInfo,
    TableInfo,
    TableReader,
    describe_table,
)
from pipeline.aws.wire import Record

__all__ = [
    "MAX_KEYS",
    "BatchResult",
    "Bucket",
    "Connection",
    "ExportInfo",
    "Identity",
    "IteratorKind",
    "Observer",
    "RateLimiter",
    "Record",
    "RecordsPage",
    "ScanPage",
    "SideConfig",
    "Silent",
    "StreamClient",
    "StreamInfo",
    "TableInfo",
    "TableReader",
    "TableScanner",
    "describe_export",
    "describe_table",
]

"""The AWS edge: one side's table and streams, as structs. Others import from here.

Rooms inside, from what is asked down to the socket: `tables`, `definitions`, `streams`, `scanning`,
`exports`; `operations` (what can be asked) and `wire` (the bodies of answers); `connection` (requests,
counted); `access` (session, credentials); `service` (requests); `refusal` and `errors` (what is answered
instead). Beside them
`date_clock` (the time there), `s3` (files in a bucket), `hosts` (which are AWS's), `rate_limiter` (read
units), `credential_files`.
"""

from pipeline.aws.access import Identity, Observer
from pipeline.aws.connection import Connection, Silent
from pipeline.aws.date_clock import DateClock
from pipeline.aws.definitions import read_definition
from pipeline.aws.exports import ExportInfo, describe_export
from pipeline.aws.hosts import one_service
from pipeline.aws.price_list import read_price
from pipeline.aws.rate_limiter import RateLimiter
from pipeline.aws.s3 import Bucket
from pipeline.aws.scanning import ScanPage, TableScanner
from pipeline.aws.streams import IteratorKind, RecordsPage, StreamClient, StreamInfo
from pipeline.aws.tables import MAX_KEYS, BatchResult, TableInfo, TableReader, describe_table, table_names
from pipeline.aws.wire import Record
from pipeline.core.model import SideConfig

__all__ = [
    "MAX_KEYS",
    "BatchResult",
    "Bucket",
    "Connection",
    "DateClock",
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
    "one_service",
    "read_definition",
    "read_price",
    "table_names",
]

"""The AWS edge: one side's table and streams, as structs. Others import from here.

Rooms inside, from what is asked down to the socket: `tables` and `streams`; `operations` (what can be asked)
and `wire` (the bodies of answers); `connection` (session, credentials); `service` (requests); `refusal` and
`errors` (what is answered instead). Beside them `date_clock` (the time there), `endpoints` (AWS's own hosts),
`rate_limiter` (read units), `credential_files`.
"""

from pipeline.aws.connection import Connection, Identity, Observer, Silent
from pipeline.aws.date_clock import DateClock
from pipeline.aws.endpoints import is_one_service
from pipeline.aws.rate_limiter import RateLimiter
from pipeline.aws.streams import IteratorKind, RecordsPage, StreamClient, StreamInfo
from pipeline.aws.tables import MAX_KEYS, BatchResult, TableInfo, TableReader, describe_table
from pipeline.aws.wire import Record
from pipeline.core.model import SideConfig

__all__ = [
    "MAX_KEYS",
    "BatchResult",
    "Connection",
    "DateClock",
    "Identity",
    "IteratorKind",
    "Observer",
    "RateLimiter",
    "Record",
    "RecordsPage",
    "SideConfig",
    "Silent",
    "StreamClient",
    "StreamInfo",
    "TableInfo",
    "TableReader",
    "describe_table",
    "is_one_service",
]

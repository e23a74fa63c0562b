"""Logging: structlog for our own lines, and the same form for those of botocore and other libraries.

Reads: nothing. Writes: standard error. Never: standard output. That is for results. No item value is in a
line.
"""

import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from pipeline.process import streams

if TYPE_CHECKING:
    from prometheus_client import Counter

#: Libraries that say at INFO what is of use to nobody, and at DEBUG what must not be shown: botocore's debug
#: lines hold whole requests and answers, item values included.
_QUIET = ("botocore", "boto3", "s3transfer")
#: Warns of odd headers, with a traceback and what they hold; what matters of it is an error of ours.
_SILENT = "urllib3"


def configure(form: str, level: str) -> None:
    """Set up logging for this process; call once, first thing. form: "console" or "json"."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(form)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    logging.getLogger(_SILENT).setLevel(logging.ERROR)


class _Counting(logging.Handler):
    def __init__(self, counters: "Mapping[str, Counter]") -> None:
        super().__init__()
        self._counters = counters

    def emit(self, record: logging.LogRecord) -> None:
        counter = self._counters.get(record.levelname.lower())
        if counter is not None:
            counter.inc()


def count(counters: "Mapping[str, Counter]") -> None:
    """Count every line from now on, by its level ("debug" … "critical")."""
    logging.getLogger().addHandler(_Counting(counters))


def _rendering(form: str) -> list[Any]:
    """Tracebacks without local variables: those hold items."""
    if form == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=streams.colored(sys.stderr), exception_formatter=plain)]

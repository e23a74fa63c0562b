"""Logging: structlog for our own lines, and the same form for those of botocore and other libraries.

Reads: nothing. Writes: standard error. Never: standard output. That is for results. No item value is in a
line; what comes from outside is short, and nothing that a terminal obeys; what fails again and again is a
warning once a minute.
"""

import logging
import sys
import textwrap
import threading
import time
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import structlog

from pipeline.core.quoting import printable_json, quoted
from pipeline.process import streams
from pipeline.process.traces import trace_of

if TYPE_CHECKING:
    from prometheus_client import Counter

#: Libraries that say at INFO what is of use to nobody, and at DEBUG what must not be shown: botocore's debug
#: lines hold whole requests and answers, item values included.
_QUIET = ("botocore", "boto3", "s3transfer")
#: Warns of odd headers, with a traceback and what they hold; what matters of it is an error of ours.
_SILENT = "urllib3"
#: A field's text is cut here, should nobody have cut it before.
FIELD_CHARACTERS = 500
#: The same trouble is a warning once in so long.
REPEAT_SECONDS = 60.0
#: What a person's terminal has at least.
COLUMNS = 80


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
            _Repeats(),
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
            foreign_pre_chain=[*shared, _untraced],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(form)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    logging.getLogger(_SILENT).setLevel(logging.ERROR)
    threading.excepthook = _thread_failed


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """Of a thread that nobody waits for; Python would print what the exception says."""
    if args.exc_value is not None:
        name = args.thread.name if args.thread else ""
        structlog.get_logger(__name__).error("thread failed", thread=name, exc_info=args.exc_value)


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


Event = MutableMapping[str, Any]


class _Repeats:
    """Drops a warning about what failed and is tried again, when the same one was written a moment ago.

    It is told by its field `retry_seconds`; the same are those of one event, kind of error and side.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._written: dict[tuple[Any, ...], float] = {}

    def __call__(self, logger: Any, method: str, event: Event) -> Event:
        if method != "warning" or "retry_seconds" not in event or logger.isEnabledFor(logging.DEBUG):
            return event
        same = (event["event"], event.get("kind"), event.get("side"))
        now = time.monotonic()
        with self._lock:
            if now - self._written.get(same, float("-inf")) < REPEAT_SECONDS:
                raise structlog.DropEvent
            self._written[same] = now
        return event


def _rendering(form: str) -> list[Any]:
    """Tracebacks without local variables and without what foreign exceptions say: those hold items."""
    exceptions = structlog.processors.ExceptionRenderer(lambda info: trace_of(info[1]))
    if form == "json":
        json = structlog.processors.JSONRenderer(ensure_ascii=False)
        return [exceptions, _fitted, lambda *event: printable_json(str(json(*event)))]
    return [exceptions, _fitted, _Console(colors=streams.colored(sys.stderr))]


def _untraced(_logger: Any, _method: str, event: Event) -> Event:
    """AWS's library adds a traceback to its warnings; what failed is told by our own error."""
    if event.get("level") == "warning" and str(event.get("logger")).startswith(_QUIET):
        failed = event.pop("exc_info", None)
        if isinstance(failed, tuple) and failed[0] is not None:
            event["error"] = failed[0].__name__
    return event


def _fitted(_logger: Any, _method: str, event: Event) -> Event:
    """Every text short."""
    for name, value in event.items():
        if name != "exception" and type(value) is str and len(value) > FIELD_CHARACTERS:
            event[name] = value[:FIELD_CHARACTERS] + "…"
    return event


class _Console:
    """A line for a person: the clock to the second, level, what happened; fields behind it, 80 columns."""

    def __init__(self, *, colors: bool) -> None:
        self._styles = structlog.dev.ConsoleRenderer.get_default_level_styles(colors)
        self._reset = "\x1b[0m" if colors else ""

    def __call__(self, _logger: Any, _method: str, event: Event) -> str:
        event.pop("logger", None)
        exception = event.pop("exception", None)
        clock = f"{str(event.pop('timestamp', ''))[:19]}Z"
        level = str(event.pop("level", "info"))
        said = _shown(event.pop("event", ""))
        fields = " ".join(f"{name}={_shown(event[name])}" for name in sorted(event))
        text = f"{said}  {fields}" if fields else said
        head = f"{clock} {level:<7} "
        lines = textwrap.wrap(head + text, COLUMNS, subsequent_indent="    ", break_on_hyphens=False)
        if style := self._styles.get(level, ""):
            lines[0] = lines[0].replace(level, f"{style}{level}{self._reset}", 1)
        return "\n".join([*lines, exception] if exception else lines)


def _shown(value: object) -> str:
    return quoted(value if isinstance(value, str) else str(value), FIELD_CHARACTERS)

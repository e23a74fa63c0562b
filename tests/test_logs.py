"""Log lines of both formats, for a person and a machine: short, plain, without values, not repeated."""

import codecs
import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import structlog

from pipeline.errors import ConfigurationError
from pipeline.process import logs
from pipeline.process.traces import trace_of

Make = Callable[..., structlog.stdlib.BoundLogger]
Capture = pytest.CaptureFixture[str]
VALUE = "hunter2"
HOSTILE = "\x1b]0;x\x07\x9b2J\x7f\u202eno open findings\u2028\r\n"


@pytest.fixture
def configured() -> Iterator[Make]:
    """Makes a logger of a form and level; afterwards all is as before."""
    root, before, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level

    def make(form: str, threshold: str = "info") -> structlog.stdlib.BoundLogger:
        logs.configure(form, threshold)
        logger: structlog.stdlib.BoundLogger = structlog.get_logger(f"test.{form}")
        return logger

    yield make
    root.handlers = before
    root.setLevel(level)
    structlog.reset_defaults()


def raised(raise_it: Callable[[], object]) -> BaseException:
    try:
        raise_it()
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError


def test_a_console_line_fits_80_columns_and_moves_no_terminal(configured: Make, capsys: Capture) -> None:
    configured("console").warning("something " + HOSTILE, name=HOSTILE, long="x" * 10_000, other=[HOSTILE])
    said = capsys.readouterr().err
    assert all(len(line) <= 80 and line.isprintable() for line in said.split("\n"))
    assert re.match(r"20..-..-..T..:..:..Z warning something", said)
    assert len(said) < 1_500


def test_a_json_line_is_one_line_of_the_same_json(configured: Make, capsys: Capture) -> None:
    configured("json").warning("something", name=HOSTILE, long="x" * 10_000)
    (line,) = capsys.readouterr().err.rstrip("\n").split("\n")
    assert line.isprintable() and len(line) < 1_500
    assert json.loads(line)["name"] == HOSTILE


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_library_s_line_is_cut_and_escaped_too(form: str, configured: Make, capsys: Capture) -> None:
    configured(form)
    logging.getLogger("botocore.x").warning("page: %s%s", HOSTILE, "x" * 200_000)
    said = capsys.readouterr().err
    assert len(said) < 2_000
    assert all(line.isprintable() for line in said.split("\n"))


def group() -> None:
    raise ExceptionGroup(VALUE, [ValueError(VALUE)])


@pytest.mark.parametrize(
    "raise_it",
    [
        lambda: float(VALUE),
        lambda: int(VALUE),
        lambda: dict[str, int]()[VALUE],
        lambda: json.loads(f'{{"a": {VALUE}}}'),
        lambda: codecs.encode(VALUE + "\udc80", "utf-8"),
        lambda: bytes.fromhex(VALUE),
        lambda: msgspec.convert(VALUE, int),
        group,
    ],
)
@pytest.mark.parametrize("form", ["console", "json"])
def test_no_traceback_repeats_what_a_foreign_exception_says(
    form: str, raise_it: Callable[[], object], configured: Make, capsys: Capture
) -> None:
    log = configured(form)
    try:
        raise_it()
    except Exception:
        log.exception("process failed")
    said = capsys.readouterr().err
    assert ("Traceback" in said and "process failed" in said and "Error" in said) or "ExceptionGroup" in said
    assert VALUE not in said


def test_a_traceback_says_what_our_own_errors_say_and_what_led_to_them() -> None:
    def failing() -> None:
        try:
            float(VALUE)
        except ValueError as error:
            raise ConfigurationError("the TTL attribute holds no number", "look at it") from error

    said = trace_of(raised(failing))
    assert VALUE not in said
    assert said.index("ValueError") < said.index("ConfigurationError: the TTL attribute holds no number")


def test_a_thread_that_fails_is_a_line_and_no_print(configured: Make, capsys: Capture) -> None:
    before = threading.excepthook
    configured("json")
    try:
        thread = threading.Thread(target=lambda: float(VALUE), name="lonely")
        thread.start()
        thread.join()
    finally:
        threading.excepthook = before
    (line,) = capsys.readouterr().err.splitlines()
    assert (json.loads(line)["thread"], VALUE in line) == ("lonely", False)


def test_a_deep_traceback_and_one_that_goes_round_in_circles_end() -> None:
    def deep() -> None:
        deep()

    assert len(trace_of(raised(deep)).splitlines()) < 200
    one, other = ValueError("a"), ValueError("b")
    one.__cause__, other.__cause__ = other, one
    assert trace_of(one).count("ValueError") == 2


def test_what_fails_again_and_again_is_a_warning_once_a_minute(configured: Make, capsys: Capture) -> None:
    log = configured("json")
    for number in range(100):
        log.warning("batch put back", error=f"AWS is away, {number}", kind="AwsUnavailable", retry_seconds=1)
        log.warning("page not read", error="x", side="source", retry_seconds=1)
    log.warning("page not read", error="x", side="target", retry_seconds=1)
    log.warning("batch put back", error="x", kind="Throttled", retry_seconds=1)
    for _ in range(3):
        log.warning("finding opened", key="k")  # is no trouble: each is one of its own
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events.count("batch put back") == 2
    assert events.count("page not read") == 2
    assert events.count("finding opened") == 3


def test_with_debug_nothing_is_left_out(configured: Make, capsys: Capture) -> None:
    log = configured("json", "debug")
    for _ in range(5):
        log.warning("batch put back", error="x", retry_seconds=1)
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_a_terminal_gets_colours_and_a_file_none(configured: Make, capsys: Capture) -> None:
    configured("console").error("broken")
    assert "\x1b" not in capsys.readouterr().err
    assert sys.stderr.isatty() is False


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_library_s_warning_is_a_line_without_a_traceback(
    configured: Make, capsys: Capture, form: str
) -> None:
    """botocore adds one when credentials cannot be renewed, such as from a token file that is gone."""
    configured(form)
    try:
        Path("/nowhere", VALUE).read_bytes()
    except OSError:
        logging.getLogger("botocore.credentials").warning("Refreshing failed", exc_info=True)
    said = capsys.readouterr().err
    assert "Refreshing failed" in said and "FileNotFoundError" in said
    assert "Traceback" not in said and VALUE not in said and len(said.splitlines()) <= 2

"""Take the pictures of report, live page and watch from a real run: `python -m tools.render_pages`.

Reads: the run of tests/deploy/live.py (emulated accounts, traffic with planted faults, every role). Writes:
docs/live-preview.png and docs/watch-preview.png, while there is traffic, and docs/report-preview.png, when
every planted fault is found. Never: a figure that the run did not have. Of the pages the upper part is shown.

Needs what the tests need: valkey, prometheus and its exporter of Redis, chromium, tmux.
"""

import base64
import io
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import NIGHT_OWLISH
from rich.text import Text

from tests import servers
from tests.browser import Browser, Page, chromium
from tests.deploy.live import Live, running
from tests.deploy.test_live import command, findings, truth
from tests.servers import ROOT
from tests.test_watch import terminal

TRAFFIC_SECONDS, SETTLE_SECONDS, LIVE_AFTER_SECONDS, WATCHED_SECONDS = 150.0, 120.0, 75.0, 12.0
WIDTH, HEIGHT = 1100, 1000
#: What of a page is shown: the report's answer and what it rests on, the terminal's screen.
TO_THE_TIMELINE = f"({{x: 0, y: 0, width: {WIDTH}, height: document.querySelector('#timeline').offsetTop}})"
THE_SCREEN = "document.querySelector('pre').getBoundingClientRect().toJSON()"
#: A tall picture is shown smaller.
TALL, SMALLER = 1_200, 0.8
#: Of the terminal.
COLUMNS, LINES = 100, 34


def main() -> None:
    """Run the world, look at it twice."""
    with (
        tempfile.TemporaryDirectory(prefix="ddbmm-pictures-") as where,
        running(Path(where), TRAFFIC_SECONDS, None) as live,
        chromium() as browser,
    ):
        _mark(live, "T0", "T1", "T2")
        time.sleep(LIVE_AFTER_SECONDS)  # the page shall have something to show
        _take(browser, live.url("monitor", "/?still"), ROOT / "docs" / "live-preview.png")
        _take_watch(browser, live, Path(where))
        _mark(live, "T3")
        servers.eventually(live.truth_file.exists, TRAFFIC_SECONDS + SETTLE_SECONDS, "the planted truth")
        servers.eventually(lambda: findings(live) == truth(live), SETTLE_SECONDS, "findings = planted truth")
        report = Path(where) / "report.html"
        command(live, "report", "--output", str(report))
        _take(browser, report.as_uri(), ROOT / "docs" / "report-preview.png", TO_THE_TIMELINE)


def _mark(live: Live, *milestones: str) -> None:
    for milestone in milestones:
        command(live, "mark", milestone).check_returncode()


def _take_watch(browser: Browser, live: Live, directory: Path) -> None:
    """What the terminal shows, with its colours, drawn by the browser."""
    folder = directory / "watch"
    folder.mkdir()
    with terminal(folder, COLUMNS, LINES, **live.environment()) as seen:
        seen.watch([])
        seen.shows("demo: ")
        time.sleep(WATCHED_SECONDS)  # its rates are those since it began
        shown = seen.tmux("capture-pane", "-e", "-p", "-t", "0")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), legacy_windows=False)
    for line in shown.rstrip().split("\n"):
        console.print(Text.from_ansi(line), soft_wrap=True)
    page = folder / "watch.html"
    page.write_text(console.export_html(theme=NIGHT_OWLISH, inline_styles=True), encoding="utf-8")
    _take(browser, page.as_uri(), ROOT / "docs" / "watch-preview.png", THE_SCREEN)


def _take(browser: Browser, url: str, file: Path, shown: str = "") -> None:
    """shown: JavaScript for the part of the page, instead of its upper part."""
    page = Page(browser, WIDTH, HEIGHT)
    try:
        page.open(url)
        clip = page.evaluate(shown) if shown else {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT}
        clip["scale"] = SMALLER if clip["height"] > TALL else 1
        shot = page.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))
    finally:
        page.close()
    print(f"{file}: {file.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()

"""`status --watch`: the real program in a real terminal (tmux), and its lines without one."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.gate import Result
from pipeline.report import cover
from pipeline.report.watch_overview import overview
from pipeline.report.watch_text import Line, Rates, fitted, picture, rates, shown_in, sparkline
from pipeline.report.words import instant
from pipeline.store import embedded
from tests import servers
from tests.report_states import MAKER, NOON_MS, STATES, facts_of, healthy, hostile, thirty
from tests.servers import ROOT, eventually
from tests.test_findings import put
from tests.whole_store import WholeStore

SETTINGS = {"verify_on": "target", "partition_key": "pk", "partition_type": "S"}


# --- the lines ---------------------------------------------------------------------------------------------


def texts(name: str, *, tall: bool = False, trouble: str = "") -> list[str]:
    return [one.text for one in picture(STATES[name](), Rates(12.25, 3), trouble, 35, tall=tall)]


@pytest.mark.parametrize(("name", "answer"), [("healthy", "GO"), ("one-bad-item", "NO-GO"), ("gap", "NO-GO")])
def test_the_answer_comes_first_then_what_keeps_from_it(name: str, answer: str) -> None:
    shown = texts(name)
    assert shown[0] == f"orders: {answer}  at {instant(STATES[name]().at_ms)}"
    facts = STATES[name]()
    for check in facts.checks:
        assert any(check.name in line for line in shown)
    assert "12.2 records read, 3.0 looks at items, a second" in "\n".join(shown)


def test_a_tall_window_has_every_check_in_a_line_with_its_reason() -> None:
    facts, shown = STATES["one-bad-item"](), "\n".join(texts("one-bad-item", tall=True))
    assert all(check.reason in shown for check in facts.checks)
    assert "1 × different at contact.name" in shown


def test_figures_that_are_old_are_said_to_be_and_their_answer_is_no_go_that_counts() -> None:
    lines = picture(STATES["healthy"](), None, "Redis cannot be reached", 35, tall=False)
    assert lines[0].tone is Result.INCONCLUSIVE
    assert lines[1].text == "NO NEWER FIGURES: Redis cannot be reached"
    assert lines[2].text == "these figures are 35 s old, and nobody knows what came since"


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("height", [1, 5, 12, 23, 59])
def test_any_window_holds_the_answer_first(name: str, height: int) -> None:
    lines = picture(STATES[name](), None, "", 0, tall=height >= 40)
    kept = fitted(lines, height)
    assert len(kept) == min(height, len(lines))
    assert kept[0] == lines[0]
    if height >= 23:
        assert [one for one in kept if one.weight == 0] == [one for one in lines if one.weight == 0]


def test_a_line_goes_on_below_where_there_is_room_and_is_cut_where_there_is_none() -> None:
    lines = [Line("a " * 30, indent=3), Line("", weight=9), Line("b")]
    assert [one.text for one in shown_in(lines, 40, 3)] == ["a " * 19 + "a", "   " + "a " * 9 + "a", "b"]
    assert [one.text for one in shown_in(lines, 40, 4)][2:] == ["", "b"]
    assert [one.text for one in shown_in(lines, 40, 2)] == ["a " * 30, "b"]
    both = [Line("a " * 30), Line("b " * 60), Line("c " * 30)]
    assert len(shown_in(both, 40, 5)) == 5  # the second would take one line too many


@pytest.mark.parametrize("name", STATES)
def test_a_usual_window_holds_all_that_is_said(name: str) -> None:
    lines = picture(STATES[name](), Rates(1, 1), "", 0, tall=False)
    shown = " ".join(" ".join(one.text.split()) for one in shown_in(lines, 80, 23))
    assert all(" ".join(one.text.split()) in shown for one in lines if one.weight <= 3)


def test_names_from_outside_are_text() -> None:
    for line in picture(hostile(), None, "\x1b[2J", 0, tall=True):
        assert line.text.isprintable()


def test_rates_are_of_what_lies_between() -> None:
    before = healthy()
    later = STATES["healthy"]()
    assert rates(facts_of(before), later) is None  # of one instant


def test_a_sparkline_shows_the_highest_and_leaves_gaps_blank() -> None:
    measured = [(number * 30_000, float(number % 8)) for number in range(16)]
    assert sparkline(measured, 16) == "▁▂▃▄▅▆▇█▁▂▃▄▅▆▇█ p99 of 7 min 30 s, up to 7.0 s"
    assert sparkline([(0, 1.0), (30_000, None), (60_000, 4.0)], 3).startswith("▃ █ ")
    assert sparkline([(0, 0.0), (60_000, 0.0)], 2).startswith("▁▁ ")
    assert sparkline([(0, None), (60_000, None)], 2) == ""
    assert sparkline([(0, 1.0)], 60) == ""


# --- many migrations ---------------------------------------------------------------------------------------


def overview_of(height: int, trouble: str = "") -> list[str]:
    standings = cover.make(thirty(), MAKER).standings
    return [one.text for one in overview(standings, NOON_MS, trouble, 35, height)]


@pytest.mark.parametrize("height", [1, 3, 5, 9, 23, 33, 40, 59, 1_000])
@pytest.mark.parametrize("trouble", ["", "Redis cannot be reached"])
def test_thirty_migrations_fit_any_window_worst_first_and_the_rest_is_counted(
    height: int, trouble: str
) -> None:
    lines = overview_of(height, trouble)
    assert len(lines) <= height and lines[0].startswith("NO-GO  at 2026-11-23T12:00:00")
    rows = [line for line in lines if re.match(r"  \S+ +(GO|NO-GO|TOO EARLY TO SAY|CANNOT BE READ) ", line)]
    found = [line for line in lines if line.startswith("  and ")]
    if height == 23:
        named = 16 if trouble else 18
        assert (len(rows), found) == (named, [f"  and {30 - named} migrations: {30 - named} GO"])
        assert all(len(line) <= 80 for line in lines)
        assert [row.split()[0] for row in rows[:2]] == ["hostile", "one-bad-item"]
    if height == 40 and not trouble:
        assert len(rows) == 30 and lines[5] == "    open findings: 8 stale"
    if height == 1_000:
        assert "    open findings: 8 stale" in lines and not found
    for line in lines:
        assert line.isprintable()


def test_old_figures_of_many_are_said_to_be() -> None:
    lines = overview_of(24, "Redis cannot be reached")
    assert lines[1] == "NO NEWER FIGURES: Redis cannot be reached"
    assert lines[2] == "these figures are 35 s old, and nobody knows what came since"


# --- in a terminal -----------------------------------------------------------------------------------------


class Terminal:
    """A shell in a tmux of our own; what it shows, and how it is left."""

    def __init__(self, directory: Path, columns: int, lines: int, **environment: str) -> None:
        self.directory = directory
        self._tmux = [servers.needed("tmux", shutil.which("tmux"), "apt-get install tmux")]
        self._tmux += ["-u", "-f", "/dev/null", "-S", str(directory / "tmux")]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "PS1": "$ ", **environment}
        env.pop("TMUX", None)
        size = ("-x", str(columns), "-y", str(lines))
        command = [*self._tmux, "new-session", "-d", *size, "-c", str(directory), "sh"]
        subprocess.run(command, env=env, check=True, timeout=30)
        self.tmux("pipe-pane", "-t", "0", f"cat > {shlex.quote(str(directory / 'raw'))}")

    def tmux(self, *words: str) -> str:
        done = subprocess.run([*self._tmux, *words], capture_output=True, text=True, timeout=30, check=True)
        return done.stdout

    def type(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", "0", *keys)

    def screen(self) -> list[str]:
        return self.tmux("capture-pane", "-p", "-t", "0").split("\n")

    def shows(self, text: str) -> None:
        eventually(lambda: any(text in line for line in self.screen()), 60, f"{text!r} in {self.screen()}")

    def flag(self, name: str) -> str:
        return self.tmux("display-message", "-p", "-t", "0", f"#{{{name}}}").strip()

    def watch(self, options: list[str], *, before: str = "") -> None:
        """Start it; how the terminal is before and after goes into files."""
        program = shlex.join([sys.executable, "-m", "pipeline.cli", "status", "--watch", *options])
        script = f"stty -g > before\n{before}{program}\necho code=$?\nstty -g > after\n"
        (self.directory / "script").write_text(script)
        self.type(". ./script", "Enter")

    def is_as_before(self) -> None:
        """The shell is back, the terminal as it was, and nothing was scrolled away."""
        self.shows("code=0")
        eventually((self.directory / "after").exists, 30)
        eventually((self.directory / "after").read_text, 30)
        assert (self.directory / "after").read_text() == (self.directory / "before").read_text()
        assert (self.flag("alternate_on"), self.flag("cursor_flag"), self.flag("history_size")) == (
            "0",
            "1",
            "0",
        )

    def close(self) -> None:
        self.tmux("kill-server")


@contextlib.contextmanager
def terminal(directory: Path, columns: int, lines: int, **environment: str) -> Iterator[Terminal]:
    made = Terminal(directory, columns, lines, **environment)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def store(valkey_url: str) -> Iterator[WholeStore]:
    store = WholeStore.begin(valkey_url, f"watch-{uuid.uuid4().hex}", SETTINGS)
    yield store
    store.close()


def options(store: WholeStore, url: str) -> list[str]:
    return ["--migration", store.migration, "--redis-url", url]


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 60)])
def test_it_is_renewed_in_place_resized_and_ended_by_q(
    tmp_path: Path, store: WholeStore, valkey_url: str, columns: int, lines: int
) -> None:
    put(store, "c#1")
    with terminal(tmp_path, columns, lines) as seen:
        seen.watch(options(store, valkey_url))
        seen.shows(f"{store.migration}: NO-GO")
        seen.shows("findings  1 open: 1 different")
        seen.shows("1 × different at contact.name")
        assert seen.screen()[lines - 1] == "q ends it; renewed every 2 s"
        assert seen.flag("alternate_on") == "1"
        put(store, "c#2", "c#3", kind="missing", attributes=[])
        seen.shows("3 open: 1 different, 2 missing")
        seen.tmux("resize-window", "-x", "100", "-y", "30")
        eventually(lambda: seen.screen()[29] == "q ends it; renewed every 2 s", 30)
        seen.tmux("resize-window", "-x", "20", "-y", "5")
        eventually(
            lambda: seen.screen()[0].startswith("watch-") and seen.screen()[4].startswith("q ends it"), 30
        )
        seen.tmux("resize-window", "-x", str(columns), "-y", str(lines))
        eventually(lambda: seen.screen()[lines - 1] == "q ends it; renewed every 2 s", 30)
        seen.type("F2")  # a sequence with a Q in it
        put(store, "c#4")
        seen.shows("4 open: 2 different, 2 missing")
        seen.type("q")
        seen.is_as_before()
        raw = (tmp_path / "raw").read_bytes()
        assert raw.count(b"\x1b[2J") == 0  # nothing was ever wiped
        assert (raw.count(b"\x1b[?1049h"), raw.count(b"\x1b[?1049l")) == (1, 1)


@pytest.mark.parametrize("way", ["C-c", "C-z q", "TERM", "HUP"])
def test_the_terminal_is_put_back_whatever_ends_it(
    tmp_path: Path, store: WholeStore, valkey_url: str, way: str
) -> None:
    with terminal(tmp_path, 80, 24) as seen:
        seen.watch(options(store, valkey_url))
        seen.shows("q ends it")
        if way in ("TERM", "HUP"):
            shell = int(seen.flag("pane_pid"))
            [child] = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
            os.kill(int(child), signal.Signals[f"SIG{way}"])
        else:
            seen.type(*way.split())
        seen.is_as_before()


def test_a_store_that_goes_away_is_said_with_the_age_of_the_figures(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with terminal(tmp_path, 80, 24) as seen:
        with servers.redis_like(servers.valkey_binary(), tmp_path / "server") as url:
            store = WholeStore.begin(url, "orders", SETTINGS)
            seen.watch(options(store, url))
            seen.shows("orders: NO-GO")
            store.close()
        seen.shows("NO NEWER FIGURES: Redis cannot be reached")
        seen.shows(" s old, and nobody knows what came since")
        seen.type("q")
        seen.is_as_before()


def test_without_colours_the_picture_is_the_same(tmp_path: Path, store: WholeStore, valkey_url: str) -> None:
    with terminal(tmp_path, 80, 24, NO_COLOR="1") as seen:
        seen.watch(options(store, valkey_url))
        seen.shows("q ends it")
        seen.type("q")
        seen.is_as_before()
        raw = (tmp_path / "raw").read_bytes()
        assert not [code for code in range(30, 48) if b"\x1b[%dm" % code in raw or b";%dm" % code in raw]


def test_a_keyboard_that_is_none_leaves_ctrl_c(tmp_path: Path, store: WholeStore, valkey_url: str) -> None:
    with terminal(tmp_path, 80, 24) as seen:
        seen.watch([*options(store, valkey_url)], before="</dev/null ")
        seen.shows("Ctrl-C ends it")
        seen.type("C-c")
        seen.is_as_before()


def test_a_dumb_terminal_gets_plain_text(tmp_path: Path, store: WholeStore, valkey_url: str) -> None:
    with terminal(tmp_path, 100, 50) as seen:
        seen.watch([*options(store, valkey_url), "--statistics-every", "1s"], before="TERM=dumb ")
        seen.shows(": NO-GO")
        assert seen.flag("alternate_on") == "0"
        seen.type("C-c")
        seen.shows("code=0")


def test_thirty_migrations_are_calm_in_a_usual_window(
    tmp_path: Path, store: WholeStore, valkey_url: str
) -> None:
    """One NO-GO, one that has not begun; the others know nothing yet."""
    put(store, "c#1")
    mark = uuid.uuid4().hex[:6]
    names = [f"table-{number:02}-{mark}" for number in range(28)]
    for name in names:
        WholeStore.begin(valkey_url, name, SETTINGS).close()
    file = tmp_path / "many.yml"
    named = "".join(f"  {name}: {{}}\n" for name in [*names, f"never-{mark}", store.migration])
    file.write_text(f"redis-url: {valkey_url}\nmigrations:\n{named}")
    with terminal(tmp_path, 80, 24) as seen:
        seen.watch(["--config", str(file)])
        seen.shows("30 migrations: 29 NO-GO, 1 CANNOT BE READ")
        screen = seen.screen()
        assert screen[0].startswith("NO-GO  at ") and screen[2:4][1].split() == [
            *("MIGRATION", "ANSWER", "OPEN", "LAG", "READER", "LAG")
        ]
        assert re.match(r"  watch-\w{5}….{12} +NO-GO +1 +- ", screen[4])
        assert screen[22] == "  and 12 migrations: 11 NO-GO, 1 CANNOT BE READ"
        assert screen[23] == "q ends it; renewed every 2 s"
        put(store, "c#2")
        eventually(lambda: re.match(r"  watch-.* NO-GO +2 ", seen.screen()[4]), 30)
        seen.tmux("resize-window", "-x", "100", "-y", "40")
        seen.shows("    open findings: 2 different (and ")
        seen.tmux("resize-window", "-x", "40", "-y", "8")

        def is_small() -> bool:
            first, *_, rest, ends = seen.screen()[:8]
            return first.startswith("NO-GO") and rest.startswith("  and ") and ends.startswith("q ends it")

        eventually(is_small, 30)
        seen.tmux("resize-window", "-x", "80", "-y", "24")
        eventually(lambda: seen.screen()[23].startswith("q ends it"), 30)
        seen.type("q")
        seen.is_as_before()


# --- without a terminal ------------------------------------------------------------------------------------


def test_blocks_of_plain_text_without_a_terminal(store: WholeStore, valkey_url: str) -> None:
    command = [sys.executable, "-m", "pipeline.cli", "status", "--watch", "--statistics-every", "500ms"]
    child = subprocess.Popen(
        [*command, *options(store, valkey_url)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        heads = 0
        for line in child.stdout:
            assert "\x1b" not in line
            assert len(line) <= 81
            heads += line.startswith(f"{store.migration}: NO-GO")
            if heads == 2:
                break
        child.send_signal(signal.SIGINT)
        child.stdout.read()
        assert child.wait(120) == 0
    finally:
        child.kill()
        child.wait()


def test_it_watches_the_embedded_server_of_a_run_and_follows_it_when_it_ends(tmp_path: Path) -> None:
    state = tmp_path / "state"
    command = [sys.executable, "-m", "pipeline.cli", "status", "--watch", "--statistics-every", "500ms"]
    command += ["--migration", "orders", "--state-dir", str(state)]
    with (tmp_path / "said").open("w") as said:
        with embedded.running(str(state)) as url:
            WholeStore.begin(url, "orders", SETTINGS).close()
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said)
            eventually(lambda: "orders: NO-GO" in (tmp_path / "said").read_text(), 60)
        try:
            eventually(
                lambda: "NO NEWER FIGURES: no run keeps its state in" in (tmp_path / "said").read_text(), 60
            )
            with embedded.running(str(state)):  # the watch does not keep the next run from its state
                eventually(
                    lambda: (tmp_path / "said").read_text().rpartition("orders: ")[2].count("NO NEWER") == 0,
                    60,
                )
            child.send_signal(signal.SIGTERM)
            assert child.wait(120) == 0
        finally:
            child.kill()
            child.wait()


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pipeline.cli", "status", "--watch", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_what_cannot_begin_ends_as_status_does(store: WholeStore, valkey_url: str, tmp_path: Path) -> None:
    assert run("--migration", "nobody", "--redis-url", valkey_url).returncode == 4
    assert (
        run("--migration", "orders", "--redis-url", f"redis://127.0.0.1:{servers.free_port()}/0").returncode
        == 5
    )
    assert run(*options(store, valkey_url), "--json").returncode == 2
    at_rest = run("--migration", "orders", "--state-dir", str(tmp_path))
    assert at_rest.returncode == 4
    assert "no run keeps its state in" in at_rest.stderr
    assert not list(tmp_path.iterdir())

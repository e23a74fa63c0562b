"""What the faults befall: two tables, a Redis that can be killed, the program, and proxies between them.

Reads: logs, the store. Writes: items, faults, signals to processes that it started. Never: anything on which
the program's verdicts depend but the two tables.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec
import pytest
import redis

from pipeline.core.ledger import Ledger
from pipeline.errors import StoreError
from tests import servers
from tests.fake import FakeProcess
from tests.faults import accounts
from tests.faults.proxy import Proxy
from tests.servers import eventually
from tests.system import FakeTable, Item, System, string_key
from tests.whole_store import watch

AOF = ("--appendonly", "yes", "--save", "")
RDB = ("--appendonly", "no", "--save", "")
SLOTS = ("reader-0", "validator-0", "validator-1", "monitor-0")
REST_SECONDS = 90.0
#: Between two writes of the writer in the background.
PACE_SECONDS = 0.02


class World(System):
    """A context manager. The program reaches both servers through proxies, the test goes straight."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        server: str = "valkey",
        durability: tuple[str, ...] = AOF,
        shards: int = 4,
        keys: dict[str, str] | None = None,
        key: object = string_key,
        also: Item | None = None,
        clock: servers.SteppingClock | None = None,
        url: str = "",
    ) -> None:
        """clock: the one that Redis goes by. url: of a Redis that the test has made, without a proxy."""
        self._clock = clock
        self._open = contextlib.ExitStack()
        self.fake = self._open.enter_context(FakeProcess())
        types = list((keys or {"pk": "S"}).values())
        table = {"partition_type": types[0]}
        if len(types) > 1:
            table |= {"sort_key": "sk", "sort_type": types[1]}
        self.fake.steer("create_table", name="source", view="NEW_AND_OLD_IMAGES", shards=shards, **table)
        self.fake.steer("create_table", name="target", **table)
        self._binary = servers.valkey_binary() if server == "valkey" else servers.redis_binary()
        self._durability = durability
        self._state_directory = directory / "redis"
        self._redis_port = servers.free_port()
        self._redis_process: contextlib.ExitStack | None = None
        if not url:
            self.start_redis()
        self.redis_proxy = self._open.enter_context(Proxy(self._redis_port))
        self.aws_proxy = self._open.enter_context(Proxy(self.fake.port))
        tables = [FakeTable(self.fake, name) for name in ("source", "target")]
        for one in tables:
            one.url = f"http://127.0.0.1:{self.aws_proxy.port}"
        super().__init__(
            directory,
            url or f"redis://127.0.0.1:{self.redis_proxy.port}/0",
            tables[0],
            tables[1],
            "faults",
            *("--workers", "2", *options),
            key=key,  # type: ignore[arg-type]
            also=also,
        )
        self.store_url = url or f"redis://127.0.0.1:{self._redis_port}/0"
        self.look_at(self.store_url)
        self.kills = 0
        self.trimmed = 0  # change records that nobody could read any more
        self._alarms = 0
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_redis(signal.SIGKILL)
        self._open.close()

    # --- Redis ---------------------------------------------------------------------------------------------

    @property
    def is_durable(self) -> bool:
        return self._durability is AOF

    def look_at(self, url: str) -> None:
        """Where the test looks for the state from now on."""
        self.store = watch(url, "faults")

    @property
    def redis(self) -> "redis.Redis":
        return self.store._redis

    def start_redis(self) -> None:
        self._redis_process = contextlib.ExitStack()
        self._redis_process.enter_context(
            servers.redis_like(
                self._binary,
                self._state_directory,
                *self._durability,
                port=self._redis_port,
                clock=self._clock,
            )
        )

    def stop_redis(self, number: int) -> None:
        if self._redis_process is not None:
            pid = redis.Redis.from_url(self.store_url).info("server")["process_id"]
            os.kill(pid, number)
            self._redis_process.close()
            self._redis_process = None

    # --- the program ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def playing(self, *roles: str) -> Iterator[list["subprocess.Popen[bytes]"]]:
        """Each role in a supervisor of its own, as in containers."""
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(
                    servers.process(
                        [sys.executable, "-m", "pipeline.cli", role, *self._state, *self._options],
                        log=self.log,
                        env=dict(os.environ),
                    )
                )
                for role in roles
            ]

    @contextlib.contextmanager
    def watching(self) -> Iterator["subprocess.Popen[bytes]"]:
        """`running`, from the moment on that every process has begun its work."""
        lives = {slot: len(self.pids(slot)) for slot in SLOTS}
        began = len(self.logged("validator started"))
        with self.running() as supervisor:
            for slot, life in lives.items():
                self.wait_for(slot, life + 1)
            eventually(lambda: len(self.logged("validator started")) >= began + 2, 60)
            eventually(self.store.partitions, 60)
            yield supervisor

    def kill(self, pid: int) -> None:
        """kill -9, counted."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills += 1

    def wait_for(self, slot: str, life: int) -> int:
        """The process id of a slot's process, once it has started that often."""
        return eventually(lambda: self.pids(slot)[life - 1 :], 60, f"{slot} started {life} times")[0]

    # --- what happens --------------------------------------------------------------------------------------

    def plant(self, keys: int = 10) -> None:
        """New keys: four of every ten end up wrong in the target, one of each kind."""
        for number in itertools.islice(self._numbers, keys):
            self._plant(f"k{number}", number)

    def _plant(self, name: str, number: int) -> None:
        self.write(name, f"first of {number}")
        fault = {1: None, 2: "wrong", 3: "none", 4: "none"}.get(number % 10, "same")
        self.write(name, None if number % 10 == 4 else f"second of {number}", fault)
        self._alarms += fault != "same"

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Plant keys, and toggle hot ones, in the background."""
        end = threading.Event()

        def write() -> None:
            for number in self._numbers:
                if end.wait(PACE_SECONDS):
                    return
                self._plant(f"k{number}", number)
                self.write(f"hot-{number % 3}", str(number % 2))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield
        finally:
            end.set()
            writer.join()

    # --- the books -----------------------------------------------------------------------------------------

    def rest(self) -> Ledger:
        """Wait until every change that can be read is judged."""

        def rested() -> Ledger | None:
            with contextlib.suppress(StoreError):
                ledger = self.store.ledger()
                read = ledger.records_read >= self.writes - self.trimmed
                return ledger if read and not ledger.outstanding else None
            return None

        try:
            return eventually(rested, REST_SECONDS, "every change judged")
        except pytest.fail.Exception:
            print(self.writes, self.store.ledger(), self.store.queue(), sep="\n")
            raise

    def found(self) -> dict[str, str]:
        """key → kind, straight from the store."""
        shown = dict(self._compact_names())
        return {shown.get(one.key, repr(one.key)): str(one.kind) for one in self.store.findings()}

    def _compact_names(self) -> Iterator[tuple[bytes, str]]:
        for name in self.source:
            parts = [msgspec.json.encode(next(iter(value.values()))) for value in self._key(name).values()]
            yield b",".join(parts), name

    def settle(self, case: str) -> None:
        """Wait for rest, then check everything that must be true after a fault, and note the case's row."""
        ledger = self.rest()
        accounts.assert_books_balance(self.store)
        accounts.assert_each_key_in_one_place(self.store)
        found, truth = self.found(), self.truth()
        readable = self.writes - self.trimmed
        accounts.ROWS.append(
            accounts.Row(
                case,
                self.kills,
                ledger.versions_published,
                max(0, readable - ledger.versions_published),
                max(0, ledger.versions_published - readable),
                sum(truth.get(key) != kind for key, kind in found.items()) + ledger.recovered,
                len(truth.keys() - found.keys()),
            )
        )
        assert found == truth
        assert (ledger.records_read, ledger.versions_published) == (readable, readable)
        assert ledger.recovered == 0, "a finding was opened that was none"
        assert sum(ledger.mismatches.values()) == len(truth)
        assert self.store.queue().dead == 0

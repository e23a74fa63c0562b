"""The preflight: every check a line, ok, warn or fail, with its remedy; and the plan of `run --dry-run`.

Reads: both tables (one key that does not exist), the stream (at most one record), STS, Redis, modes of AWS's
files. Writes: standard output. Never: the store's writers. No value of an item is asked for.

A check is a method of _Examination that returns lines; a MonitorError it raises is its `fail` line. What a
check needs and could not be had is not checked again: one mistake, one line.
"""

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline import both_tables
from pipeline.aws import Connection, TableInfo, credential_files, read_definition
from pipeline.both_tables import Apart, Tables
from pipeline.commands import preflight
from pipeline.commands.lines import Level, Line, checked, show, show_each
from pipeline.commands.notes import notes
from pipeline.commands.preflight import Reached, StreamSeen
from pipeline.commands.preparing import THREADS
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.comparing.definitions import Definition, compare_definitions
from pipeline.core.model import Side, StreamView
from pipeline.producers.export.opened import open_for
from pipeline.report import comparison_text
from pipeline.report.words import instant, many
from pipeline.sides import Connections, connect
from pipeline.store import RedisConnection, check_server, check_settings, load

#: AWS refuses requests that are signed 5 minutes off; lag figures suffer from much less.
SKEW_WARN_MS, SKEW_FAIL_MS = 2_000, 300_000
EXPIRY_WARN_SECONDS = 3600
#: One unit reads 4 KB strongly consistent, or twice that eventually consistent.
UNIT_BYTES = 4096
#: Looks per version in sync, the stability look included (upper bound of the design).
LOOKS_PER_VERSION = 1.5


def run(process: ProcessConfig, migrations: Sequence[MigrationConfig]) -> int:
    """Print the lines, with several migrations a section of each; 0 when none failed, else 4."""
    if len(migrations) == 1:
        return show(examine(process, migrations[0]), as_json=process.json)
    reached = Connections().connect
    examined = [_Examination(process, one, reached) for one in migrations]
    with ThreadPoolExecutor(min(THREADS, len(migrations)), "doctor") as pool:
        found = list(pool.map(_Examination.lines, examined))
    for own, lines in zip(found, _among(examined), strict=True):
        own.extend(lines)
    sections = {one.name: lines for one, lines in zip(migrations, found, strict=True)}
    return show_each(sections, as_json=process.json)


def _among(examined: "Iterable[_Examination]") -> list[list[Line]]:
    """What is to be said of each beside those before it: it watches their tables, or reads their stream."""
    apart = Apart()
    readers: dict[object, str] = {}
    return [
        checked("tables", lambda one=one: one.check_apart(apart)) + one.same_stream(readers)  # type: ignore[misc]
        for one in examined
    ]


def examine(process: ProcessConfig, migration: MigrationConfig, reached: Reached = connect) -> list[Line]:
    """Every line, in the order in which the checks build on each other. reached: as `preflight.prepare`'s."""
    return _Examination(process, migration, reached).lines()


class _Examination:
    def __init__(self, process: ProcessConfig, migration: MigrationConfig, reached: Reached) -> None:
        self._process = process
        self._reached = reached
        self._migration = migration
        self._connections: dict[str, Connection] = {}
        self._tables: Tables | None = None
        self._stream: StreamSeen | None = None
        self._server_is_fine = False
        self._unproven: dict[str, Line] = {}  # by side: what may be said once a call has succeeded

    def lines(self) -> list[Line]:
        lines = _files(self._migration)
        for side in ("source", "target", "stream"):
            lines += checked(f"{side} access", lambda side=side: self._access(side))  # type: ignore[misc]
        lines += checked("tables", self._see_tables)
        lines += checked("keys", self._keys)
        lines += checked("definitions", self._definitions)
        for side in Side:
            lines += checked(f"{side} reads", lambda side=side: self._reads(side))  # type: ignore[misc]
            lines += checked(f"{side} export", lambda side=side: self._export(side))  # type: ignore[misc]
        lines += checked("TTL", self._ttl)
        lines += checked("stream", self._see_stream)
        lines += checked("stream reads", self._stream_reads)
        for side in ("source", "target", "stream"):
            lines += checked(f"{side} clock", lambda side=side: self._clock(side))  # type: ignore[misc]
        lines += checked("redis", self._redis)
        lines += checked("state", self._state)
        lines += checked("read units", self._read_units)
        lines += checked("direction", self._direction)
        lines += self._notes()
        return lines

    def check_apart(self, apart: Apart) -> Iterable[Line]:
        """No line; raises as `Apart.add`."""
        if self._tables is not None:
            apart.add(self._migration, self._tables)
        return ()

    def same_stream(self, readers: dict[object, str]) -> list[Line]:
        """readers: who of those before it reads which stream."""
        if self._stream is None:
            return []
        place = self._stream.info.arn, self._stream.endpoint
        other = readers.setdefault(place, self._migration.name)
        if other == self._migration.name:
            return []
        says = f"migration {other} reads this stream as well, and each of both counts as a reader of its own"
        remedy = "make sure that AWS allows so many beside the replicator; else requests are throttled"
        return [Line("stream readers", "warn", says, remedy)]

    # --- access ------------------------------------------------------------------------------------------

    def _access(self, side: str) -> Iterable[Line]:
        connection = self._reached(self._migration, side)
        who = preflight.asked(connection.identity)
        self._connections[side] = connection
        if who.arn is None:  # nobody has answered yet: said once the table or stream was described
            says = f"{who.endpoint}, region {who.region}, identity unknown"
            self._unproven[side] = Line(f"{side} access", "ok", says)
        else:
            yield Line(f"{side} access", "ok", f"{who.arn} at {who.endpoint}, region {who.region}")
        expires = connection.credentials_expire_at_seconds
        if expires is not None:
            yield _expiry(side, expires - time.time())

    def _proven(self, side: str) -> Iterable[Line]:
        """That the side lets us in; nothing where that is said already."""
        if line := self._unproven.pop(side, None):
            yield line

    def _clock(self, side: str) -> Iterable[Line]:
        skew_ms = self._connections[side].skew_ms if side in self._connections else None
        if skew_ms is None:
            return
        level: Level = (
            "ok" if abs(skew_ms) < SKEW_WARN_MS else "warn" if abs(skew_ms) < SKEW_FAIL_MS else "fail"
        )
        says = f"AWS is {round(skew_ms / 1000):+d} s from this host (± 1 s)"
        yield Line(
            f"{side} clock", level, says, "" if level == "ok" else "synchronise this host's clock (NTP)"
        )

    # --- tables ------------------------------------------------------------------------------------------

    def _see_tables(self) -> Iterable[Line]:
        source, target = self._connections.get("source"), self._connections.get("target")
        if source is None or target is None:
            return
        self._tables = preflight.see_tables(self._migration, source, target)
        for side in Side:
            yield from self._proven(side)
            yield _table_line(side, self._tables.of(side))
        both_tables.check_distinct(self._tables)

    def _keys(self) -> Iterable[Line]:
        if self._tables is None:
            return
        both_tables.check_keys(self._tables)
        both_tables.check_key_flags(self._migration, self._tables.source)
        yield Line("keys", "ok", f"both tables have {both_tables.describe_keys(self._tables.source)}")

    def _definitions(self) -> Iterable[Line]:
        if self._tables is None:
            return
        source, target = (self._definition(self._tables, side) for side in Side)
        found = compare_definitions(source, target)
        for one in found.differences:
            says = f"{one.what} differs: source {one.source}, target {one.target}"
            if one.what == "stream" and self._tables.of(self._migration.verify_on).view is None:
                says += f"; the {self._migration.verify_on} needs none to be watched"
                yield Line("definitions", "ok", says)
            else:
                yield Line("definitions", "warn", says, "make them alike, unless the migration changes it")
        if not found.differences:
            yield Line("definitions", "ok", "both tables are defined alike")
        if found.unknown:
            says = f"could not be asked, and so not compared: {', '.join(found.unknown)}"
            yield Line("definitions", "warn", says, "deploy/iam/ has the permissions")

    def _definition(self, tables: Tables, side: Side) -> Definition:
        connection, name = self._connections[side], tables.of(side).name
        return preflight.asked(lambda: read_definition(connection, name))

    def _reads(self, side: Side) -> Iterable[Line]:
        if self._tables is None:
            return
        table = self._tables.of(side)
        preflight.check_item_reads(self._connections[side], table)
        yield Line(f"{side} reads", "ok", f"BatchGetItem is allowed on {table.name}")

    def _export(self, side: Side) -> Iterable[Line]:
        """Where one is named: its manifests, that all its files are there, and that they may be read."""
        given = self._migration.export(side)
        if given is None or self._tables is None:
            return
        connection, table = self._connections[side], self._tables.of(side)
        seen = preflight.asked(lambda: open_for(given, connection, table)).seen
        yield Line(f"{side} export", "ok", comparison_text.export_words(seen))

    def _ttl(self) -> Iterable[Line]:
        if self._tables is None:
            return
        source, target = self._tables.source.ttl_attribute, self._tables.target.ttl_attribute
        if source == target:
            yield Line("TTL", "ok", f"on {source} at both tables" if source else "off at both tables")
        else:
            yield Line(
                "TTL",
                "warn",
                f"source: {source or 'off'}, target: {target or 'off'}; what one deletes is a finding",
                "set the same TTL attribute on both tables, unless the migration changes it",
            )

    def _read_units(self) -> Iterable[Line]:
        if self._tables is not None:
            yield Line(
                "read units", "ok", estimate(self._migration, self._tables.of(self._migration.verify_on))
            )

    # --- stream ------------------------------------------------------------------------------------------

    def _see_stream(self) -> Iterable[Line]:
        connection = self._connections.get("stream")
        if self._tables is None or connection is None:
            return
        origin = self._tables.of(self._migration.origin)
        self._stream = preflight.see_stream(self._migration, origin, connection)
        yield from self._proven("stream")
        yield _view_line(self._stream)

    def _stream_reads(self) -> Iterable[Line]:
        if self._stream is None:
            return
        preflight.check_stream_reads(self._connections["stream"], self._stream)
        if self._stream.a_shard is None:
            says = (
                "DescribeStream is allowed; there is no shard yet to try GetShardIterator and GetRecords on"
            )
            yield Line("stream reads", "warn", says, "try again once something was written to the table")
        else:
            yield Line("stream reads", "ok", "DescribeStream, GetShardIterator and GetRecords are allowed")
        yield _readers_line(self._migration.verify_on)

    # --- the rest ----------------------------------------------------------------------------------------

    def _state(self) -> Iterable[Line]:
        """Whether `run` would go on with it; nothing of one that was never begun."""
        if not (self._server_is_fine and self._tables):
            return
        connection = RedisConnection(self._process.redis_url, self._migration.name)
        try:
            meta = load(connection)
        finally:
            connection.close()
        if meta is not None:
            completed = both_tables.completed(self._migration, self._tables)
            check_settings(meta, completed.settings(), self._migration.name)
            yield Line("state", "ok", f"begun {instant(meta.started_ms)}, with these settings")

    def _redis(self) -> Iterable[Line]:
        if not self._process.redis_url:
            yield Line("redis", "ok", f"embedded server, state in {self._process.state_dir}")
            return
        preflight.check_store(self._process, self._migration)
        connection = RedisConnection(self._process.redis_url, self._migration.name)
        try:
            server = check_server(connection)
            apart_ms = connection.time_ms() - time.time_ns() // 1_000_000
            silent = connection.silent_hosts()
        finally:
            connection.close()
        self._server_is_fine = True
        policy = f", maxmemory-policy {server.policy}" if server.policy else ""
        says = f"{server.kind} {server.version_text}{policy}"
        says += f", {connection.place}" if connection.place else ""
        if server.forgets:
            says += ", no append-only file: its state is lost, or old, after a restart"
            remedy = "set appendonly yes, or know that a replica and its backups keep the state"
            yield Line("redis", "warn", says, remedy)
        else:
            yield Line("redis", "ok", says)
        for doubt in server.doubts:
            remedy = (
                "allow its user INFO (+info); or give the migration a server that says so, with noeviction"
            )
            yield Line("redis", "warn", doubt, remedy)
        for host in silent:
            says = f"a host in --redis-url does not say where the server is: {host}"
            yield Line("redis hosts", "warn", says, "start it, or take it out of --redis-url")
        if abs(apart_ms) >= SKEW_WARN_MS:
            says = f"Redis is {apart_ms / 1000:+.1f} s from this host"
            yield Line("redis clock", "warn", says, "synchronise the Redis host's clock (NTP)")

    def _notes(self) -> list[Line]:
        found = notes(self._process, self._migration)
        lines = [Line(note.about, "warn", note.says, note.remedy) for note in found]
        if self._process.alertmanager_config and not any(line.check == "alerts" for line in lines):
            lines.append(Line("alerts", "ok", f"{self._process.alertmanager_config} names who is told"))
        return lines

    def _direction(self) -> Iterable[Line]:
        if self._migration.verify_on is Side.SOURCE:
            yield Line(
                "direction",
                "warn",
                "with --verify-on source only changes that reached the target are seen: what was never "
                "replicated leaves no record in the target's stream",
                "use --verify-on target where the source has a stream, or compare the tables as well",
            )


def _files(migration: MigrationConfig) -> list[Line]:
    profiles = (migration.source.profile, migration.target.profile, migration.stream.profile)
    return [
        Line("AWS files", "warn", trouble.says, trouble.remedy)
        for trouble in credential_files.troubles(profiles, os.environ)
    ]


def _expiry(side: str, seconds: float) -> Line:
    if seconds <= 0:
        return Line(f"{side} credentials", "fail", "expired", "renew them, for example `aws sso login`")
    level: Level = "ok" if seconds > EXPIRY_WARN_SECONDS else "warn"
    remedy = "" if level == "ok" else "use credentials that renew themselves: a role, or an SSO session"
    return Line(f"{side} credentials", level, f"expire in {seconds / 60:.0f} min", remedy)


def _readers_line(verify_on: Side) -> Line:
    """Who else reads the stream. https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html"""
    allowed = "AWS allows 2 readers of a shard (1 for a global table)"
    if verify_on is Side.TARGET:
        says = f"{allowed}: the replicator is one, this another"
        remedy = "make sure that no third one reads it, such as a Lambda trigger"
    else:
        says = f"{allowed}: of the target's stream this is one; the replicator reads the source's"
        remedy = "make sure that at most one other reads it, such as a Lambda trigger"
    return Line("stream readers", "warn", says, remedy)


def _table_line(side: Side, table: TableInfo) -> Line:
    says = (
        f"{table.arn}, {table.status}, about {table.item_count:,} items, {table.size_bytes / 2**20:,.1f} MiB"
    )
    if table.status == "ACTIVE":
        return Line(f"{side} table", "ok", says)
    return Line(f"{side} table", "warn", says, "wait until the table is ACTIVE")


def _view_line(stream: StreamSeen) -> Line:
    says = f"{stream.info.arn}, view {stream.info.view}, {many(stream.shards, 'shard')}"
    if stream.info.view is StreamView.NEW_AND_OLD_IMAGES:
        return Line("stream", "ok", says)
    if stream.info.view is StreamView.NEW_IMAGE:
        missing = "without old images an older version may be called different instead of stale"
    else:
        missing = "without new images every change costs a read of its own table as well"
    remedy = "a view cannot be changed; where you may, enable the stream anew with NEW_AND_OLD_IMAGES"
    return Line("stream", "warn", f"{says}: {missing}", remedy)


def estimate(migration: MigrationConfig, verified: TableInfo) -> str:
    """What reading costs, in words: units on the verified side for each 1,000 changes a second, at most."""
    size = verified.size_bytes / verified.item_count if verified.item_count else 0
    units_each = -(-max(size, 1) // UNIT_BYTES) * 0.5 * LOOKS_PER_VERSION
    units = 1000 * migration.sample_rate / 100 * units_each
    limit = f", limited to {migration.max_rcu:g} a second by --max-rcu" if migration.max_rcu else ""
    return (
        f"each 1,000 changes a second, {migration.sample_rate:g} % of keys sampled, items of {size:,.0f} "
        f"bytes: up to {units:,.0f} read units a second on the {migration.verify_on}{limit}"
    )

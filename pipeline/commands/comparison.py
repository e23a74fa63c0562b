"""`compare` but for its processes: what is checked first, the plan, watching it, what it prints in the end.

Reads: both tables' descriptions and definitions, exports' manifests, the store. Writes: standard output; the
beginning of a comparison into the store. Removes what an earlier comparison has spilled. Never: judging. Of
the items one segment is asked for, to see that Scan is allowed.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pipeline import both_tables, exit_codes
from pipeline.aws import Connection, TableInfo, TableScanner, read_definition
from pipeline.both_tables import Tables
from pipeline.commands import preflight
from pipeline.commands.compare_progress import Progress
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.budget import least_limit
from pipeline.core.comparing import result
from pipeline.core.comparing.definitions import DefinitionsCompared, compare_definitions
from pipeline.core.comparing.keys import KeyReader, PartitionKeys
from pipeline.core.comparing.partitions import Mode
from pipeline.core.comparing.result import Answer
from pipeline.core.comparing.segments import LEAST_SAMPLED, MAX_SEGMENTS
from pipeline.core.comparing.state import CompareSettings, Comparison, ExportSeen
from pipeline.core.figures import Figures
from pipeline.core.model import Side
from pipeline.errors import ConfigurationError, StateLost, StoreError, StoreUnavailable
from pipeline.producers.export.buckets import bucket_count
from pipeline.producers.export.opened import open_for
from pipeline.producers.export.spill import clear
from pipeline.report import columns, comparison_text
from pipeline.report.findings_text import json_line
from pipeline.report.words import many
from pipeline.sides import connect
from pipeline.store import CompareStore, FiguresView, RedisConnection, StoreView
from pipeline.store.compare_store import Beginning

#: How often the store is asked how far it is.
LOOK_SECONDS = 0.5
#: How long an embedded server may be away: it loads a large state anew, or went with the run that kept it.
UNSERVED_SECONDS = 180.0
#: How much larger an export's items are than its compressed files, at most for most tables; a bucket that is
#: larger than was planned costs memory, and looks at keys one by one in the end.
UNZIPPED = 8
#: Is told what is to be known of a comparison before it begins, a line each.
Say = Callable[[str], None]
_EXIT = {
    Answer.EQUAL: exit_codes.FINE,
    Answer.FINDINGS: exit_codes.FAILED,
    Answer.INCONCLUSIVE: exit_codes.INCONCLUSIVE,
}


def prepare(
    process: ProcessConfig, migration: MigrationConfig
) -> tuple[MigrationConfig, Tables, DefinitionsCompared]:
    """See both tables, refuse what cannot be compared; the migration completed by what was seen."""
    sides = {side: connect(migration, side) for side in Side}
    tables = preflight.see_tables(migration, sides[Side.SOURCE], sides[Side.TARGET])
    both_tables.check_tables(migration, tables)
    definitions = compare_definitions(
        *(
            preflight.asked(lambda side=side: read_definition(sides[side], tables.of(side).name))  # type: ignore[misc]
            for side in (Side.SOURCE, Side.TARGET)
        )
    )
    if definitions.refused:
        [first, *_] = definitions.refused
        raise ConfigurationError(
            f"the tables cannot be compared, {first.what} differs: "
            f"source {first.source}, target {first.target}",
            "check --source-table and --target-table",
        )
    exports = {side: _export(migration, side, sides[side], tables.of(side)) for side in Side}
    settings = msgspec.structs.replace(
        _settled(migration, tables, exports),
        definitions=tuple(definitions.differences),
        definitions_unknown=tuple(definitions.unknown),
    )
    for side, connection in sides.items():
        table = tables.of(side)
        if settings.mode is not Mode.CHANGES and exports[side] is None:
            _check_scan(connection, table)
        if process.command == "compare":
            preflight.check_item_reads(connection, table)
    completed = dataclasses.replace(both_tables.completed(migration, tables), comparison=settings)
    return completed, tables, definitions


def _export(
    migration: MigrationConfig, side: Side, connection: Connection, table: TableInfo
) -> ExportSeen | None:
    given = migration.export(side)
    return None if given is None else preflight.asked(lambda: open_for(given, connection, table)).seen


def _settled(
    migration: MigrationConfig, tables: Tables, exports: dict[Side, ExportSeen | None]
) -> CompareSettings:
    """What is compared, and how. Raises ConfigurationError for exports that do not go together."""
    given = [one for one in exports.values() if one is not None]
    if len({one.from_ms is None for one in given}) > 1:
        raise ConfigurationError(
            "one export is incremental, the other is not: one says what changed, the other what there is",
            "name two full exports, or two incremental ones, or one alone",
        )
    table_bytes = max(tables.source.size_bytes, tables.target.size_bytes)
    is_full = any(one.from_ms is None for one in given)
    return CompareSettings(
        table_bytes=table_bytes,
        sample_percent=migration.sample_rate,
        segments=migration.segments,
        source_export=exports[Side.SOURCE],
        target_export=exports[Side.TARGET],
        buckets=bucket_count(max(table_bytes, *(one.size * UNZIPPED for one in given))) if is_full else 0,
    )


def _check_scan(connection: Connection, table: TableInfo) -> None:
    scanner = TableScanner(connection, table.name, KeyReader(table.schema))
    preflight.asked(lambda: preflight.allowed(lambda: scanner.page(MAX_SEGMENTS - 1, MAX_SEGMENTS)))


def plan_text(
    process: ProcessConfig, migration: MigrationConfig, tables: Tables, definitions: DefinitionsCompared
) -> str:
    """What `compare` would do, for --dry-run; with --json as an object."""
    settings = _settings(migration)
    sizes = {side: (tables.of(side).item_count, tables.of(side).size_bytes) for side in Side}
    terms = migration.terms()
    scanned = [side for side in Side if settings.export(side) is None]
    limit = least_limit(migration.max_rcu, terms.budget, terms.prices, scanned)
    estimate = result.estimate(settings, sizes, limit, terms.prices)
    where = "the Redis of --redis-url" if process.redis_url else f"embedded server in {process.state_dir}"
    facts = {
        "migration": migration.name,
        "source": f"{tables.source.arn} at {tables.source_endpoint}",
        "target": f"{tables.target.arn} at {tables.target_endpoint}",
        "keys": both_tables.describe_keys(tables.source),
        "state": where,
    }
    said = facts, estimate, notes(migration, definitions), settings.exports, terms.prices.said
    if process.json:
        return json_line(comparison_text.plan_object(*said))
    return comparison_text.plan(*said)


def notes(migration: MigrationConfig, definitions: DefinitionsCompared) -> list[str]:
    """What is to be known before it begins, a line each."""
    lines = comparison_text.definition_lines(definitions)
    settings = _settings(migration)
    plan = settings.plan()
    if settings.mode is Mode.SCAN and settings.sample_percent < 100 and plan.whole:
        lines.append(
            f"no sample: all of {many(plan.total, 'segment')} are read, as a sample is of {LEAST_SAMPLED} at "
            "least; --segments makes more of them"
        )
    scans = settings.mode is Mode.SCAN or (len(settings.exports) == 1 and settings.mode is Mode.EXPORT)
    if scans and settings.segments is None and plan.total == 1:
        lines.append(
            "one segment: AWS counts the tables as small, every 6 hours; for larger ones give --segments"
        )
    return lines


def begun(
    process: ProcessConfig, migration: MigrationConfig, definitions: DefinitionsCompared, say: Say
) -> tuple[MigrationConfig, Comparison]:
    """What was prepared, begun or gone on with; and the migration as its state knows it."""
    for line in notes(migration, definitions):
        say(line)
    prepared = as_begun(process, migration)
    for change in preflight.open_store(process, prepared).changed:
        say(f"the run's times are not those of this comparison: {change}")
    return prepared, begin(process, prepared)


def as_begun(process: ProcessConfig, migration: MigrationConfig) -> MigrationConfig:
    """The migration as the state knows it: its stream, direction and sampled keys are not the comparison's.

    One that only `compare` has begun samples all keys. A `comparer` has the options of its reader, and may be
    there before it.
    """
    store = StoreView.open(process.redis_url, migration.name)
    if store is None:
        return (
            migration if process.command == "comparer" else dataclasses.replace(migration, sample_rate=100.0)
        )
    store.close()
    return dataclasses.replace(
        migration,
        verify_on=Side(store.setting("verify_on")),
        iterator_type=store.setting("iterator_type"),
        sample_rate=float(store.setting("sample_rate")),
    )


def begin(process: ProcessConfig, migration: MigrationConfig) -> Comparison:
    """Begin the comparison or go on with it; `comparer` joins whatever there is."""
    store = CompareStore.begin(process.redis_url, migration.name, migration.settings())
    how = Beginning.RESTART if process.restart else Beginning.BEGIN
    if process.command == "comparer":
        how = Beginning.JOIN
    try:
        earlier = store.figures().comparison
        begun = store.begin_comparison(_settings(migration), how)
    finally:
        store.close()
    if earlier is not None and earlier.id != begun.id:
        clear(Path(process.spill(earlier.id)))
    return begun


class Ended(NamedTuple):
    """How a comparison ended. result: as --json; None, and `problem` says why, where it was not made.

    stopped: by a signal, before it was over.
    """

    code: int
    result: dict[str, Any] | None = None
    text: str = ""
    problem: str = ""
    stopped: bool = False

    def say(self, process: ProcessConfig) -> int:
        """Print it; the exit code."""
        if self.result is not None:
            print(json_line(self.result) if process.json else self.text, flush=True)
        return self.code


class Watch:
    """Watches a comparison to its end, and says how it is."""

    def __init__(
        self,
        process: ProcessConfig,
        migration: MigrationConfig,
        comparison: Comparison,
        *,
        is_embedded: bool = False,
    ) -> None:
        """is_embedded: the state is in a server of this host, which a run beside us may keep."""
        self._is_embedded = is_embedded
        self._process = process
        self._migration = migration
        self._id = comparison.id
        self._store = FiguresView(RedisConnection(process.redis_url, migration.name))
        self._store.terms = migration.terms()
        self._began = self._served_at = time.monotonic()
        self._looked_at = float("-inf")
        self._is_over = False
        self._progress = Progress(comparison)

    def ended(self) -> int | None:
        """An exit code (which `finish` makes a better one of) when there is nothing to wait for any more."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return None
        self._looked_at = now
        code = self._ended(now)
        self._is_over = code is not None
        return code

    def _ended(self, now: float) -> int | None:
        try:
            figures = self._store.figures()
        except StoreError:  # the processes say so
            is_gone = self._is_embedded and now - self._served_at >= UNSERVED_SECONDS
            return exit_codes.COULD_NOT_ASK if is_gone else None
        self._served_at = now
        comparison = figures.comparison
        if comparison is None or comparison.id != self._id:
            return exit_codes.COULD_NOT_ASK if comparison is not None else None
        self._progress.show(comparison, figures)
        over = comparison.finished_ms is not None or figures.open_total >= self._migration.stop_after_findings
        limit_ms = self._process.stop_after_ms
        late = limit_ms is not None and (now - self._began) * 1000 >= limit_ms
        return exit_codes.FINE if over or late else None

    def finish(self, code: int) -> Ended:
        """What came of it. code: why the processes ended."""
        self._progress.close()
        if code in exit_codes.HALTING:
            return Ended(code, problem="its processes could not work: the log says why")
        try:
            figures = self._store.figures()
        except StoreUnavailable as error:
            raise StoreUnavailable(
                error.problem,
                "give the same command again: it goes on where it was"
                + (f" (the run that kept {self._process.state_dir} has ended)" if self._is_embedded else ""),
            ) from error
        if figures.comparison is None or figures.comparison.id != self._id:
            raise StateLost(
                "the comparison is gone from Redis, or was begun anew by somebody else", "begin it again"
            )
        if figures.comparison.finished_ms is not None:
            clear(Path(self._process.spill(self._id)))
        answer, why = result.answer(figures.comparison, figures)
        success = result.success(figures.comparison, figures, self._wrong_partition_keys(figures))
        told = (figures.comparison, figures, answer, success, time.monotonic() - self._began)
        text = comparison_text.result_text(*told)
        self._store.close()
        return Ended(
            code if code == exit_codes.INTERRUPTED else _EXIT[answer],
            result=comparison_text.result_object(*told),
            text=f"{text}\n{columns.paragraph(why)}" if why else text,
            stopped=not self._is_over,
        )

    def _wrong_partition_keys(self, figures: Figures) -> int | None:
        """Of open findings; only where a sample needs it, and keys share them."""
        if figures.comparison is None or figures.comparison.whole or figures.comparison.settings.exports:
            return None
        if not self._migration.sort_key:
            return None
        wrong = PartitionKeys(most=figures.open_total)
        wrong.add(finding.key for finding in self._store.findings())
        return wrong.count


def _settings(migration: MigrationConfig) -> CompareSettings:
    if migration.comparison is None:
        raise ValueError("the migration was not prepared for a comparison")
    return migration.comparison

"""status, gate, findings, report and mark of many migrations: a line or a section each, and one answer.

Reads: the store. Writes: standard output, standard error; the file of a report; `mark` alone writes to the
store. Never: AWS, the readers' and validators' writers. One that was never begun, or cannot be read, is said
to be so in its place, and hides no other. A Redis that serves nobody is no answer: it ends the command as it
does with one migration.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from pipeline import both_tables, exit_codes
from pipeline.commands import findings as of_one
from pipeline.commands import inspect, report
from pipeline.commands.inspect import GATE_EXIT, View
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.figures import Figures
from pipeline.core.model import Side
from pipeline.core.unknowns import unknowns
from pipeline.errors import MonitorError, StateDamaged, StoreUnavailable
from pipeline.gathering import gather, maker, not_named, serves_nobody
from pipeline.process import streams
from pipeline.report import cover, overview_text, standing, text
from pipeline.report.facts import Facts
from pipeline.report.findings_text import json_line
from pipeline.report.standing import Problem, Standing, problem_of
from pipeline.report.words import many
from pipeline.store import MarkStore, StoreView

Told = TypeVar("Told")
Migrations = Sequence[MigrationConfig]
#: The first that there is decides.
_WORST = (
    exit_codes.FAILED,
    exit_codes.CONFIGURATION,
    exit_codes.COULD_NOT_ASK,
    exit_codes.INCONCLUSIVE,
    exit_codes.FINE,
)


def worst(codes: Sequence[int]) -> int:
    """The exit code of several; one that is not known here is worse than all."""
    unknown = [code for code in codes if code not in _WORST]
    return unknown[0] if unknown else min(codes, key=_WORST.index, default=exit_codes.INCONCLUSIVE)


def each(
    process: ProcessConfig,
    migrations: Migrations,
    kind: type[View],
    look: Callable[[MigrationConfig, View], Told],
) -> dict[str, Told | MonitorError]:
    """What `look` finds in each, or why it could not. Raises what keeps all of them from being read."""
    found: dict[str, Told | MonitorError] = {}
    apart = _Apart()
    for migration in migrations:
        try:
            with contextlib.closing(inspect.begun(process, migration, kind)) as store:
                apart.add(migration, store)
                found[migration.name] = look(migration, store)
        except MonitorError as error:
            found[migration.name] = error
            if serves_nobody(process.redis_url, error):
                raise
    return _some(found)


class _Apart:
    """Finds two states of the same tables: a run refuses them where it sees both tables at its start."""

    def __init__(self) -> None:
        self._seen: dict[object, str] = {}

    def add(self, migration: MigrationConfig, store: StoreView) -> None:
        """Raises ConfigurationError when an earlier one's state is of these tables."""
        settings = store.meta.settings
        tables = [settings.get(f"{side}_table", "") for side in Side]
        if not all(one.startswith("arn:") for one in tables):
            return  # names alone may be those of two accounts
        reached = (migration.source.endpoint_url, migration.target.endpoint_url)
        other = self._seen.setdefault((*tables, settings.get("verify_on"), *reached), migration.name)
        if other != migration.name:
            raise both_tables.same(other, migration.name, *tables)


def _some(found: dict[str, Told | MonitorError]) -> dict[str, Told | MonitorError]:
    """As it is, but where the store could not be asked of any. Then nothing is known: raises its error."""
    errors = [one for one in found.values() if isinstance(one, StoreUnavailable)]
    if len(errors) == len(found) and not all(isinstance(one, StateDamaged) for one in errors):
        raise errors[0]
    return found


# --- status ------------------------------------------------------------------------------------------------


def status(process: ProcessConfig, migrations: Migrations) -> int:
    """Print where all migrations stand; the exit code."""
    found = each(process, migrations, StoreView, _seen)
    if process.json:
        shown = {
            name: overview_text.problem_object(problem_of(one))
            if isinstance(one, MonitorError)
            else text.status_object(*one)
            for name, one in found.items()
        }
        print(json_line({"migrations": shown}))
    else:
        for line in overview_text.status_lines(_standings(migrations, found)):
            print(line)
    return worst([_code(one if isinstance(one, MonitorError) else one[1]) for one in found.values()])


def standings(process: ProcessConfig, migrations: Migrations) -> tuple[list[Standing], int | None]:
    """Where all of them stand by their figures, and when that was (ms); None = none could be read."""
    found = each(process, migrations, StoreView, _seen)
    known = [one[1].now_ms for one in found.values() if not isinstance(one, MonitorError)]
    return _standings(migrations, found), max(known, default=None)


def _standings(
    migrations: Migrations, found: Mapping[str, tuple[text.Heading, Figures] | MonitorError]
) -> list[Standing]:
    limits = {one.name: one.gate_limits() for one in migrations}
    return [
        standing.unread(name, problem_of(one))
        if isinstance(one, MonitorError)
        else standing.of_figures(name, one[1], limits[name])
        for name, one in found.items()
    ]


def _seen(_migration: MigrationConfig, store: StoreView) -> tuple[text.Heading, Figures]:
    return text.Heading(store.migration, Side(store.setting("verify_on"))), store.figures()


def _code(found: Figures | MonitorError) -> int:
    """What cannot be read is not known to be wrong, nor to be right."""
    return exit_codes.INCONCLUSIVE if isinstance(found, MonitorError) else inspect.exit_code(found)


# --- gate --------------------------------------------------------------------------------------------------


def gate(process: ProcessConfig, migrations: Migrations) -> int:
    """Print whether all may be switched over, and why not; the exit code."""
    return _gate_json(process, migrations) if process.json else _gate_text(process, migrations)


def _gate_text(process: ProcessConfig, migrations: Migrations) -> int:
    def look(migration: MigrationConfig, store: StoreView) -> tuple[Standing, list[str]]:
        figures, limits = store.figures(), migration.gate_limits()
        not_covered = unknowns(figures, store.meta.settings, limits)
        return standing.of_figures(migration.name, figures, limits), not_covered

    standings: list[Standing] = []
    not_covered: dict[str, list[str]] = {}
    for name, one in each(process, migrations, StoreView, look).items():
        if isinstance(one, MonitorError):
            standings.append(standing.unread(name, problem_of(one)))
        else:
            standings.append(one[0])
            not_covered[name] = one[1]
    for line in overview_text.gate_lines(standings, not_covered, _not_named(process, migrations)):
        print(line)
    return GATE_EXIT[standing.whole_answer(standings)]


def _gate_json(process: ProcessConfig, migrations: Migrations) -> int:
    made = _cover(process, migrations)
    shown = {
        name: text.gate_object(one.facts)
        if one.facts is not None
        else overview_text.problem_object(one.problem or Problem(""))
        for name, one in made.migrations.items()
    }
    print(json_line({"result": made.result, "not_named": made.not_named, "migrations": shown}))
    return GATE_EXIT[made.result]


# --- report ------------------------------------------------------------------------------------------------


def make_report(process: ProcessConfig, migrations: Migrations) -> int:
    """Report all of them as they are now; the exit code of the gate."""
    return report.write_cover(process, _cover(process, migrations))


def _cover(process: ProcessConfig, migrations: Migrations) -> cover.Cover:
    who = maker(process.redis_url)

    def look(migration: MigrationConfig, store: StoreView) -> Facts:
        limits = migration.gate_limits()
        return gather(store, limits, who, show_keys=process.show_keys, among=len(migrations))

    found = each(process, migrations, StoreView, look)
    return cover.make(
        {name: problem_of(one) if isinstance(one, MonitorError) else one for name, one in found.items()},
        who,
        _not_named(process, migrations),
    )


def _not_named(process: ProcessConfig, migrations: Migrations) -> list[str]:
    return not_named(process, (one.name for one in migrations))


# --- findings ----------------------------------------------------------------------------------------------


def findings(process: ProcessConfig, migrations: Migrations) -> int:
    """Print the findings of all, one after the other; the exit code."""
    failures: dict[str, MonitorError] = {}

    def failed(name: str, error: MonitorError) -> None:
        if serves_nobody(process.redis_url, error):
            raise error
        failures.setdefault(name, error)

    of_one.show(process, _opened(process, migrations, failed), named=True, failed=failed)
    found = each(process, migrations, StoreView, lambda _migration, store: store.figures())
    failures |= {name: one for name, one in found.items() if isinstance(one, MonitorError)}
    if failures and not (process.json or process.csv):  # "no open findings" would speak of these as well
        print(f"not known: the findings of {len(failures):,} of {many(len(migrations), 'migration')}")
    for name, error in failures.items():
        streams.say(f"{name}: its findings are not known: {error}")
    codes = [exit_codes.INCONCLUSIVE for _ in failures]
    return worst([*codes, *(_code(one) for one in found.values())])


def _opened(process: ProcessConfig, migrations: Migrations, failed: of_one.Failed) -> Iterator[StoreView]:
    """Each store, open while it is looked at. failed: is told of one that cannot be opened."""
    for migration in migrations:
        try:
            store = inspect.begun(process, migration, StoreView)
        except MonitorError as error:
            failed(migration.name, error)
            continue
        with contextlib.closing(store):
            yield store


# --- mark --------------------------------------------------------------------------------------------------


def mark(process: ProcessConfig, migrations: Migrations) -> int:
    """Note of all of them that a milestone is reached now; the exit code says whether one could not be."""

    def look(migration: MigrationConfig, store: MarkStore) -> int:
        return inspect.mark(process, store, whose=f"{migration.name}: ")

    found = each(process, migrations, MarkStore, look)
    for name, one in found.items():
        if isinstance(one, MonitorError):
            streams.say(f"{name}: not marked: {one}")
    return worst([one.exit_code if isinstance(one, MonitorError) else one for one in found.values()])


COMMANDS: dict[str, Callable[[ProcessConfig, Migrations], int]] = {
    "status": status,
    "gate": gate,
    "report": make_report,
    "findings": findings,
    "mark": mark,
}

"""Gathers from the store what `report`, `gate --json` and the live page say: the facts, once for all of them.

Reads: the store. Writes: nothing. Never: AWS, the store's writers. Findings of any number are read in a
bounded memory: causes are added up, the first keys are listed.
"""

import contextlib
import getpass
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import msgspec

from pipeline import __version__
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.canonical import KeySchema
from pipeline.core.causes import Causes, key_prefix
from pipeline.core.gate import Limits
from pipeline.core.ledger import Finding
from pipeline.core.model import Side
from pipeline.core.outlook import outlook
from pipeline.core.quoting import masked
from pipeline.core.redis_url import Form, where
from pipeline.errors import (
    ANOTHER_NAME,
    ConfigurationError,
    MonitorError,
    SettingsChanged,
    StoreNotReady,
    StoreUnavailable,
)
from pipeline.report import facts as made
from pipeline.report.facts import Facts, Maker
from pipeline.report.findings_text import ShowPrefix
from pipeline.store import RedisConnection, StoreView, begun_migrations
from pipeline.store.messages import Meta

#: How a key is shown: its keyed hash, or the wire JSON object.
ShowKey = Callable[[bytes], object]
#: Keys under way that are asked for their oldest version, by who waits for the answer.
ASKED_BY_COMMAND, ASKED_BY_PAGE = 1_000_000, 20_000
#: So many causes, keys with a finding, and closed findings stand in a report.
CAUSES_SHOWN, KEYS_SHOWN, CLOSED_SHOWN = 20, 500, 100
#: And of each of many migrations at least so many keys.
LISTED_AT_LEAST = 20


def maker(state: str) -> Maker:
    """Who runs this, on which state (a URL, or the directory of the embedded server)."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name
        user = f"uid {os.getuid()}"
    return Maker(__version__, f"{user}@{socket.gethostname()}", masked(state))


def gather(
    store: StoreView,
    limits: Limits,
    maker: Maker,
    *,
    show_keys: bool = False,
    ask_at_most: int = ASKED_BY_COMMAND,
    among: int = 1,
) -> Facts:
    """All that is known of the migration now.

    ask_at_most: keys under way that are asked for their oldest version. among: so many migrations share the
    keys that are listed.
    """
    figures, samples = store.figures(), store.samples()
    unsettled = store.unsettled(ask_at_most)
    show, prefix = key_shower(store, show_keys=show_keys), prefix_shower(store, show_keys=show_keys)
    listed, closed = (max(LISTED_AT_LEAST, most // among) for most in (KEYS_SHOWN, CLOSED_SHOWN))
    first: list[Finding] = []
    causes = causes_of(store, _kept(store.findings(), first, listed))
    return made.make(
        made.Sources(
            migration=store.migration,
            settings=store.meta.settings,
            figures=figures,
            limits=limits,
            samples=samples,
            outlook=outlook(figures, samples, limits, unsettled),
            gaps=store.gaps(),
            maker=maker,
        ),
        made.shown_findings(
            causes,
            [made.shown_finding(one, text_of(show(one.key))) for one in first],
            [
                made.shown_closed(one, text_of(show(one.finding.key)))
                for one in islice(store.closed_findings(), closed)
            ],
            prefix,
            CAUSES_SHOWN,
        ),
    )


def serves_nobody(url: str, error: MonitorError) -> bool:
    """Whether the server cannot be asked of any migration: the next one would wait for the same. The nodes of
    a cluster fail one by one.
    """
    return type(error) in (StoreUnavailable, StoreNotReady) and where(url).form is not Form.CLUSTER


def check_tables(migration: MigrationConfig, meta: Meta) -> None:
    """Raises SettingsChanged where the state is of other tables than those that are named now: its answer
    would be taken for theirs. A run would be refused, but it need not have been started since.

    A source that is called like the target may not have been named at all.
    """
    source, target = migration.source_table, migration.target_table
    named = {Side.SOURCE: "" if source == target.rpartition("/")[2] else source, Side.TARGET: target}
    reached = {Side.SOURCE: migration.source, Side.TARGET: migration.target}
    differing = [
        f"{side} {begun} → {given}"
        for side in Side
        if (given := named[side]) and (begun := meta.settings.get(f"{side}_table"))
        if not _is_one(given, begun, reached[side].endpoint_url)
    ]
    if differing:
        raise SettingsChanged(
            f"migration {migration.name} was begun with other tables ({', '.join(differing)})",
            f"go back to them, or begin anew {ANOTHER_NAME}",
        )


def _is_one(given: str, begun: str, endpoint_url: str | None) -> bool:
    """Whether two names or ARNs may be of one table; an emulator writes what it likes before the name."""
    if given.startswith("arn:") and begun.startswith("arn:") and endpoint_url is None:
        return given == begun
    return given.rpartition("/")[2] == begun.rpartition("/")[2]


def not_named(process: ProcessConfig, named: Iterable[str], store: StoreView | None = None) -> list[str]:
    """The migrations in this Redis that the file does not name: an entry that was taken out leaves its state,
    and a GO of the rest is none of the whole move. Nothing where one was asked for, or there is no file.

    store: any that is open there.
    """
    if not process.of_file:
        return []
    if store is not None:
        begun = store.begun_migrations()
    else:
        with contextlib.closing(RedisConnection(process.redis_url, "")) as connection:
            begun = begun_migrations(connection)
    return sorted(set(begun).difference(named))


def _kept(findings: Iterable[Finding], first: list[Finding], most: int) -> Iterator[Finding]:
    """All of them; the first ones, so many at most, are put aside on the way."""
    for finding in findings:
        if len(first) < most:
            first.append(finding)
        yield finding


def causes_of(store: StoreView, findings: Iterable[Finding]) -> Causes:
    """The causes of these findings."""
    causes, texts = Causes(), store.meta.settings.get("partition_type") != "B"
    for finding in findings:
        causes.add(finding, key_prefix(finding.key) if texts else "")
    return causes


def prefix_shower(store: StoreView, *, show_keys: bool) -> ShowPrefix:
    """How the prefix of a key is shown: as keys are."""
    return str if show_keys else lambda prefix: store.key_hash(prefix.encode("utf-8", "surrogatepass"))


def key_shower(store: StoreView, *, show_keys: bool) -> ShowKey:
    """How a key is shown: as its keyed hash, or with --show-keys as the wire JSON object."""
    if not show_keys:
        return store.key_hash
    schema = schema_of(store, "leave --show-keys out")
    return lambda key: msgspec.Raw(schema.wire(key))


def schema_of(store: StoreView, otherwise: str) -> KeySchema:
    """The key that the migration was begun with. otherwise: what to do where it does not say."""
    names = ("partition_key", "partition_type", "sort_key", "sort_type")
    try:
        return msgspec.convert({name: store.meta.settings.get(name) or None for name in names}, KeySchema)
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"migration {store.migration} does not say how its keys look ({error})", otherwise
        ) from error


def text_of(shown: object) -> str:
    """The key as a text, however it is shown."""
    return bytes(shown).decode() if isinstance(shown, msgspec.Raw) else str(shown)

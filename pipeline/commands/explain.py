"""`findings --explain KEY`: what both sides hold now, the history of one key, and what the rule makes of it.

Reads: the store; one item of each table, strongly consistent. Writes: standard output. Never: the store's
writers. Nothing is judged for good: the rule is only asked. Values are shown with --show-values alone.
"""

import time
from collections.abc import Callable
from functools import partial

import msgspec

from pipeline import both_tables, exit_codes
from pipeline.aws import TableInfo, TableReader
from pipeline.backoff import Backoff
from pipeline.commands import preflight
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.config.parsers import AUTO, duration_ms, duration_or_auto, duration_text
from pipeline.core.canonical import Digester, Item, KeySchema, MalformedItem
from pipeline.core.judging.history import FLOOR_MS, History
from pipeline.core.judging.matching import Proof, prove
from pipeline.core.judging.rule import judge, reopened
from pipeline.core.model import ABSENT, Look, Moment, Phase, Policy, Side
from pipeline.core.outline import Outline, outline
from pipeline.core.quoting import printable_json
from pipeline.core.sampling import Sampler
from pipeline.core.ttl import will_be_deleted
from pipeline.errors import ANOTHER_NAME, ConfigurationError, Throttled, UsageError
from pipeline.gathering import key_shower, schema_of, text_of
from pipeline.report.explained import Evidence, Explanation, SideSeen, explanation
from pipeline.report.explained_text import explanation_text
from pipeline.sides import connect
from pipeline.store import KeyView
from pipeline.store.key_view import Kept

#: What `key_hash` writes.
_HASH_DIGITS = 16
#: Tries for a key that comes back unprocessed, and the pauses between them.
READ_TRIES, PAUSES = 4, Backoff(0.5, 2.0)
#: Both sides are read again where the history changed meanwhile; then so be it.
LOOKS = 3


class Sight(msgspec.Struct, frozen=True):
    """What one side answered. item None: there is none, or none that can be read (`seen.error`)."""

    seen: SideSeen
    item: Item | None = None
    expires: bool = False


class Reading(msgspec.Struct, frozen=True):
    """Both sides, read one after the other between two looks at the state."""

    before: Kept
    after: Kept
    at_ms: int
    answered_ms: int
    sights: dict[Side, Sight]


def run(process: ProcessConfig, migration: MigrationConfig, store: KeyView) -> int:
    """Explain one key; 0: both sides are equal. 1: a finding is open. 3: neither is said."""
    if process.csv:
        raise UsageError("--explain tells of one key, and not as CSV", "leave --csv out, or give --json")
    schema = schema_of(store, f"begin the migration anew {ANOTHER_NAME}")
    key = key_of(str(process.explain), schema, store)
    if key is None:
        print(f"no key that anything is kept of has the hash {process.explain}")
        return exit_codes.INCONCLUSIVE
    evidence = _evidence(process, migration, store, key, _tables(migration, store, schema))
    told = explanation(evidence)
    _print(process, told)
    if evidence.finding is not None:
        return exit_codes.FAILED
    equal = evidence.equal and not evidence.nothing_known
    return exit_codes.FINE if equal else exit_codes.INCONCLUSIVE


def _print(process: ProcessConfig, told: Explanation) -> None:
    if process.json:
        print(printable_json(msgspec.json.encode(told).decode()))
    else:
        print(explanation_text(told, text_of(told.key)))


# --- which key ---------------------------------------------------------------------------------------------


def key_of(given: str, schema: KeySchema, store: KeyView) -> bytes | None:
    """The compact key of wire JSON or of a hash; None where nothing kept has that hash.

    Raises UsageError for what is neither.
    """
    if len(given) == _HASH_DIGITS and set(given.lower()) <= set("0123456789abcdef"):
        return store.key_of_hash(given.lower())
    try:
        key = schema.compact(given.strip().encode("utf-8", "surrogatepass"))
    except MalformedItem as error:
        raise UsageError(f"--explain: {error}", _remedy(schema)) from error
    if "" in msgspec.json.decode(b"[%b]" % key):
        raise UsageError("--explain: an empty key, which no item has", _remedy(schema))
    return key


def _remedy(schema: KeySchema) -> str:
    names = {schema.partition_key: {schema.partition_type: "…"}}
    if schema.sort_key and schema.sort_type:
        names[schema.sort_key] = {schema.sort_type: "…"}
    return f"write '{msgspec.json.encode(names).decode()}', or the hash that `findings` shows"


# --- both sides --------------------------------------------------------------------------------------------


def _tables(
    migration: MigrationConfig, store: KeyView, schema: KeySchema
) -> dict[Side, Callable[[bytes, int], Sight]]:
    """How each side is read. Raises ConfigurationError where these are not the tables of the migration."""
    connections = {side: preflight.asked(partial(connect, migration, side)) for side in Side}
    seen = preflight.see_tables(migration, connections[Side.SOURCE], connections[Side.TARGET])
    ignore = _ignored(migration, store)
    readers: dict[Side, Callable[[bytes, int], Sight]] = {}
    for side in Side:
        table, begun = seen.of(side), store.setting(f"{side}_table")
        if begun not in (table.arn, migration.table(side)) or table.schema != schema:
            raise ConfigurationError(
                f"the {side} table here is {table.arn} with {both_tables.describe_keys(table)}, and the "
                f"migration was begun with {begun}",
                "give the sides as `run` has them",
            )
        reader = TableReader(connections[side], table.asked, table.schema)
        readers[side] = partial(_read, reader, table, Digester(ignore))
    return readers


def _ignored(migration: MigrationConfig, store: KeyView) -> frozenset[str]:
    """The attributes that the migration was begun without."""
    begun = store.setting("ignore_attributes")
    if begun == migration.settings()["ignore_attributes"]:
        return frozenset(migration.ignore_attributes)
    return frozenset(filter(None, begun.split(",")))


def _read(reader: TableReader, table: TableInfo, digester: Digester, key: bytes, at_ms: int) -> Sight:
    """One item, strongly consistent. Raises AwsError."""

    def keep(_key: bytes, item: Item) -> Sight:
        try:
            digest = digester.digest_item(item)
        except MalformedItem as error:
            return Sight(SideSeen(ABSENT, str(error)))
        attribute = table.ttl_attribute
        expires = attribute is not None and will_be_deleted(item, attribute, at_ms)
        return Sight(SideSeen(digest), item, expires)

    for attempt in range(READ_TRIES):
        if attempt:
            time.sleep(PAUSES.after(attempt))
        result = preflight.asked(lambda: reader.batch_get([key], keep, strong=True))
        if not result.unprocessed:
            return result.items.get(key) or Sight(SideSeen(ABSENT))
    raise Throttled(f"{table.name} did not get to the key", "try again")


def _look(
    store: KeyView, key: bytes, read: dict[Side, Callable[[bytes, int], Sight]], first: Side
) -> Reading:
    """Read both sides, the verified one first, as a validator does it."""
    before = store.kept(key)
    for _ in range(LOOKS):
        at_ms = store.now_ms()
        sights = {side: read[side](key, at_ms) for side in (first, first.other)}
        reading = Reading(before, store.kept(key), at_ms, store.now_ms(), sights)
        if reading.after.history == before.history:
            break
        before = reading.after
    return reading


# --- what is made of it ------------------------------------------------------------------------------------


def _evidence(
    process: ProcessConfig,
    migration: MigrationConfig,
    store: KeyView,
    key: bytes,
    read: dict[Side, Callable[[bytes, int], Sight]],
) -> Evidence:
    policy = _policy(migration, store)
    seen = _look(store, key, read, Side(store.setting("verify_on")))
    moment, history = _moment(store), seen.before.history
    source, target = (seen.sights[side] for side in Side)
    sample = store.figures().sample
    look = (
        None if history is None or source.seen.error or target.seen.error else _look_of(seen, history, policy)
    )
    return Evidence(
        key=key_shower(store, show_keys=process.show_keys)(key),
        policy=policy,
        moment=moment,
        sample=sample,
        sampled=Sampler(sample.percent).keeps(key),
        dead=store.is_dead(key),
        source=source.seen,
        target=target.seen,
        outline=_outline(process, migration, store, source, target),
        history=history,
        moved=seen.after.history != history,
        due_ms=seen.before.due_ms,
        finding=seen.after.finding,
        closed=store.closed_of(key),
        proof=_proof(history, look, moment, policy) if history and look else None,
        judgement=judge(history, look, moment, policy) if history and look else None,
        later=judge(history, look, _past(look, moment), policy) if history and look else None,
    )


def _proof(history: History, look: Look, moment: Moment, policy: Policy) -> Proof:
    return prove(reopened(history) if history.phase is Phase.SETTLING else history, look, moment, policy)


def _past(look: Look, moment: Moment) -> Moment:
    """When the readers are past the look."""
    return msgspec.structs.replace(moment, watermark_ms=max(look.at_ms, look.answered_ms) + FLOOR_MS)


def _look_of(reading: Reading, history: History, policy: Policy) -> Look:
    """These two reads, as the rule takes them."""
    verified = Side.SOURCE if policy.leads else Side.TARGET
    side, witness = reading.sights[verified], reading.sights[verified.other]
    return Look(
        digest=side.seen.digest,
        at_ms=reading.at_ms,
        seen=history.newest,
        strong=True,
        witness=witness.seen.digest,
        verified_expires=side.expires,
        witness_expires=witness.expires,
        answered_ms=reading.answered_ms,
    )


def _policy(migration: MigrationConfig, store: KeyView) -> Policy:
    """The times of the last start, as the state has them; a deadline that follows the lag as it is now."""
    times = {**migration.judged_by(), **store.meta.judged_by}
    within_ms, adapted_ms = duration_or_auto(times["converge-within"]), None
    if within_ms == AUTO:
        adaptive = store.figures().adaptive
        longest_ms = duration_ms(times.get("converge-at-most", duration_text(migration.converge_at_most_ms)))
        within_ms = adaptive.converge_within_ms if adaptive else longest_ms
        adapted_ms = adaptive.adapted_ms if adaptive else 0
    return Policy(
        converge_within_ms=within_ms,
        adapted_ms=adapted_ms,
        stable_for_ms=duration_ms(times["stable-for"]),
        leads=store.setting("verify_on") == Side.SOURCE,
        ttl_grace_ms=duration_ms(times["ttl-grace"]),
    )


def _moment(store: KeyView) -> Moment:
    figures = store.figures()
    watermark_ms = figures.reader.watermark_ms
    return Moment(
        now_ms=figures.now_ms,
        watermark_ms=watermark_ms if watermark_ms <= figures.now_ms else 0,  # of the future: no proof
        gap_ms=figures.gap_ms,
        watched_since_ms=figures.watched_since_ms,
        watched=figures.reader.readers > 0,
    )


def _outline(
    process: ProcessConfig, migration: MigrationConfig, store: KeyView, source: Sight, target: Sight
) -> Outline | None:
    """None where one side's answer is no item. Keys' values are shown as keys are."""
    if source.seen.error or target.seen.error:
        return None
    names = (store.setting("partition_key"), store.setting("sort_key"))
    hidden = frozenset() if process.show_keys else frozenset(filter(None, names))
    return outline(
        source.item, target.item, _ignored(migration, store), hidden if process.show_values else None
    )

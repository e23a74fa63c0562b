"""The deadline that follows the lag, as the state keeps it, and what it is made from.

Reads: lags by minute, keys that wait, what is due, `meta`. Writes: `meta`, by one script. Never: judging.

Every validator may make it: all make the same of the same counts, and judge by what their claim brings along.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pipeline.core.adaptive import (
    ADAPT_EVERY_MS,
    DEADLINE_MINUTES,
    MEDIAN_MINUTES,
    Adaptive,
    Observed,
    adapt,
)
from pipeline.core.ledger import PROBE, PROBE_MS
from pipeline.core.statistics import LAG_BUCKETS_SECONDS
from pipeline.store import scripts
from pipeline.store.answers import instant_ms, reading, whole
from pipeline.store.connection import RedisConnection

#: Of `meta`, in the order of `Adaptive`.
FIELDS = ("converge_within_ms", "first_look_ms", "adapted_ms", "held")
#: A command and its arguments.
Question = tuple[str | int, ...]


def follow(connection: RedisConnection, at_most_ms: int) -> None:
    """Make the deadline follow the lag, unless somebody just did."""
    key, now_ms = connection.key, connection.clock.now_ms()
    before = kept(_ask(connection, [("HMGET", key("meta"), *FIELDS)])[0])
    if before is not None and before.adapted_ms <= now_ms < before.adapted_ms + ADAPT_EVERY_MS:
        return
    questions = observing(key, now_ms)
    told = dict(zip(questions, _ask(connection, list(questions.values())), strict=True))
    with reading(key("lag:*")):
        observed = _observed(told, now_ms)
    made = adapt(observed, at_most_ms, before)
    connection.run(
        scripts.ADAPT,
        (made.converge_within_ms, made.first_look_ms, made.adapted_ms, msgspec.json.encode(made.held)),
    )


def kept(raw: list[bytes | None]) -> Adaptive | None:
    """What `meta` says of it; None for what is not there, or damaged: then the longest one is judged by."""
    try:
        converge_within_ms, first_look_ms, adapted_ms = (instant_ms(one or b"") for one in raw[:-1])
        held = msgspec.json.decode(raw[-1] or b"", type=tuple[tuple[int, int], ...])
    except ValueError:
        return None
    return Adaptive(converge_within_ms, first_look_ms, adapted_ms, held)


def observing(key: Callable[[str], str], now_ms: int) -> dict[str, Question]:
    """What is asked, each by a name of its own."""
    this_minute = now_ms // 60_000
    return {
        "watermark": ("HMGET", key("meta"), "watermark_ms"),
        "outstanding": ("HGET", key("ledger"), "outstanding"),
        "waiting": ("HGETALL", key("late")),
        "entry": ("XRANGE", key("work"), "-", "+", "COUNT", 1),
        "due": ("ZRANGE", key("due"), 0, 0, "WITHSCORES"),
        **{f"{ago}": ("HGETALL", key(f"lag:{this_minute - ago}")) for ago in range(DEADLINE_MINUTES)},
    }


def _ask(connection: RedisConnection, questions: list[Question]) -> list[Any]:
    with connection.asking("adapting"):
        pipe = connection.redis.pipeline(transaction=True)
        for question in questions:
            pipe.execute_command(*question)  # type: ignore[no-untyped-call]
        return pipe.execute()


def _observed(told: Mapping[str, Any], now_ms: int) -> Observed:
    minutes = [told[f"{ago}"] for ago in range(DEADLINE_MINUTES)]
    since = [instant_ms(fields[b"t"]) for _, fields in told["entry"] if fields.get(b"t", b"").isdigit()]
    since += [instant_ms(score) for _, score in told["due"]]
    watermark_ms = instant_ms(told["watermark"][0] or 0)
    behind_since_ms = min([*filter(None, since), watermark_ms or now_ms])
    return Observed(
        now_ms=now_ms,
        lags=counts_by_bucket(minutes),
        recent=counts_by_bucket(minutes[:MEDIAN_MINUTES]),
        probes=counts_by_bucket(minutes[:MEDIAN_MINUTES], PROBE),
        probes_ms=sum(whole(fields.get(PROBE_MS.encode(), 0)) for fields in minutes[:MEDIAN_MINUTES]),
        waiting={whole(bucket): whole(keys) for bucket, keys in told["waiting"].items()},
        outstanding=whole(told["outstanding"] or 0),
        behind_ms=max(now_ms - behind_since_ms, 0),
    )


def counts_by_bucket(minutes: list[dict[bytes, bytes]], prefix: str = "") -> list[int]:
    """A count per bucket of the lag, and one beyond, of the fields that begin with the prefix.

    Raises ValueError for what is none of ours.
    """
    counts = [0] * (len(LAG_BUCKETS_SECONDS) + 1)
    for fields in minutes:
        for field, count in fields.items():
            name = field.decode()
            if name.startswith(PROBE) != bool(prefix) or name == PROBE_MS:
                continue
            bucket = int(name.removeprefix(prefix))
            if bucket < 0:
                raise ValueError("no bucket has such a number")
            counts[bucket] += whole(count)
    return counts

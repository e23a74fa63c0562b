"""What Redis pays for a sampled change: published, claimed, found right, settled, forgotten; by command.

Reads and writes: Redis, under a migration name of its own. Never: AWS; every look is said to have matched.
"""

from typing import cast

import redis

from benchmarks import subjects
from benchmarks.measure import Figures
from pipeline.core.judging.rule import judge
from pipeline.core.model import Look, Moment, Policy
from pipeline.store import ValidatorStore, codec
from pipeline.store.messages import Entry
from pipeline.validator.batch import Case, Decided, concluded
from pipeline.validator.validator import CLAIM_KEYS

#: Keys of a page of a stream.
_PAGE = 1_000
_KEY = b'"customer#%012d"'
#: Looked at and settled at once, but for the second claim.
_POLICY = Policy(60_000, 1)


def rounds(redis_url: str, pages: int, repeats: int) -> list[Figures]:
    """µs of the server's CPU a change, and calls of each command a thousand changes, by name."""
    feed = subjects.Feed("", subjects.open_store(redis_url))
    return [_round(redis_url, feed, number * pages, pages) for number in range(repeats)]


def said(figures: Figures) -> str:
    """The commands that a thousand changes take."""
    most = sorted(figures, key=lambda name: -figures[name])
    calls = [f"{name} {figures[name]:.0f}" for name in most if name != "us" and figures[name] >= 1]
    return f"Commands of Redis for 1,000 sampled changes: {', '.join(calls)}."


def _round(redis_url: str, feed: subjects.Feed, first: int, pages: int) -> Figures:
    client, server_seconds = redis.Redis.from_url(redis_url), subjects.server_clock(redis_url)
    client.config_resetstat()
    began = server_seconds()
    for page in range(first, first + pages):
        feed.synthetic([_KEY % (page * _PAGE + number) for number in range(_PAGE)])
        _look_at_all(feed.store)
    figures = {"us": (server_seconds() - began) / (pages * _PAGE) * 1e6}
    stats = cast(dict[str, dict[str, float]], client.info("commandstats"))
    for name, told in stats.items():
        figures[name.removeprefix("cmdstat_")] = told["calls"] / pages
    left = feed.store.queue()
    if left.outstanding or left.backlog:
        raise AssertionError(f"not every key was settled: {left}")
    return figures


def _look_at_all(store: ValidatorStore) -> None:
    while (claim := store.claim("cost", CLAIM_KEYS, 0)).entries:
        now_ms = claim.now_ms
        store.commit([_found_right(entry, now_ms).commit for entry in claim.entries], now_ms)
    while store.queue().outstanding:  # what has settled is forgotten by a claim
        store.claim("cost", CLAIM_KEYS, 0)


def _found_right(entry: Entry, now_ms: int) -> Decided:
    history = codec.decode(entry.raw)
    look = Look(history.versions[-1][0], now_ms, history.newest)
    case = Case(entry, history, look, reads=1)
    return concluded(case, judge(history, look, Moment(now_ms, now_ms), _POLICY), now_ms)

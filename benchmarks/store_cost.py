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
#: Redis' own words for the work of a script as a whole.
_SCRIPT = ("evalsha", "eval")


def rounds(redis_url: str, pages: int, repeats: int) -> list[Figures]:
    """µs a change: of all the server, of the scripts, and calls a change of every command within them."""
    store = subjects.open_store(redis_url)
    feed = subjects.Feed("", store)
    return [_round(redis_url, feed, number * pages, pages) for number in range(repeats)]


def _round(redis_url: str, feed: subjects.Feed, first: int, pages: int) -> Figures:
    client, server_seconds = redis.Redis.from_url(redis_url), subjects.server_clock(redis_url)
    client.config_resetstat()
    began = server_seconds()
    for page in range(first, first + pages):
        feed.synthetic([_KEY % (page * _PAGE + number) for number in range(_PAGE)])
        _look_at_all(feed.store)
    seconds = server_seconds() - began
    changes = pages * _PAGE
    stats = cast(dict[str, dict[str, float]], client.info("commandstats"))
    figures = {"us": seconds / changes * 1e6}
    for name, told in stats.items():
        command = name.removeprefix("cmdstat_")
        figures["scripts_us" if command in _SCRIPT else f"{command} calls"] = (
            told["usec" if command in _SCRIPT else "calls"] / changes
        )
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


if __name__ == "__main__":  # scratch
    import logging
    import tempfile

    import structlog

    from pipeline.store import embedded

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as directory, embedded.running(directory) as url:
        for one in rounds(url, 40, 3):
            print({k: round(v, 3) for k, v in sorted(one.items(), key=lambda x: -x[1])})

"""What is asked of the store to know a migration's figures, all in one transaction.

Reads: nothing. Writes: nothing. Never: redis.
"""

from collections.abc import Callable

from pipeline.store.adapting import FIELDS
from pipeline.store.connection import GROUP
from pipeline.store.scripts import of_sample
from pipeline.store.spending import cost_questions

#: Replication lags are counted by minute; figures speak of the last few.
LAG_MINUTES = 5
#: A command and its arguments.
Question = tuple[str | int, ...]

#: Nobody says that he is alive for longer than this: who seems to be was dated by a clock that is ahead of
#: the one that is read, and says nothing.
ALIVE_AHEAD_MS = 120_000


def figures_questions(key: Callable[[str], str], now_ms: int, sample: str = "") -> dict[str, Question]:
    """What `figures` asks, each by a name of its own. sample: see `scripts.of_sample`.

    A key that was followed before the sample was lowered, and judged since, counts as seen as well.
    """
    judged, seen = (key(of_sample(name, sample)) for name in ("keys-judged", "keys-sampled"))
    this_minute = now_ms // 60_000
    minutes = range(this_minute - LAG_MINUTES + 1, this_minute + 1)
    return {
        "clock": ("HMGET", key("clock"), "distance_ms", "steps"),
        "meta": ("HMGET", key("meta"), "format", "started_ms", "watermark_ms", "watched_since_ms"),
        "adaptive": ("HMGET", key("meta"), "judged_by", *FIELDS),
        "ledger": ("HGETALL", key("ledger")),
        "lowered": ("HMGET", key("meta"), "lowered", "settings"),
        "keys-judged": ("PFCOUNT", judged),
        "keys-sampled": ("PFCOUNT", seen, *([judged] if sample else [])),
        "queued": ("HMGET", key("meta"), "queued", "handed_out"),
        "pending": ("XPENDING", key("work"), GROUP),
        "history": ("HLEN", key("history")),
        "dead": ("XLEN", key("dead")),
        "checkpoints": ("HGETALL", key("checkpoints")),
        "watermarks": ("HGETALL", key("watermarks")),
        "gaps": ("HGETALL", key("gaps")),
        "readers": ("ZCOUNT", key("readers"), now_ms, now_ms + ALIVE_AHEAD_MS),
        "validators": ("ZCOUNT", key("validators"), now_ms, now_ms + ALIVE_AHEAD_MS),
        "oldest-entry": ("XRANGE", key("work"), "-", "+", "COUNT", 1),
        "oldest-due": ("ZRANGE", key("due"), 0, 0, "WITHSCORES"),
        "verdict": ("HGET", key("ledger"), "verdict_ms"),
        "late": ("HKEYS", key("late")),
        **cost_questions(key, now_ms),
        "oldest-finding": ("ZRANGE", key("findings-since"), 0, 0, "WITHSCORES"),
        "marks": ("HGETALL", key("marks")),
        "comparison": ("HGETALL", key("comparison")),
        "of-table": ("HGETALL", key("comparison-of-table")),
        **{f"lag:{minute}": ("HGETALL", key(f"lag:{minute}")) for minute in minutes},
    }

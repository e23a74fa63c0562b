"""What a validator takes and gives: entries that are due, and what it found.

Reads and writes: the migration's keys (see `pipeline/store/__init__.py`). Never: judging, retries. Of an
item's values only the key is stored. The scripts may be repeated, so callers may repeat a call that raised
StoreUnavailable.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from pipeline.core.adaptive import Adaptive
from pipeline.errors import ANOTHER_NAME, SettingsChanged
from pipeline.store import adapting, scripts
from pipeline.store.answers import instant_ms, reading
from pipeline.store.connection import GROUP
from pipeline.store.messages import Claim, Commit, Committed, Entry, FindingCommitted, Refused
from pipeline.store.packing import packed_commits, unpacked_keys
from pipeline.store.role_store import RoleStore

#: Per-minute lag counts are kept this long, by Redis' clock: a step of an hour takes away none that is shown.
LAG_KEPT_SECONDS = 6 * 3_600
#: A consumer that asked for nothing for so long is of a host that is gone.
FORGET_AFTER_MS = 6 * 3_600_000
#: No clock is as far ahead: a watermark that is, is damaged.
DAY_MS = 86_400_000
#: Counts of trials are kept this long after the last one, those of entries that are settled too.
TRIALS_KEPT_SECONDS = 86_400
#: An entry delivered more often than this was in hand when validators died: from then on its keys are tried
#: alone.
MAX_DELIVERIES = 3


class ValidatorStore(RoleStore):
    """One migration's state as a validator changes it."""

    def say_alive(self, consumer: str, ttl_ms: int) -> None:
        """Say that a validator is alive for another `ttl_ms`."""
        self._connection.run(scripts.VALIDATOR_HEARTBEAT, (GROUP, consumer, ttl_ms))

    def say_gone(self, consumer: str) -> None:
        """Say that a validator has stopped, so that nobody counts on it for a while longer."""
        with self._connection.asking("say_gone"):
            self._redis.zrem(self._key("validators"), f"{GROUP}:{consumer}")

    def hold_tables(self, ids: Mapping[str, str]) -> None:
        """Raises SettingsChanged when a table is another one than that whose items were judged before.

        ids: what tells each side's table from others of the same name, where AWS says it.
        """
        with self._connection.asking("tables"):
            held = cast(dict[bytes, bytes], self._redis.hgetall(self._key("tables")))
            for side, told in ids.items():
                if side.encode() not in held:
                    self._redis.hset(self._key("tables"), side, told)
        for side, told in ids.items():
            if held.get(side.encode(), told.encode()) != told.encode():
                raise SettingsChanged(
                    f"the {side} table was deleted and another one was made under its name: what was found "
                    "of the former does not hold of this one",
                    f"begin anew {ANOTHER_NAME}, also where it was restored from a backup",
                )

    def adapt(self, at_most_ms: int) -> None:
        """Make the deadline follow the lag, unless somebody just did (core/adaptive.py)."""
        adapting.follow(self._connection, at_most_ms)

    def claim(
        self,
        consumer: str,
        count: int,
        reclaim_after_ms: int,
        adopt: bool = False,
        forget_after_ms: int = FORGET_AFTER_MS,
    ) -> Claim:
        """About `count` keys that are due, now ours (lua/claim.lua): the last entry may hold some more.

        reclaim_after_ms: also take over entries that another validator has left that long (0 = do not look).
        adopt: also take back what an earlier life of this consumer left pending, and forget consumers that
        hold nothing and have been silent for `forget_after_ms`.
        """
        args = [GROUP, consumer, count, reclaim_after_ms, "adopt" if adopt else "", forget_after_ms]
        args.append(MAX_DELIVERIES)
        return _claim(self._connection.run(scripts.CLAIM, args))

    def claim_alone(self, consumer: str, entries: Sequence[bytes], survived: bytes) -> tuple[Claim, int]:
        """The least tried of these entries, and how often it was tried, this time included (claim_alone.lua).

        No entry when none of them is ours any more. survived: the entry whose trial we survived last.
        """
        args = [GROUP, consumer, TRIALS_KEPT_SECONDS, survived, *entries]
        claim = _claim(self._connection.run(scripts.CLAIM_ALONE, args))
        return claim, claim.entries[0].deliveries if claim.entries else 0

    def commit(self, commits: Sequence[Commit], now_ms: int) -> Committed:
        """Commit what was found, each key whole or not at all (lua/commit.lua)."""
        known = self._followed
        args = [GROUP, now_ms, LAG_KEPT_SECONDS, *packed_commits(commits, known)]
        refused, lost, findings = self._connection.run(scripts.commit(now_ms // 60_000, known.sample), args)
        with reading(self._key("findings-since")):
            return Committed(
                [Refused(number - 1, raw) for number, raw in _in_tuples(refused, 2)],
                [number - 1 for number in lost],
                [
                    FindingCommitted(number - 1, int(float(since)), before)
                    for number, since, before in _in_tuples(findings, 3)
                ],
            )


def _in_tuples(flat: Sequence[Any], each: int) -> Iterator[tuple[Any, ...]]:
    return zip(*[iter(flat)] * each, strict=True)


def _claim(answer: Sequence[Any]) -> Claim:
    now, watermark, gap, watched_since, readers, flat, *adaptive = answer
    # What is damaged is taken for what proves least.
    return Claim(
        now,
        _earlier(watermark, now + DAY_MS, otherwise=0),
        _earlier(gap, now, otherwise=now),
        _earlier(watched_since, now, otherwise=now),
        readers > 0,
        _entries(flat),
        _adaptive(adaptive, now),
    )


def _adaptive(raw: Sequence[bytes | str], now_ms: int) -> Adaptive | None:
    """None for what is damaged, too: then the longest deadline is judged by."""
    with contextlib.suppress(ValueError):
        converge_within_ms, first_look_ms, adapted_ms = (instant_ms(one) for one in raw)
        if converge_within_ms > 0 and adapted_ms <= now_ms:
            return Adaptive(converge_within_ms, first_look_ms, adapted_ms)
    return None


def _earlier(raw: bytes | str, latest_ms: int, otherwise: int) -> int:
    """An instant that is no later than that."""
    with contextlib.suppress(ValueError):
        if (at_ms := instant_ms(raw)) <= latest_ms:
            return at_ms
    return otherwise


def _entries(told: Sequence[Any]) -> list[Entry]:
    entries: list[Entry] = []
    for entry_id, number, deliveries, alone, packed, histories in told:
        keys = unpacked_keys(packed) if packed else [b""]
        entries += [
            Entry(entry_id, key, raw or b"", deliveries, number or b"", bool(alone))
            for key, raw in zip(keys, histories or [None], strict=True)
        ]
    return entries

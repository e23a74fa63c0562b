"""The plan of what goes wrong, in the import before the watch and in the replicator: a YAML (or JSON) file.

Reads: the plan file. Writes: nothing. Never: chance beyond a seed. The same seed, plan and order of changes
give the same faults.
"""

import fnmatch
import hashlib
import math
import random
from enum import StrEnum
from pathlib import Path

import msgspec
import yaml

from pipeline.core.model import ChangeType
from pipeline.errors import UsageError

#: So many items the import may get wrong: half of those that nobody writes.
MOST_IMPORTED = 150
DEFAULT_PLAN = Path(__file__).with_name("plan.yaml")
#: The 99 % quantile of the standard normal distribution.
_Z99 = 2.326


class Fault(StrEnum):
    """What the replicator does to a change instead of applying it."""

    DROP = "drop"  # never applied
    DELAY = "delay"  # applied `by_ms` later, and the key's later changes after it
    CORRUPT = "corrupt"  # applied with another value
    REORDER = "reorder"  # applied `by_ms` after the key's next change, over which it then wins
    DUPLICATE = "duplicate"  # applied, and once more `by_ms` later
    LEAVE_EXTRA = "leave-extra"  # the deletion is not applied: the item stays


_WRITES = frozenset({ChangeType.INSERT, ChangeType.MODIFY})
_ALL = frozenset(ChangeType)
#: The changes to which a fault can be done; without `of`, all of them.
POSSIBLE = {
    Fault.DROP: _WRITES,
    Fault.DELAY: _ALL,
    Fault.CORRUPT: _WRITES,
    Fault.REORDER: _ALL,
    Fault.DUPLICATE: _ALL,
    Fault.LEAVE_EXTRA: frozenset({ChangeType.REMOVE}),
}
_TIMED = (Fault.DELAY, Fault.REORDER, Fault.DUPLICATE)


class Lag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long after a change it is applied: log-normal, cut off at twice `p99_ms`."""

    median_ms: float = 300
    p99_ms: float = 1500

    def draw(self, rng: random.Random) -> float:
        if self.median_ms == 0:
            return 0
        sigma = math.log(self.p99_ms / self.median_ms) / _Z99
        return min(self.median_ms * math.exp(rng.gauss(0, sigma)), 2 * self.p99_ms)


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One planned fault. keys: shell pattern of the partition key. percent: of the changes that fit."""

    fault: Fault
    of: list[ChangeType] = []
    keys: str = "*"
    percent: float = 100
    at_most: int | None = None
    by_ms: int = 0

    def fits(self, event: ChangeType, partition_key: str) -> bool:
        events = self.of or POSSIBLE[self.fault]
        return event in events and fnmatch.fnmatchcase(partition_key, self.keys)


class Imported(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """How many of the items that nobody writes any more the import got wrong, before the watch began."""

    lost: int = 0  # only the source has them
    spoiled: int = 0  # another value, another type, another value deep inside, in turns
    left_over: int = 0  # only the target has them


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole plan. Of several rules that fit a change and pick it, the first is done."""

    lag: Lag = Lag()
    faults: list[Rule] = []
    imported: Imported = msgspec.field(default=Imported(), name="import")


def load(path: Path) -> Plan:
    """Read and check a plan. Raises UsageError naming the file, the place in it and the remedy."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the plan {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"the plan {path} is not YAML: {' '.join(str(error).split())}") from error
    try:
        plan = msgspec.convert(content or {}, Plan)
    except msgspec.ValidationError as error:
        raise UsageError(f"the plan {path} does not fit: {error}") from error
    problems = _problems(plan)
    if problems:
        raise UsageError(f"the plan {path} does not fit: {'; '.join(problems)}")
    return plan


def _problems(plan: Plan) -> list[str]:
    lag, found = plan.lag, []
    if not (lag.median_ms == lag.p99_ms == 0 or 0 < lag.median_ms <= lag.p99_ms):
        found.append("lag: must be 0 < median_ms <= p99_ms, or both 0")
    counts = (plan.imported.lost, plan.imported.spoiled, plan.imported.left_over)
    if min(counts) < 0 or sum(counts) > MOST_IMPORTED:
        found.append(f"import: none may be negative, and all together at most {MOST_IMPORTED}")
    for index, rule in enumerate(plan.faults):
        found += [f"faults[{index}] ({rule.fault}): {problem}" for problem in _rule_problems(rule)]
    return found


def _rule_problems(rule: Rule) -> list[str]:
    found = []
    impossible = sorted(set(rule.of) - POSSIBLE[rule.fault])
    if impossible:
        possible = ", ".join(sorted(POSSIBLE[rule.fault]))
        found.append(f"`of` cannot be {', '.join(impossible)}, only {possible}")
    if not 0 < rule.percent <= 100:
        found.append("`percent` must be more than 0 and at most 100")
    if rule.at_most is not None and rule.at_most < 1:
        found.append("`at_most` must be at least 1; leave it out for no limit")
    if rule.by_ms < 0 or (rule.fault is Fault.DELAY and rule.by_ms == 0):
        found.append("`by_ms` must be positive")
    if rule.by_ms and rule.fault not in _TIMED:
        found.append(f"`by_ms` has no meaning here, only for {', '.join(_TIMED)}")
    return found


class Picker:
    """Says change by change what the plan does to it; counts `at_most`."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self._rules = plan.faults
        self._seed = seed
        self._done = [0] * len(plan.faults)

    def pick(self, event: ChangeType, partition_key: str, key: str, ordinal: int) -> Rule | None:
        """key: the whole key's text; ordinal: how many changes of that key came before."""
        for index, rule in enumerate(self._rules):
            if rule.at_most is not None and self._done[index] >= rule.at_most:
                continue
            if rule.fits(event, partition_key) and self._chance(index, key, ordinal) < rule.percent:
                self._done[index] += 1
                return rule
        return None

    def _chance(self, index: int, key: str, ordinal: int) -> float:
        """A number in 0 … 100 that only these determine."""
        text = f"{self._seed} {index} {key} {ordinal}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) / 2**56 * 100

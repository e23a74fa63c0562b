"""The scripts and the keys that each of them takes, in the order in which its Lua file names them.

Reads: the files in `lua`. Writes: nothing. Never: redis.
"""

from importlib import resources
from typing import NamedTuple


class Script(NamedTuple):
    """A script `lua/<name>.lua`. keys: names without the migration's prefix."""

    name: str
    keys: tuple[str, ...]


BEGIN = Script("begin", ("meta", "work"))
BEGIN_AGAIN = Script(
    "begin_again",
    (
        *("meta", "work", "ledger", "gaps"),
        *("entries", "due", "due-left", "history", "checkpoints", "leases", "watermarks", "readers", "validators", "late"),
        *("findings", "findings-since", "findings-log", "dead", "trials", "keys-sampled", "keys-judged"),
        *("comparison", "comparison-leases", "comparison-read"),
        *("comparison-sorted", "comparison-of-table"),
    ),
)
HEARTBEAT = Script("heartbeat", ("readers",))
VALIDATOR_HEARTBEAT = Script("heartbeat", ("validators",))
TRACK = Script("track", ("leases", "checkpoints", "watermarks"))
LEASE = Script("lease", ("leases", "meta"))
RENEW = Script("renew", ("leases", "watermarks", "meta", "checkpoints", "work"))
RELEASE = Script("release", ("leases",))
PUBLISH = Script(
    "publish",
    (
        *("leases", "checkpoints", "history", "work", "due", "ledger", "keys-sampled", "meta", "dead"),
        *("entries", "due-left"),
    ),
)
ADD_GAP = Script("add_gap", ("leases", "gaps", "ledger", "meta", "watermarks"))
KEEP_CLOCK = Script("keep_clock", ("clock", "work"))
MARK = Script("mark", ("marks",))
SAMPLE = Script("sample", ("samples", "meta"))
ADAPT = Script("adapt", ("meta",))
CLAIM = Script("claim", ("work", "due", "history", "meta", "ledger", "readers", "entries", "due-left"))
CLAIM_ALONE = Script("claim_alone", ("work", "history", "meta", "trials", "readers", "entries"))
COMPARE_BEGIN = Script(
    "compare_begin",
    (
        *("comparison", "comparison-leases", "comparison-read", "ledger"),
        *("comparison-sorted", "comparison-of-table"),
    ),
)
COMPARE_TAKE = Script("compare_take", ("comparison", "comparison-leases", "ledger", "gaps"))
COMPARE_RENEW = Script("compare_renew", ("comparison", "comparison-leases"))
COMPARE_FINISH = Script(
    "compare_finish", ("comparison", "comparison-leases", "comparison-read", "comparison-sorted")
)
SUSPECT = Script(
    "suspect",
    (
        *("comparison", "comparison-leases", "history", "work", "ledger", "keys-sampled", "due", "dead"),
        *("meta", "entries", "due-left"),
    ),
)


def commit(minute: int) -> Script:
    """minute: since 1970; the replication lags of each minute have a key of their own."""
    return Script(
        "commit",
        (
            *("work", "due", "history", "ledger", "findings", "findings-since", "findings-log"),
            *(f"lag:{minute}", "late", "keys-judged", "dead", "meta", "entries", "due-left"),
        ),
    )


def source(name: str) -> str:
    """The text of a script as it is sent: the prelude stands behind its first line, which must stay first."""
    first, _, rest = _file(name).partition("\n")
    return f"{first}\n{_file('prelude')}\n{rest}"


def names() -> list[str]:
    """Every script's name."""
    folder = resources.files("pipeline.store").joinpath("lua")
    return sorted(one.name[:-4] for one in folder.iterdir() if one.name != "prelude.lua")


def _file(name: str) -> str:
    return resources.files("pipeline.store").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")

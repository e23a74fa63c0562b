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
        *(
            "entries",
            "due",
            "due-left",
            "history",
            "checkpoints",
            "leases",
            "watermarks",
            "readers",
            "validators",
            "late",
        ),
        *("findings", "findings-since", "findings-log", "dead", "trials", "keys-sampled", "keys-judged"),
        *("comparison", "comparison-leases", "comparison-read"),
        *("comparison-sorted", "comparison-of-table", "cost"),
    ),
)
HEARTBEAT = Script("heartbeat", ("readers",))
VALIDATOR_HEARTBEAT = Script("heartbeat", ("validators",))
TRACK = Script("track", ("leases", "checkpoints", "watermarks"))
LEASE = Script("lease", ("leases", "meta"))
RENEW = Script("renew", ("leases", "watermarks", "meta", "checkpoints", "work"))
RELEASE = Script("release", ("leases",))
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


def of_sample(name: str, sample: str) -> str:
    """A key that counts distinct keys begins anew with each sample; "" = as the migration was begun."""
    return f"{name}:{sample}" if sample else name


def publish(sample: str = "") -> Script:
    """sample: see `of_sample`."""
    return Script(
        "publish",
        (
            *("leases", "checkpoints", "history", "work", "due", "ledger"),
            *(of_sample("keys-sampled", sample), "meta", "dead", "entries", "due-left", "findings"),
        ),
    )


def spend(minute: int) -> Script:
    """minute: since 1970; what is spent in each minute has a key of its own."""
    return Script("spend", ("cost", f"cost:{minute}", "meta"))


def lower(sample: str = "") -> Script:
    """sample: the one that is in use until then; see `of_sample`."""
    return Script("lower", ("meta", of_sample("keys-sampled", sample), of_sample("keys-judged", sample)))


def commit(minute: int, sample: str = "") -> Script:
    """minute: since 1970; the replication lags of each minute have a key of their own. sample: see
    `of_sample`.
    """
    return Script(
        "commit",
        (
            *("work", "due", "history", "ledger", "findings", "findings-since", "findings-log"),
            *(f"lag:{minute}", "late", of_sample("keys-judged", sample), "dead"),
            *("meta", "entries", "due-left"),
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

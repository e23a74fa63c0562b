"""What docs/scaling.md claims of a migration that is spread over cells, simulated: `python -m tools.cells`.

Reads: nothing. Writes: the tables, to stdout; `--write` puts them into docs/scaling.md, and a test compares.
Never: AWS, Redis. The same seeds give the same tables. The cells are not built: this is the rule that they
would follow, tried against crashes, two readers at once, lost replies and a cell that comes back older.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

DOCUMENT = Path(__file__).parent.parent / "docs" / "scaling.md"
BEGIN, END = "<!-- made by tools/cells.py: begin {} -->\n", "<!-- end {} -->\n"

#: Of the tables: cells, runs of the protocol, and draws of the balance.
CELLS, RUNS, DRAWS = (1, 2, 4, 8, 16, 32), 2_000, 20
#: A change: its number in the stream, which only grows, and its key.
Change = tuple[int, int]


# --- the protocol ------------------------------------------------------------------------------------------


class Rule(StrEnum):
    """What can be left out, to see that the simulation would show it."""

    ALL = "all of them"
    NO_POSITION = "a cell takes what it was given before"
    EARLY_CHECKPOINT = "the checkpoint is committed before all cells have confirmed"
    NO_COMPARISON = "nobody compares a cell's position with the one that was confirmed"
    NO_FENCE = "a reader that lost its lease may go on publishing"


@dataclass
class Cell:
    """One Redis slot: what it has applied, up to which change, and the newest epoch it has heard of."""

    position: int = 0
    epoch: int = 0
    applied: list[Change] = field(default_factory=list)

    def copy(self) -> "Cell":
        return Cell(self.position, self.epoch, list(self.applied))

    def publish(self, epoch: int, expected: int, until: int, changes: list[Change], left_out: Rule) -> str:
        """One script: fence, compare, apply what is new, move on."""
        if epoch < self.epoch and left_out is not Rule.NO_FENCE:
            return "fenced"
        self.epoch = max(self.epoch, epoch)
        if self.position < expected and left_out is not Rule.NO_COMPARISON:
            return "behind"  # it came back older than what it had confirmed
        self.applied += [one for one in changes if one[0] > self.position or left_out is Rule.NO_POSITION]
        self.position = max(self.position, until)
        return "published"


@dataclass
class World:
    """The stream of one partition, the cells, and the checkpoint (which the home cell would keep)."""

    changes: list[Change]
    cells: list[Cell]
    dice: random.Random
    left_out: Rule
    checkpoint: int = 0
    epoch: int = 0
    snapshots: list[Cell] = field(default_factory=list)

    def cell_of(self, key: int) -> int:
        return key * 2_654_435_761 % 2**32 * len(self.cells) >> 32

    def disturb(self) -> None:
        """Now and then a cell is copied, and now and then one comes back as it was copied."""
        if self.dice.random() < 0.05:
            self.snapshots = [cell.copy() for cell in self.cells]
        if self.snapshots and self.dice.random() < 0.01:
            fallen = self.dice.randrange(len(self.cells))
            self.cells[fallen] = self.snapshots[fallen].copy()


class Reader:
    """Publishes page after page; a generator, so that two of them can take turns and one can die anywhere."""

    def __init__(self, world: World) -> None:
        world.epoch += 1
        self._world, self._epoch = world, world.epoch
        self._confirmed: list[int] = []

    def run(self) -> Generator[None, None, None]:
        """Each step is one call of one cell. Ends at the end of the stream, or when it is fenced."""
        world = self._world
        start = yield from self._open()
        while start < len(world.changes):
            page = world.changes[start : start + world.dice.randrange(1, 12)]
            until = page[-1][0]
            if world.left_out is Rule.EARLY_CHECKPOINT:
                world.checkpoint = until
            said = yield from self._publish(page, until)
            if said == "fenced":
                return
            if said == "behind":
                start = yield from self._open()
                continue
            world.checkpoint = start = until

    def _open(self) -> Generator[None, None, int]:
        """Make the epoch known everywhere, then begin where the cell is that is furthest behind."""
        world = self._world
        for cell in world.cells:
            if world.left_out is not Rule.NO_FENCE:
                cell.epoch = max(cell.epoch, self._epoch)
            yield
        self._confirmed = [cell.position for cell in world.cells]
        if world.left_out in (Rule.EARLY_CHECKPOINT, Rule.NO_COMPARISON):
            return world.checkpoint
        return min(self._confirmed)

    def _publish(self, page: list[Change], until: int) -> Generator[None, None, str]:
        world = self._world
        order = list(range(len(world.cells)))
        world.dice.shuffle(order)
        for number in order:
            mine = [one for one in page if world.cell_of(one[1]) == number]
            answered = False
            while not answered:
                cell = world.cells[number]
                said = cell.publish(self._epoch, self._confirmed[number], until, mine, world.left_out)
                answered = world.dice.random() > 0.1  # else the reply is lost: the same once more
                yield
            if said != "published":
                return said
            self._confirmed[number] = max(self._confirmed[number], until)
        return "published"


def outcome(seed: int, left_out: Rule, cells: int = 4, length: int = 60) -> tuple[int, int]:
    """Changes lost and changes counted twice (or out of order) in one run."""
    dice = random.Random(f"{seed} {left_out}")
    changes = [(number, dice.randrange(20)) for number in range(1, length + 1)]
    world = World(changes, [Cell() for _ in range(cells)], dice, left_out)
    _turns(world)
    lost = twice = 0
    for number, cell in enumerate(world.cells):
        due = [one for one in changes if world.cell_of(one[1]) == number]
        lost += len(set(due) - set(cell.applied))
        twice += len(cell.applied) - len(set(cell.applied))
        twice += cell.applied != sorted(cell.applied) and len(cell.applied) == len(set(cell.applied))
    return lost, twice


def _turns(world: World) -> None:
    """Readers come, stand still while others take over, go on, die; the last one is left in peace."""
    readers: list[Generator[None, None, None]] = [Reader(world).run()]
    for _ in range(300):
        world.disturb()
        chance = world.dice.random()
        if chance < 0.02:
            readers.append(Reader(world).run())
        elif chance < 0.03 and len(readers) > 1:
            readers.pop(world.dice.randrange(len(readers) - 1))
        # The one that holds the lease most often, an overtaken one now and then.
        turn = readers[-1] if world.dice.random() < 0.8 else world.dice.choice(readers)
        next(turn, None)
    for last in (*readers, Reader(world).run(), Reader(world).run()):
        for _ in last:
            pass


def protocol_table() -> str:
    """What each rule is good for."""
    lines = ["| left out | runs | runs with a loss | changes lost | counted twice |", "|---|---|---|---|---|"]
    for rule in Rule:
        results = [outcome(seed, rule) for seed in range(RUNS)]
        wrong = sum(result != (0, 0) for result in results)
        name = "nothing" if rule is Rule.ALL else rule.value
        lost, twice = (sum(column) for column in zip(*results, strict=True))
        lines.append(f"| {name} | {RUNS:,} | {wrong:,} | {lost:,} | {twice:,} |")
    return "\n".join(lines) + "\n"


# --- the balance -------------------------------------------------------------------------------------------

#: DynamoDB takes no more writes of one key in a second (1,000 write units a partition; an item is in one).
KEY_LIMIT = 1_000.0
KEYS = 100_000


def shares(exponent: float, changes_per_second: float) -> list[float]:
    """Changes a second of each key when popularity follows Zipf's law, cut at what DynamoDB takes."""
    weights = [(rank + 1) ** -exponent for rank in range(KEYS)]
    rates = [0.0] * KEYS
    free, left = list(range(KEYS)), changes_per_second
    while True:
        total = sum(weights[key] for key in free)
        full = [key for key in free if weights[key] / total * left > KEY_LIMIT]
        if not full:
            break
        for key in full:
            rates[key] = KEY_LIMIT
        left -= KEY_LIMIT * len(full)
        free = free[len(full) :]  # the heaviest come first
    for key in free:
        rates[key] = weights[key] / total * left
    return rates


def heaviest(rates: Iterable[float], cells: int, seed: int) -> float:
    """How much more than its share the heaviest cell carries: 1.0 = nothing more."""
    dice = random.Random(seed)
    loads: dict[int, float] = defaultdict(float)
    total = 0.0
    for rate in rates:
        loads[dice.randrange(cells)] += rate
        total += rate
    return max(loads.values()) / (total / cells)


def balance_table(carried: float) -> str:
    """carried: changes a second that one cell is meant to carry."""
    lines = [
        "| cells | changes/s in all | even traffic | Zipf 0.8 | Zipf 1.0 | Zipf 1.2 |",
        "|---|---|---|---|---|---|",
    ]
    for cells in CELLS[1:]:
        columns = []
        for exponent in (0.0, 0.8, 1.0, 1.2):
            rates = shares(exponent, carried * cells)
            columns.append(max(heaviest(rates, cells, seed) for seed in range(DRAWS)))
        said = " | ".join(f"{value:.2f}" for value in columns)
        lines.append(f"| {cells} | {carried * cells:,.0f} | {said} |")
    return "\n".join(lines) + "\n"


# --- the cost ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Of one Redis, microseconds of its CPU (`python -m benchmarks`; docs/evidence.md has the runs).

    change: of a sampled change in all, looks included, with batches as long as they get. publish: of a script
    that publishes nothing, which is what each further one of a page costs.
    """

    change: float = 8.9
    publish: float = 35.0


#: Of a core that runs one Redis: what is left is for what comes in bursts.
FILLED = 0.7
#: Sampled changes in a page of GetRecords: a full one at 100 %, one at 10 %, one of a busy shard at 1 %.
PAGES = (1_000, 100, 10)


def touched(cells: int, changes: int) -> float:
    """Cells that a page of so many changes of different keys touches, on average."""
    return cells * (1 - (1 - 1 / cells) ** changes)


def cost(measured: Measured, cells: int, page: int) -> float:
    """Microseconds of all cells' CPU for a change. Claims stay as long: validators ask one cell at a time."""
    further = touched(cells, page) - 1
    return measured.change + further * measured.publish / page


def cost_table(measured: Measured) -> str:
    """CPU of a change, and what all cells carry, by the sampled changes in a page."""
    heads = " | ".join(f"{page:,} a page: µs, changes/s" for page in PAGES)
    lines = [f"| cells | {heads} |", "|---|" + "---|" * len(PAGES)]
    for cells in CELLS:
        columns = []
        for page in PAGES:
            one = cost(measured, cells, page)
            columns.append(f"{one:.1f}, {cells * FILLED * 1e6 / one:,.0f}")
        lines.append(f"| {cells} | {' | '.join(columns)} |")
    return "\n".join(lines) + "\n"


#: Changes a second of a table, by what a sample makes of them.
TRAFFIC, PERCENTS = (10_000, 100_000, 1_000_000), (100.0, 25.0, 10.0, 1.0)


def sampling_table(measured: Measured) -> str:
    """The share of one Redis that a sample takes."""
    heads = " | ".join(f"{percent:g} %" for percent in PERCENTS)
    lines = [f"| changes/s of the table | {heads} |", "|---|" + "---|" * len(PERCENTS)]
    for traffic in TRAFFIC:
        filled = [traffic * percent / 100 * measured.change / 1e6 for percent in PERCENTS]
        said = " | ".join(f"{share:.0%}" + (" (too much)" if share > FILLED else "") for share in filled)
        lines.append(f"| {traffic:,} | {said} |")
    return "\n".join(lines) + "\n"


# --- the page ----------------------------------------------------------------------------------------------


def tables(measured: Measured) -> dict[str, str]:
    """Every table of docs/scaling.md, by its name there."""
    carried = FILLED * 1e6 / measured.change
    return {
        "sampling": sampling_table(measured),
        "protocol": protocol_table(),
        "balance": balance_table(round(carried, -3)),
        "cost": cost_table(measured),
    }


def filled_in(document: str, made: dict[str, str]) -> str:
    """The page with these tables in it. Raises ValueError where one has no place."""
    for name, table in made.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, _, rest = document.partition(begin)
        _, closed, after = rest.partition(end)
        if not closed:
            raise ValueError(f"no place for the table {name!r}")
        document = f"{before}{begin}{table}{end}{after}"
    return document


def main() -> None:
    """Print the page's tables, or write them into it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into docs/scaling.md")
    made = tables(Measured())
    if parser.parse_args().write:
        DOCUMENT.write_text(filled_in(DOCUMENT.read_text(), made))
        return
    for name, table in made.items():
        print(f"{name}\n{table}")


if __name__ == "__main__":
    main()

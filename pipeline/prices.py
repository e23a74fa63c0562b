"""Prices as AWS's price list says them (--live-prices): asked once, at the start.

Reads: the price list, through the connections of the sides. Writes: log lines. Never: the store. Prices that
cannot be asked fail nothing: the built-in ones serve, and everything that shows them says so.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence

import msgspec
import structlog

from pipeline.aws import read_price
from pipeline.config import MigrationConfig
from pipeline.core.cost import LISTED, Prices
from pipeline.core.model import Side, SideConfig
from pipeline.errors import MonitorError
from pipeline.sides import connect

log = structlog.get_logger(__name__)

#: Of many migrations none is asked for later than this: a start without a network would wait for each.
ASKED_SECONDS = 20


def with_live_prices(
    migrations: Sequence[MigrationConfig], monotonic: Callable[[], float] = time.monotonic
) -> tuple[MigrationConfig, ...]:
    """The migrations, each with the prices of its tables' regions; those reached alike are asked for once."""
    until = monotonic() + ASKED_SECONDS
    known: dict[tuple[SideConfig, SideConfig, Side], Prices] = {}
    priced = []
    for migration in migrations:
        reached = (migration.source, migration.target, migration.origin)
        if reached not in known:
            known[reached] = _asked(migration) if monotonic() < until else _built_in("asking takes too long")
        priced.append(dataclasses.replace(migration, live=known[reached]))
    return tuple(priced)


def _asked(migration: MigrationConfig) -> Prices:
    try:
        # Their own sessions: credentials that are refused here are not for that refused elsewhere.
        connections = {side: connect(migration, side) for side in Side}
        units = {side: read_price(one, one.region, "DDB-ReadUnits") for side, one in connections.items()}
        origin = connections[migration.origin]
        reads = read_price(origin, origin.region, "DDB-StreamsReadRequests")
    except MonitorError as error:
        return _built_in(str(error))
    regions = ", ".join(dict.fromkeys(one.region for one in connections.values()))
    return Prices(
        units[Side.SOURCE],
        units[Side.TARGET],
        reads,
        f"on demand, price list of {regions} as asked at the start",
    )


def _built_in(why: str) -> Prices:
    log.warning("prices could not be asked: built-in ones serve", reason=why, prices=LISTED.said)
    return msgspec.structs.replace(LISTED, said=f"{LISTED.said}, as live prices could not be asked")

"""What the stores of roles have in common: they begin the migration, or go on with it.

Reads and writes: what `beginning` does, and what was spent on AWS. Never: judging.
"""

from collections.abc import Mapping
from typing import Self

from pipeline.core.budget import Lowered
from pipeline.errors import StateDamaged
from pipeline.store import scripts
from pipeline.store.beginning import begin
from pipeline.store.clock import AwsClocks
from pipeline.store.connection import RedisConnection
from pipeline.store.followed import Followed, followed
from pipeline.store.locating import Pools
from pipeline.store.outage import Outage
from pipeline.store.reading import StoreView

#: What a minute cost is kept this long, by Redis' clock: a step of an hour takes away none that counts.
SPENT_KEPT_SECONDS = 6 * 3_600


class RoleStore(StoreView):
    """One migration's state as a role changes it.

    Thread-safe; make it after spawn (connections do not survive a fork).
    """

    _followed = Followed()

    @property
    def lowered(self) -> Lowered | None:
        """The sample in use as last heard; None = as the migration was begun."""
        return self._followed.lowered

    @classmethod
    def begin(
        cls,
        url: str,
        migration: str,
        settings: dict[str, str],
        aws: AwsClocks | None = None,
        outage: Outage | None = None,
        *,
        pools: Pools | None = None,
        judged_by: dict[str, str] | None = None,
    ) -> Self:
        """Begin the migration or go on with it; SettingsChanged if it was begun with other settings.

        aws: the time, as AWS tells it, to be asked before this; None for tests and benchmarks. outage: of the
        process, where it plays a role. pools: of the process, where it serves several migrations. judged_by:
        times that may change, where nobody has kept them before.
        """
        connection = RedisConnection(url, migration, aws, outage, pools)
        return cls(connection, begin(connection, settings, judged_by))

    def spend(self, counts: Mapping[str, int], now_ms: int) -> Followed:
        """Count what this process asked AWS since it last said so (lua/spend.lua), and hear which keys are
        followed. counts: see `core/cost.py`.
        """
        args = [SPENT_KEPT_SECONDS, *(one for field in counts.items() for one in field)]
        stored = self._connection.run(scripts.spend(now_ms // 60_000), args)
        if stored != self._followed.stored:
            try:
                self._followed = followed(stored, self._key("meta"))
            except StateDamaged:  # whoever shows the figures says so; here nothing is left out
                self._followed = Followed()
        return self._followed

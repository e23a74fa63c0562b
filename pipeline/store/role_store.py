"""What the stores of roles have in common: they begin the migration, or go on with it.

Reads and writes: what `beginning` does. Never: judging.
"""

from typing import Self

from pipeline.store.beginning import begin
from pipeline.store.clock import AwsClocks
from pipeline.store.connection import RedisConnection
from pipeline.store.locating import Pools
from pipeline.store.outage import Outage
from pipeline.store.reading import StoreView


class RoleStore(StoreView):
    """One migration's state as a role changes it.

    Thread-safe; make it after spawn (connections do not survive a fork).
    """

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

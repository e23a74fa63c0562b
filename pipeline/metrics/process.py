"""What a process counts about itself, whatever it watches; and the way to what it counts of a migration.

Reads: nothing. Writes: counters in memory or in this process's slot files (see `metrics.start`). Never:
redis. No key, shard name or free text is in a label.
"""

import platform
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from pipeline import __version__
from pipeline.metrics.declared import Factory
from pipeline.metrics.migration import MigrationFamilies, MigrationMetrics, ReaderMetrics, ValidatorMetrics
from pipeline.metrics.slot_files import SlotFiles

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


class Metrics:
    """What one process counts. An attribute is the metric's name without prefix and `_total`.

    `registry` is what a port of this process (or, with a shared directory, of this process group) serves.
    """

    def __init__(
        self, own: CollectorRegistry | None, registry: CollectorRegistry, files: SlotFiles | None = None
    ) -> None:
        self.registry = registry
        self._files = files
        make = Factory(own)
        self.worker_processes = make.of_process(
            Gauge, "worker_processes", "Processes that the supervisor keeps alive."
        )
        self.worker_restarts = make.of_process(
            Counter, "worker_restarts", "Processes that ended by themselves and were restarted."
        )
        self.log_messages = make.of_process(
            Counter, "log_messages", "Log lines written.", ("level",), ((level,) for level in LOG_LEVELS)
        )
        self.logged = {level: self.log_messages.labels(level) for level in LOG_LEVELS}
        self._declare_build(make)
        self._of_migrations = MigrationFamilies(make)
        self.declared = tuple(make.declared)

    def _declare_build(self, make: Factory) -> None:
        versions = (__version__, platform.python_version())
        build = make.of_process(
            Gauge,
            "build_info",
            "1; its labels say which build runs.",
            ("version", "python_version"),
            (versions,),
        )
        build.labels(*versions).set(1)

    def keep(self) -> None:
        """See that what is counted is seen: to be called about once a second."""
        if self._files is not None and self._files.is_missing():
            self.worker_restarts.inc(0)  # any change makes the files anew

    def served(self, migration: str, role: str) -> Callable[[float], None]:
        """To be called with 1 while this process, which plays that role, serves the migration, else 0."""
        return self._of_migrations.migration_served.child(migration, role).set

    def of(self, migration: str) -> MigrationMetrics:
        """What every role counts of a migration; what is counted is there at 0 from now on."""
        return MigrationMetrics(self._of_migrations, migration)

    def of_reader(self, migration: str, table: str) -> ReaderMetrics:
        """The same and what a reader counts. table: the side whose stream it reads."""
        return ReaderMetrics(self._of_migrations, migration, table)

    def of_validator(self, migration: str) -> ValidatorMetrics:
        """The same and what a validator counts."""
        return ValidatorMetrics(self._of_migrations, migration)

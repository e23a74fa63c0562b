"""One validator process without a supervisor, so that a test may kill it as often as it likes.

    python -m tests.faults.lone_validator OPTIONS…

Reads and writes: what `run_validator` does, as slot validator-0. Never: ends by itself.
"""

import os
import sys
import threading

from pipeline import both_tables, metrics
from pipeline.commands import preflight
from pipeline.config import load
from pipeline.core.model import Side
from pipeline.process import logs
from pipeline.sides import connect
from pipeline.validator.role import run_validator


def main(argv: list[str]) -> None:
    loaded = load(["validator", *argv], os.environ)
    process, migration = loaded.process, loaded.migrations[0]
    logs.configure(process.log_format, process.log_level)
    tables = preflight.see_tables(migration, *(connect(migration, side) for side in Side))
    own_metrics = metrics.start(None, "validator-0")
    run_validator(
        process,
        (both_tables.completed(migration, tables),),
        threading.Event(),
        own_metrics,
        lambda **_: None,
        "validator-0",
    )


if __name__ == "__main__":
    main(sys.argv[1:])

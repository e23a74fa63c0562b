"""The configuration: every option, and what came of flags, environment and file. Others import from here."""

from pipeline.config.load import PROGRAM, Effective, Loaded, listed, load, split_command
from pipeline.config.options import MigrationConfig, ProcessConfig

__all__ = [
    "PROGRAM",
    "Effective",
    "Loaded",
    "MigrationConfig",
    "ProcessConfig",
    "listed",
    "load",
    "split_command",
]

"""The configuration: every option, and what came of flags, environment and file. Others import from here."""

from pipeline.config.load import PROGRAM, Config, Effective, SideOptions, load, split_command

__all__ = ["PROGRAM", "Config", "Effective", "SideOptions", "load", "split_command"]

"""What a process of this host uses: memory, CPU time, file descriptors, since when it runs.

Reads: /proc, and the memory limit of this control group. Writes: nothing. Where there is no /proc, nothing is
known.
"""

import os
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
#: Fields of /proc/<pid>/stat behind the name of the program, counted from the state on.
_USER_TICKS, _SYSTEM_TICKS, _START_TICKS, _RESIDENT_PAGES = 11, 12, 19, 21
#: Where version 2 and version 1 of control groups say what this one may use.
_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")
#: Version 1 says "no limit" with a number that no machine has.
_NO_LIMIT_BYTES = 1 << 60


class Usage(NamedTuple):
    """Of one process; the start is a UNIX time."""

    resident_bytes: int
    cpu_seconds: float
    open_files: int
    started_seconds: float


def usage(pid: int) -> Usage | None:
    """None when there is no such process, or its figures are not to be read."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        open_files = len(list((_PROC / str(pid) / "fd").iterdir()))
        booted = next(
            int(line.split()[1])
            for line in (_PROC / "stat").read_text(encoding="utf-8").splitlines()
            if line.startswith("btime ")
        )
    except (OSError, StopIteration):
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    return Usage(
        resident_bytes=int(fields[_RESIDENT_PAGES]) * os.sysconf("SC_PAGE_SIZE"),
        cpu_seconds=(int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / ticks,
        open_files=open_files,
        started_seconds=booted + int(fields[_START_TICKS]) / ticks,
    )


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """How much memory the processes of this container may use together; None = there is no limit."""
    for name in _LIMITS:
        try:
            limit = int((root / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # no such file; "max"
            continue
        return limit if limit < _NO_LIMIT_BYTES else None
    return None

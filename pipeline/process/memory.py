"""How much memory this control group (a container, a systemd service) may use, and how much it does.

Reads: /proc/self/cgroup, files of /sys/fs/cgroup. Writes: nothing. A process that may use what the host has
gets no answer: only a limit makes the kernel end it while the host is fine.
"""

from pathlib import Path
from typing import NamedTuple

CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
#: A limit of this size or more is cgroup v1's way to say that there is none.
NO_LIMIT_BYTES = 1 << 60


class Memory(NamedTuple):
    """used_bytes: what cannot be given back at once; files that are cached and not in use are left out."""

    used_bytes: int
    limit_bytes: int


def of_this_group(cgroups: Path = CGROUPS, own: Path = OWN) -> Memory | None:
    """What the group uses and may use; None without a limit, or where it cannot be seen."""
    for place, limit, used, cache in _places(cgroups, own):
        try:
            most = (place / limit).read_text(encoding="ascii").strip()
            if not most.isdigit() or int(most) >= NO_LIMIT_BYTES:
                continue
            taken = int((place / used).read_text(encoding="ascii"))
            statistics = (place / "memory.stat").read_text(encoding="ascii")
        except (OSError, ValueError):
            continue
        return Memory(taken - _counted(statistics, cache), int(most))
    return None


def _places(cgroups: Path, own: Path) -> list[tuple[Path, str, str, str]]:
    """Where the group's files may be, and their names: version 2 with its path or at the root, version 1."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    path = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    second = ("memory.max", "memory.current", "inactive_file")
    first = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    return [(cgroups / path, *second), (cgroups, *second), (cgroups / "memory", *first)]


def _counted(statistics: str, name: str) -> int:
    """The count of that name, 0 without it."""
    words = (line.split() for line in statistics.splitlines())
    return next((int(pair[1]) for pair in words if pair[0] == name), 0)

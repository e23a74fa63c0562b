"""Run a command that dies with its parent: `python tether.py PARENT_PID COMMAND [ARGUMENT …]`.

Reads: nothing. Writes: nothing; it becomes the command. On Linux no process outlives a killed parent.

The kernel's parent-death signal survives execve, so any program can be tied this way, without running Python
code between fork and exec of a process that has threads. It fires when the *thread* that started us ends.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tied(command: list[str]) -> list[str]:
    """The command line that runs `command` (its first word a path) tied to this process."""
    return [sys.executable, __file__, str(os.getpid()), *command]


def die_with(parent: int) -> None:
    """Be killed when the parent process is gone; at once if it is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def main(argv: list[str]) -> None:
    """Become the command, tied to the parent."""
    die_with(int(argv[0]))
    os.execv(argv[1], argv[1:])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])

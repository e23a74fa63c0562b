"""Run a command that dies with its parent: `python -m pipeline.demo.tether PARENT_PID COMMAND [ARGUMENT …]`.

Reads: nothing. Writes: nothing; it becomes the command. Never: a process that outlives a killed demo.

The kernel's parent-death signal survives execve, so any program can be tied this way, without running Python
code between fork and exec of a process that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    parent, command = int(argv[0]), argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])

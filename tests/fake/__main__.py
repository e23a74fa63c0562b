"""`python -m tests.fake --port 0`: serve, print the port on the first line, end with the parent."""

import argparse
import ctypes
import os
import signal

from tests.fake.server import Fake

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fake")
    parser.add_argument("--port", type=int, default=0)
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return  # the parent ended before the signal was asked for
    with Fake(parser.parse_args().port) as fake:
        print(fake.server.port, flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()

"""The fake as its own process, so that its CPU time is not the client's.

Reads: the child's first line. Writes: HTTP to the child. Never: a child that outlives this process.
"""

import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

import msgspec


class FakeProcess:
    """Use as a context manager; `steer` calls a method of `Control` by name.

    The child dies with the *thread* that made it (PR_SET_PDEATHSIG), so make it in one that lasts.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fake", "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def steer(self, verb: str, **arguments: Any) -> Any:
        body = msgspec.json.encode({"verb": verb, "arguments": arguments})
        try:
            with urllib.request.urlopen(f"{self.url}/_control", body) as answer:
                return msgspec.json.decode(answer.read())["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(error.read().decode()) from error

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(120)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

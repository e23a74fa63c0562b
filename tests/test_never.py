"""What a module says it never does, as far as its own text shows: imports, names of the store, calls."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.test_imports import MODULES, dotted, imported

#: A module's opening says it in one sentence, in the words of NEVER: "Never: clocks, I/O."
SENTENCE = re.compile(r"\bNever\b([^:]*):([^.]*)\.")


class Uses(NamedTuple):
    """What a module's text uses. names: what it imports from packages. calls: `open`, `.sleep`, …"""

    modules: frozenset[str]
    names: frozenset[str]
    calls: frozenset[str]
    attributes: frozenset[str]


def uses(source: str) -> Uses:
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    return Uses(
        modules=frozenset(imported(tree)),
        names=frozenset(a.name for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names),
        calls=frozenset(
            [func.id for func in called if isinstance(func, ast.Name)]
            + [f".{func.attr}" for func in called if isinstance(func, ast.Attribute)]
        ),
        attributes=frozenset(
            f"{node.value.id}.{node.attr}"
            for node in nodes
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        ),
    )


Offences = Callable[[Uses], set[str]]


def modules(*forbidden: str) -> Offences:
    """Imports of these modules, or of what is in them."""
    return lambda found: {
        one for one in found.modules for name in forbidden if one == name or one.startswith(f"{name}.")
    }


def names(*forbidden: str) -> Offences:
    return lambda found: set(found.names & set(forbidden))


def calls(*forbidden: str) -> Offences:
    return lambda found: set(found.calls & set(forbidden))


def any_of(*ways: Offences) -> Offences:
    return lambda found: set().union(*(way(found) for way in ways))


def unseeded(found: Uses) -> set[str]:
    """Uses of the module `random` but for a generator of one's own."""
    return {one for one in found.attributes if one.startswith("random.")} - {"random.Random"}


def wall_clock(found: Uses) -> set[str]:
    return set(found.attributes & {"time.time", "time.time_ns"})


CLOCKS = modules("time", "datetime")
FILES = any_of(modules("io", "os", "pathlib", "shutil", "tempfile"), calls("open"))
SOCKETS = modules("socket", "socketserver", "ssl", "http", "urllib.request", "urllib3", "asyncio")
LOGGING = modules("logging", "structlog")
BOTO3 = modules("boto3", "botocore")
AWS = any_of(BOTO3, modules("pipeline.aws", "pipeline.sides"))
REDIS = modules("redis")
STORE = any_of(REDIS, modules("pipeline.store"))
ROLES_WRITERS = names("ReaderStore", "ValidatorStore")
WAITING = calls(".sleep", ".wait")
#: Every word that "Never" may use, and how a module shows that it does it after all.
NEVER: dict[str, Offences] = {
    "clocks": CLOCKS,
    "this host's wall clock": any_of(modules("datetime"), wall_clock),
    "I/O": any_of(FILES, SOCKETS, LOGGING, AWS, STORE, modules("subprocess"), calls("print", "input")),
    "files": FILES,
    "the environment": modules("os"),
    "sockets": SOCKETS,
    "standard output": lambda found: calls("print")(found) | (found.attributes & {"sys.stdout"}),
    "threads": modules("threading", "concurrent", "multiprocessing"),
    "waiting": WAITING,
    "retries": any_of(WAITING, modules("pipeline.backoff")),
    "randomness": modules("random", "secrets", "uuid"),
    "chance beyond a seed": any_of(unseeded, modules("secrets", "uuid")),
    "floats": calls("float"),
    "Decimals": modules("decimal"),
    "boto3": BOTO3,
    "AWS": AWS,
    "redis": REDIS,
    "the store": STORE,
    "the store's writers": any_of(ROLES_WRITERS, names("MarkStore", "begin")),
    "the readers' and validators' writers": ROLES_WRITERS,
    "judging": modules("pipeline.core.judging.rule"),
    "decisions": modules("pipeline.core.judging.rule", "pipeline.core.judging.divergence"),
    "proofs": modules("pipeline.core.judging.matching"),
    "the monitor's code": modules(
        "pipeline.aws", "pipeline.core.canonical", "pipeline.core.judging", "pipeline.monitor"
    ),
}


def never(source: str) -> list[str]:
    """The words of a module's "Never", in its docstring."""
    text = " ".join((ast.get_docstring(ast.parse(source)) or "").split())
    said = SENTENCE.findall(text)
    assert len(said) == len(re.findall(r"\bNever\b", text)) <= 1, "say it once: Never: clocks, I/O."
    assert all(not condition for condition, _ in said), "no conditions: what is never done is never done"
    return [word.strip() for _, words in said for word in words.split(",")]


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_does_not_do_what_it_says_it_never_does(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    found = uses(source)
    for word in never(source):
        assert word in NEVER, f"nothing holds {word!r}: say it in a sentence of its own"
        used = NEVER[word](found)
        assert not used, f"{dotted(path)} never does {word}, and uses {used}"


def test_every_word_is_used_by_some_module() -> None:
    assert {word for path in MODULES for word in never(path.read_text(encoding="utf-8"))} == set(NEVER)


@pytest.mark.parametrize(
    ("word", "source"),
    [
        ("clocks", "import time"),
        ("I/O", "def f():\n    import structlog"),
        ("files", "open('x')"),
        ("sockets", "from urllib import request, parse\nimport urllib.request"),
        ("standard output", "import sys\nsys.stdout.write('x')"),
        ("waiting", "stop.wait(1)"),
        ("retries", "from pipeline.backoff import Backoff"),
        ("chance beyond a seed", "import random\nrandom.random()"),
        ("floats", "x = float('1')"),
        ("AWS", "from pipeline import sides"),
        ("the store", "from pipeline.store import StoreView"),
        ("the store's writers", "from pipeline.store import MarkStore"),
        ("the readers' and validators' writers", "from pipeline.store import ReaderStore"),
        ("judging", "from pipeline.core.judging.rule import judge"),
        ("the monitor's code", "from pipeline.core.canonical import Digester"),
    ],
)
def test_a_broken_promise_is_found(word: str, source: str) -> None:
    assert NEVER[word](uses(source))
    assert not NEVER[word](uses("import random\nimport msgspec\nrandom.Random(1)\n"))


@pytest.mark.parametrize("opening", ["Never (on Linux): I/O.", "Never: I/O. Never: clocks.", "Never writes."])
def test_a_promise_that_no_test_can_read_is_refused(opening: str) -> None:
    with pytest.raises(AssertionError):
        never(f'"""Does something. {opening}"""')

"""Who may import whom: downward only, by package; one edge package per foreign system; a pure core."""

import ast
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

PACKAGE = ROOT / "pipeline"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: The house's floors, lowest first: packages, and the modules that stand beside them. A room imports from
#: lower floors only, except as in BESIDE; `demo` plays the outside world and the operator.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"backoff", "exit_codes"}),
    frozenset({"core", "errors"}),
    frozenset({"process"}),
    frozenset({"config", "metrics", "aws", "store", "report"}),
    frozenset({"both_tables", "counted_causes", "gathering", "sides"}),
    frozenset({"prices", "producers", "serving"}),
    frozenset({"reader", "validator", "comparer", "monitor", "live_page", "commands"}),
    frozenset({"supervisor", "demo"}),
    frozenset({"cli"}),
)
#: The one arrow along a floor: the core's errors need no floor of their own.
BESIDE = {("core", "errors")}
#: Foreign package → the rooms that may import it.
EDGES = {
    "boto3": {"aws", "demo"},
    "botocore": {"aws", "demo"},
    "redis": {"store"},
    "prometheus_client": {"metrics", "process"},  # process: the type of the counter that logs are given
    "configargparse": {"config"},
    "yaml": {"config", "demo"},
    "rich": {"demo", "commands"},
    "isal": {"producers"},
    "jinja2": {"report"},
}
#: What makes a function depend on more than its arguments.
IMPURE = {"asyncio", "ctypes", "datetime", "io", "logging", "multiprocessing", "os", "pathlib", "random"}
IMPURE |= {"secrets", "shutil", "signal", "socket", "structlog", "subprocess", "sys", "tempfile", "threading"}
IMPURE |= {"time", "urllib", "uuid"}


def room(module: str) -> str:
    """The package or module directly below `pipeline` that a dotted name belongs to; "" for `pipeline`."""
    return module.split(".")[1] if "." in module else ""


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> set[str]:
    """Every module imported anywhere in a file, functions and type-checking blocks included."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "pipeline":
            found |= {f"pipeline.{alias.name}" for alias in node.names if alias.name != "__version__"}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_every_room_has_a_floor() -> None:
    rooms = {room(dotted(path)) for path in MODULES} - {""}
    assert rooms == frozenset().union(*FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_go_downward_only(path: Path) -> None:
    mine = room(dotted(path))
    if not mine:  # the package's own __init__
        return
    for module in imported(parsed(path)):
        other = room(module) if module.startswith("pipeline.") else ""
        if other and other != mine and (mine, other) not in BESIDE:
            assert floor(other) < floor(mine), f"{dotted(path)} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_foreign_systems_have_one_edge_each(path: Path) -> None:
    for module in imported(parsed(path)):
        allowed = EDGES.get(module.split(".")[0])
        assert allowed is None or room(dotted(path)) in allowed, f"{dotted(path)} imports {module}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").rglob("*.py")), ids=dotted)
def test_the_core_is_pure(path: Path) -> None:
    for module in imported(parsed(path)):
        top = module.split(".")[0]
        ours = module.startswith("pipeline.core") or module == "pipeline.errors"
        assert top == "msgspec" or ours or top in sys.stdlib_module_names, module
        pure = module == "urllib.parse"  # it takes text apart; its neighbours fetch
        assert pure or top not in IMPURE, f"{dotted(path)} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not source.strip() or ast.get_docstring(ast.parse(source)), "no docstring"

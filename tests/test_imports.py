"""Who may import whom: downward only, one edge module per foreign system, a pure core."""

import ast
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

PACKAGE = ROOT / "pipeline"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Lowest first. A module imports from lower layers, never from its own or a higher one, except as in BESIDE.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("core", "errors", "tether", "collector", "option_values"),
    ("options",),
    ("config", "logs", "metrics", "aws", "store", "report", "embedded", "option_page"),
    ("sides",),
    ("producers",),
    ("publisher", "validator", "monitor"),
    ("startup",),
    ("supervisor", "doctor"),
    ("demo",),
    ("cli",),
)
#: Modules that are parts of one of the above, split for length.
PARTS = {
    "aws_connection": "aws",
    "aws_decode": "aws",
    "aws_service": "aws",
    "aws_errors": "aws",
    "aws_files": "aws",
    "aws_pace": "aws",
    "store_server": "store",
    "store_view": "store",
    "batch": "validator",
    "partitions": "publisher",
}
#: Foreign package → the units that may import it.
EDGES = {
    "boto3": {"aws", "demo"},
    "botocore": {"aws", "demo"},
    "redis": {"store"},
    "prometheus_client": {"metrics", "logs"},  # logs: the type of the counter it is given
    "configargparse": {"config"},
    "yaml": {"config", "demo"},
    "rich": {"demo", "doctor"},
}
#: What makes a function depend on more than its arguments.
IMPURE = {"asyncio", "ctypes", "datetime", "io", "logging", "multiprocessing", "os", "pathlib", "random"}
IMPURE |= {"secrets", "shutil", "signal", "socket", "subprocess", "sys", "tempfile", "threading", "time"}
IMPURE |= {"urllib", "uuid"}


def unit(module: str) -> str:
    """The part of the picture that a dotted module of ours belongs to; "" for the package itself."""
    name = module.split(".")[1] if "." in module else ""
    return PARTS.get(name, name)


def layer(name: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if name in names)


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Every module imported anywhere in the file, functions and type-checking blocks included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "pipeline":
            found |= {f"pipeline.{alias.name}" for alias in node.names if alias.name != "__version__"}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_go_downward_only(path: Path) -> None:
    mine = unit(dotted(path))
    if not mine:  # the package's own __init__
        return
    for module in imported(path):
        other = unit(module) if module.startswith("pipeline.") else ""
        if other and other != mine:
            assert layer(other) < layer(mine), f"{dotted(path)} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_foreign_systems_have_one_edge_each(path: Path) -> None:
    for module in imported(path):
        allowed = EDGES.get(module.split(".")[0])
        assert allowed is None or unit(dotted(path)) in allowed, f"{dotted(path)} imports {module}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").glob("*.py")), ids=dotted)
def test_the_core_is_pure(path: Path) -> None:
    for module in imported(path):
        top = module.split(".")[0]
        assert top == "msgspec" or module.startswith("pipeline.core") or top in sys.stdlib_module_names, (
            module
        )
        assert top not in IMPURE, f"{dotted(path)} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    source = path.read_text()
    assert not source.strip() or ast.get_docstring(ast.parse(source)), "no docstring"

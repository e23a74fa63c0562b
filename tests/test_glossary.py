"""docs/glossary.md names every word of the program's enumerations, and is linked where people begin."""

import enum
import importlib
import pkgutil
import re
from typing import cast

import pytest

import pipeline
from pipeline.core.model import MARKS
from tests.servers import ROOT

GLOSSARY = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
TERMS = set(re.findall(r"`([^`]+)`", GLOSSARY))


def vocabulary() -> dict[str, set[str]]:
    """Enumeration → what its members are called where people see them."""
    found: dict[str, set[str]] = {}
    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        if module.name.startswith("pipeline.demo") or module.name == "pipeline.cli":
            continue
        for thing in vars(importlib.import_module(module.name)).values():
            if isinstance(thing, enum.EnumMeta) and thing.__module__ == module.name:
                found[f"{module.name}.{thing.__name__}"] = {
                    member.value if isinstance(member.value, str) else member.name
                    for member in cast(type[enum.Enum], thing)
                }
    return found


VOCABULARY = vocabulary()


def test_the_programs_enumerations_are_found() -> None:
    assert len(VOCABULARY) >= 9


@pytest.mark.parametrize("name", sorted(VOCABULARY))
def test_every_member_of_an_enumeration_is_in_the_glossary(name: str) -> None:
    assert sorted(VOCABULARY[name] - TERMS) == [], f"{name}: words that docs/glossary.md does not have"


def test_the_milestones_are_in_the_glossary() -> None:
    assert set(MARKS) <= TERMS


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_glossary_is_linked(page: str) -> None:
    assert "docs/glossary.md" in (ROOT / page).read_text(encoding="utf-8")

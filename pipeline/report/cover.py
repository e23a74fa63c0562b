"""The report of many migrations: a cover, and the facts of each, kept and read back as one.

Reads: facts. Writes: nothing. Never: the store. A migration that could not be read has its place, with the
reason: it hides no other one, and the whole is no GO.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pipeline.core.gate import Result
from pipeline.report.facts import FORM, Facts, Maker, facts_object, fingerprint
from pipeline.report.standing import Problem, Standing, of_facts, unread, whole_answer


class Chapter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One migration: what `report` says of it alone, or why it could not be read."""

    sha256: str = ""
    facts: Facts | None = None
    problem: Problem | None = None


class Cover(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, in the order of the configuration. at_ms: of the newest facts, None = none were read.

    not_named: others in that Redis, of which nothing is said.
    """

    form: int = FORM
    at_ms: int | None
    maker: Maker
    result: Result
    migrations: dict[str, Chapter]
    not_named: list[str] = []

    @property
    def standings(self) -> list[Standing]:
        """One a migration."""
        return [_standing(name, one) for name, one in self.migrations.items()]


def _standing(name: str, chapter: Chapter) -> Standing:
    if chapter.facts is not None:
        return msgspec.structs.replace(of_facts(chapter.facts), migration=name)
    return unread(name, chapter.problem or Problem("nothing was kept of it"))


def make(found: Mapping[str, Facts | Problem], maker: Maker, not_named: Sequence[str] = ()) -> Cover:
    """The report of what was found of each migration."""
    chapters = {name: _chapter(one) for name, one in found.items()}
    known = [one.at_ms for one in found.values() if isinstance(one, Facts)]
    answer = whole_answer(_standing(name, one) for name, one in chapters.items())
    return Cover(
        at_ms=max(known, default=None),
        maker=maker,
        result=answer,
        migrations=chapters,
        not_named=list(not_named),
    )


def _chapter(found: Facts | Problem) -> Chapter:
    if isinstance(found, Problem):
        return Chapter(problem=found)
    return Chapter(sha256=fingerprint(facts_object(found)), facts=found)


def cover_object(cover: Cover) -> dict[str, Any]:
    """As plain JSON values: of these is the fingerprint."""
    plain: dict[str, Any] = msgspec.to_builtins(cover)
    if not cover.not_named:  # or what earlier versions kept would not be what this one keeps
        del plain["not_named"]
    return plain

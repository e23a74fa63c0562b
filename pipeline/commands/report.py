"""`report`: the facts as a page, a text or JSON, of the state as it is now or of facts that were kept.

Reads: the store, or a file of facts. Writes: standard output, or the file that was asked for. Never: AWS, the
store's writers.
"""

import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from pipeline.commands.inspect import GATE_EXIT, say_not_named
from pipeline.config import ProcessConfig
from pipeline.core.gate import Limits, Result
from pipeline.errors import ConfigurationError
from pipeline.gathering import gather, maker
from pipeline.report import overview_text, report_text
from pipeline.report.cover import Cover, cover_object
from pipeline.report.facts import FORM, Facts, facts_object, fingerprint
from pipeline.store import StoreView

#: Facts are bounded in every list; the largest seen have a megabyte or two.
MOST_FACTS_BYTES = 64 * 2**20


def of_state(process: ProcessConfig, limits: Limits, store: StoreView) -> int:
    """Report the state as it is now; the exit code of the gate."""
    facts = gather(store, limits, maker(process.redis_url), show_keys=process.show_keys)
    say_not_named(process, store)
    return _write(process, facts)


def of_file(process: ProcessConfig, path: str, only: str = "") -> int:
    """Report the facts that `report --format json` wrote; the exit code that the gate had then.

    only: of many migrations the one that was asked for.
    """
    kept = read_facts(Path(path))
    if isinstance(kept, Cover) and only:
        kept = _one_of(kept, only, path)
    return write_cover(process, kept) if isinstance(kept, Cover) else _write(process, kept)


def _one_of(kept: Cover, only: str, path: str) -> Facts:
    chapter = kept.migrations.get(only)
    if chapter is None:
        known = ", ".join(kept.migrations)
        raise ConfigurationError(f"{path} holds no facts of migration {only}", f"it is of {known}")
    if chapter.facts is None:
        why = chapter.problem.words if chapter.problem else "nothing was kept of it"
        raise ConfigurationError(f"{only} could not be read when {path} was made: {why}")
    return chapter.facts


def read_facts(path: Path) -> Facts | Cover:
    """The facts of a file, of one migration or of many. Raises ConfigurationError where it holds others than
    its fingerprint says.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_FACTS_BYTES + 1)
        if len(content) > MOST_FACTS_BYTES:
            raise ConfigurationError(
                f"--facts {path} is larger than any facts are", "give what `report --format json` wrote"
            )
        kept = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        said = msgspec.json.decode(kept.pop("sha256"), type=str)
        plain = {name: msgspec.json.decode(one) for name, one in kept.items()}
        facts, again = _decoded(plain)
        plain = plain if isinstance(facts, Cover) else plain["facts"]
    except OSError as error:
        raise ConfigurationError(f"--facts {path}: {error.strerror}") from error
    except (KeyError, msgspec.DecodeError) as error:
        raise ConfigurationError(
            f"{path} holds no facts of form {FORM}", "give what `report --format json` wrote"
        ) from error
    found = fingerprint(plain)
    if found != said or facts.form != FORM:
        raise ConfigurationError(
            f"{path} was changed: the SHA-256 of its facts is {found}, not {said}", "take the original"
        )
    if fingerprint(again) != said:  # what this version does not know, or misses, would change it
        raise ConfigurationError(f"{path} was kept by another version", "report it with that one")
    return facts


def _decoded(plain: dict[str, Any]) -> tuple[Facts | Cover, dict[str, Any]]:
    """What was kept, and how this version would keep it."""
    if "migrations" in plain:
        cover = msgspec.convert(plain, Cover)
        return cover, cover_object(cover)
    facts = msgspec.convert(plain["facts"], Facts)
    return facts, facts_object(facts)


def _write(process: ProcessConfig, facts: Facts) -> int:
    return _put(process, _rendered(_form(process), facts), facts.result)


def write_cover(process: ProcessConfig, made: Cover) -> int:
    """Report many migrations; the exit code of the gate."""
    return _put(process, _rendered_cover(_form(process), made), made.result)


def _form(process: ProcessConfig) -> str:
    return "json" if process.json else process.format


def _put(process: ProcessConfig, text: str, result: Result) -> int:
    if process.output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        _replace(Path(process.output), text)
    return GATE_EXIT[result]


def _rendered(form: str, facts: Facts) -> str:
    if form == "html":
        from pipeline.report import html

        return html.page(facts)
    return report_text.as_json(facts) if form == "json" else report_text.as_text(facts)


def _rendered_cover(form: str, made: Cover) -> str:
    if form == "html":
        from pipeline.report import html

        return html.cover_page(made)
    return overview_text.cover_json(made) if form == "json" else overview_text.cover_text(made)


def _replace(path: Path, text: str) -> None:
    """The whole file or the old one: a report that breaks off in the middle is none."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"--output {path}: {error.strerror}", "give a file that can be written"
        ) from error

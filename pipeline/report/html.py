"""The facts as one page of HTML that needs nothing else: no script, no request; light, dark, printed.

Reads: facts, the page's files. Writes: nothing; callers print or serve. Never: the store. Every text is
escaped by Jinja; names from outside are isolated, so that they cannot turn the direction of what stands
around them.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from pipeline.core.model import MILESTONES
from pipeline.core.quoting import printable
from pipeline.core.samples import Sample, thinned
from pipeline.core.statistics import LAG_BUCKETS_SECONDS, at_most_text, share_text
from pipeline.report import charts
from pipeline.report.charts import Bounds, Line
from pipeline.report.cost_text import cost_sentence
from pipeline.report.cover import Chapter, Cover, cover_object
from pipeline.report.facts import Facts, Maker, facts_object, failing, fingerprint
from pipeline.report.overview_text import not_named_words
from pipeline.report.standing import Standing, counted, measured, whole_answer, worst_first
from pipeline.report.text import ANSWERS, STRATA_SAID, outlook_lines
from pipeline.report.words import instant, many, minute, span

#: How often the live page is loaded again.
REFRESH_SECONDS = 30
#: Of all the lines of a kind on a page, so many points at most; of one of them at least so many.
POINTS, LEAST_POINTS = 3_000, 150


def page(facts: Facts, *, live: bool = False, refreshed: bool = True, path: str = "/") -> str:
    """The whole page. live: served by the monitor at `path`. refreshed: it is loaded again by itself."""
    return _template("page.html").render(
        facts=facts,
        answer=ANSWERS[facts.result],
        sections=_sections(facts),
        sha256=fingerprint(facts_object(facts)),
        path=path,
        json=f"{path.rstrip('/')}/report.json",
        **_frame(live=live, refreshed=refreshed),
    )


def cover_page(cover: Cover) -> str:
    """The report of many: the cover, and below it each one whole."""
    standings = cover.standings
    ranked = worst_first(standings)
    names = {one.migration: f"m{number}" for number, one in enumerate(ranked, start=1)}
    return _template("cover.html").render(
        result=cover.result,
        at_ms=cover.at_ms,
        maker=cover.maker,
        standings=[(one, f"#{names[one.migration]}") for one in ranked],
        parts=[
            _part(one, cover.migrations[one.migration], names[one.migration], len(ranked)) for one in ranked
        ],
        sha256=fingerprint(cover_object(cover)),
        answer=ANSWERS[cover.result],
        counted=counted(standings),
        not_named=not_named_words(cover.not_named) if cover.not_named else "",
        **_frame(live=False, refreshed=False),
    )


def overview_page(
    standings: Sequence[Standing],
    at_ms: int | None,
    maker: Maker,
    links: Mapping[str, str],
    not_named: Sequence[str] = (),
    *,
    refreshed: bool,
) -> str:
    """The live page of many: a line each, which leads to its own page. not_named: as in a cover."""
    result = whole_answer(standings)
    return _template("cover.html").render(
        result=result,
        at_ms=at_ms,
        maker=maker,
        standings=[(one, links[one.migration]) for one in worst_first(standings)],
        parts=[],
        sha256="",
        answer=ANSWERS[result],
        counted=counted(standings),
        not_named=not_named_words(not_named) if not_named else "",
        **_frame(live=True, refreshed=refreshed),
    )


def _frame(*, live: bool, refreshed: bool) -> dict[str, Any]:
    """What every page has around it."""
    return {
        "css": Markup(_style()),  # noqa: S704 - a file of ours
        "policy": content_policy(framed=False),
        "live": live,
        "refreshed": refreshed,
        "every": REFRESH_SECONDS,
    }


def _part(standing: Standing, chapter: Chapter, at: str, among: int) -> dict[str, Any]:
    """One migration among so many. at: the name of its place in the page."""
    facts, points = chapter.facts, max(LEAST_POINTS, POINTS // among)
    return {
        "at": at,
        "standing": standing,
        "facts": facts,
        "sha256": chapter.sha256,
        "sections": facts
        and _sections(
            facts, at=f"{at}-", level=3, within=f"{at}-title ", of=standing.migration, points=points
        ),
    }


def _sections(
    facts: Facts,
    *,
    at: str = "",
    level: int = 2,
    within: str = "",
    of: str = "",
    points: int = POINTS,
) -> Markup:
    """Everything but the answer. at: what the names of places begin with, within: the heading that stands
    above, of: whose they are; where the page has several of them. points: of a line at most.
    """
    made = _template("report.html").render(
        facts=facts,
        at=at,
        level=level,
        within=within,
        of=f" of {of}" if of else "",
        failing=failing(facts.checks),
        strata=list(zip(STRATA_SAID, facts.strata, strict=True)),
        outlook=outlook_lines(facts),
        milestones=[(name, MILESTONES[name], facts.marks_ms.get(name)) for name in MILESTONES],
        timeline=_timeline(facts, thinned(facts.samples, points)),
        lags=charts.bars("Replication lag of the last minutes", _lags(facts)),
        limits=msgspec.to_builtins(facts.limits).items(),
        cost=cost_sentence(facts.cost) if facts.cost else "",
    )
    return Markup(made)  # noqa: S704 - a template of ours, which has escaped


def content_policy(*, framed: bool = True) -> str:
    """The content security policy: the page's own style, and nothing else.

    framed: with what only a header may say.
    """
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'"
    policy += "; form-action 'none'"
    return f"{policy}; frame-ancestors 'none'" if framed else policy


def _timeline(facts: Facts, samples: Sequence[Sample]) -> list[tuple[str, Markup]]:
    """What each chart shows, and the chart."""
    marks = facts.marks_ms
    at_ms = [one.at_ms for one in samples]
    right = [None if one.wrong is None else 100 * (1 - one.wrong) for one in samples]
    at_least = [None if one.unseen is None else 100 * (1 - one.unseen) for one in samples]
    least = min((one for one in (*right, *at_least) if one is not None), default=0)

    def chart(title: str, unit: str, *lines: Line, bounds: Bounds = (0, 0)) -> tuple[str, Markup]:
        return title, charts.over_time(title, at_ms, lines, unit, marks, bounds)

    return [
        chart(
            "Right keys, of those that changed (solid), and at least so many with 95 % confidence (dashed)",
            "%",
            Line("right keys", right),
            Line("at least", at_least),
            bounds=(next(bottom for bottom in (99.9, 99, 90, 0) if bottom <= least), 100),
        ),
        chart("Open findings", "keys", Line("open findings", [one.open for one in samples])),
        chart(
            "Replication lag: half of the changes (solid), 99 % of them (dashed)",
            "s",
            Line("half", [one.lag_p50 for one in samples]),
            Line("99 %", [one.lag_p99 for one in samples]),
        ),
        chart("Age of the oldest unread change", "s", Line("reader lag", [one.reader for one in samples])),
        chart("Keys compared, of those that changed", "keys", Line("keys", [one.keys for one in samples])),
        chart(
            "Progress of the whole table's comparison",
            "%",
            Line("segments", [None if one.compared is None else 100 * one.compared for one in samples]),
            bounds=(0, 100),
        ),
        (
            "Dollars spent on reading, by the hour",
            charts.over_time(
                "Dollars spent on reading, by the hour",
                [one.at_ms for one in facts.cost_by_hour],
                [Line("dollars", [one.dollars for one in facts.cost_by_hour])],
                "$",
                marks,
                (0, 0),
            ),
        ),
    ]


def _lags(facts: Facts) -> dict[str, int]:
    """From the first bucket that holds something to the last."""
    labels = [f"≤ {bound:g} s" for bound in LAG_BUCKETS_SECONDS]
    named = list(zip([*labels, f"> {LAG_BUCKETS_SECONDS[-1]:g} s"], facts.lag_counts, strict=True))
    held = [number for number, (_, count) in enumerate(named) if count]
    return dict(named[held[0] : held[-1] + 1]) if held else {}


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "instant": instant,
        "minute": minute,
        "span": span,
        "share": share_text,
        "at_most": at_most_text,
        "many": many,
        "name": _name,
        "measured": measured,
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
    }
    return environment


def _template(name: str) -> jinja2.Template:
    return _environment().get_template(name)


def _name(text: object) -> Markup:
    """A text from outside: no control character, and its direction ends with it."""
    return Markup("<bdi>{}</bdi>").format(printable(str(text)))


@cache
def _style() -> str:
    return _file("report.css")


def _file(name: str) -> str:
    return resources.files("pipeline.report").joinpath("page", name).read_text(encoding="utf-8")

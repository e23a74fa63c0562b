"""Write the runbook as one HTML page with anchors: `python tools/runbook_html.py > docs/runbook.html`.

Reads: docs/runbook.md. Writes: stdout. Never: anything by hand; a test compares.

Prometheus serves it for the alerts' links, and Grafana for the dashboard's (docker-compose.yml).
"""

from html import escape
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

SOURCE = Path(__file__).parent.parent / "docs" / "runbook.md"
HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Runbook: DynamoDB migration</title>
<!-- Made by tools/runbook_html.py; edit docs/runbook.md instead. -->
<style>
body { font: 16px/1.5 sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; color: #222; }
pre { background: #f3f3f3; padding: .6rem; overflow-x: auto; }
code { font-size: .9em; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { border: 1px solid #bbb; padding: .2rem .5rem; text-align: left; }
nav { columns: 16rem; }
nav a { display: block; }
h2:target { background: #fff3bf; }
</style>
</head>
<body>
"""


def page() -> str:
    """The whole page."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(SOURCE.read_text(encoding="utf-8"))
    sections = []
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open" and opening.tag == "h2":
            opening.attrSet("id", inline.content.lower())
            sections.append(inline.content)
    first = next(n for n, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h2")
    links = "\n".join(f'<a href="#{escape(one.lower())}">{escape(one)}</a>' for one in sections)
    return (
        f"{HEAD}{_rendered(markdown, tokens[:first])}<nav>\n{links}\n</nav>\n"
        f"{_rendered(markdown, tokens[first:])}</body>\n</html>\n"
    )


def _rendered(markdown: MarkdownIt, tokens: list[Token]) -> str:
    return str(markdown.renderer.render(tokens, markdown.options, {}))


if __name__ == "__main__":
    print(page(), end="")

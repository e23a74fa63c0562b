"""Pages that are made from code are current."""

import re

from tests.servers import ROOT
from tools import configuration_doc, runbook_html


def test_the_configuration_page_is_what_make_docs_writes() -> None:
    assert (ROOT / "docs/configuration.md").read_text() == configuration_doc.page(), "run `make docs`"


def test_the_runbook_s_page_is_what_make_docs_writes_with_an_anchor_for_every_section() -> None:
    text = (ROOT / "docs/runbook.html").read_text(encoding="utf-8")
    assert text == runbook_html.page(), "run `make docs`"
    for heading in re.findall(r"(?m)^## (\w+)", (ROOT / "docs/runbook.md").read_text(encoding="utf-8")):
        assert f'<h2 id="{heading.lower()}">' in text

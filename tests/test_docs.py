"""Pages that are made from code are current."""

from tests.servers import ROOT
from tools import configuration_doc


def test_the_configuration_page_is_what_make_docs_writes() -> None:
    assert (ROOT / "docs/configuration.md").read_text() == configuration_doc.page(), "run `make docs`"

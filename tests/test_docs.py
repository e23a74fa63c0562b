"""Pages that are made from code are current."""

from pipeline import option_page
from tests.servers import ROOT


def test_the_configuration_page_is_what_make_docs_writes() -> None:
    assert (ROOT / "docs/configuration.md").read_text() == option_page.page(), "run `make docs`"

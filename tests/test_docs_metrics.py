"""docs/metrics.md is what the declarations say."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_metrics_page_is_up_to_date() -> None:
    made = subprocess.run(
        [sys.executable, "tools/metrics_doc.py"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert (ROOT / "docs" / "metrics.md").read_text() == made, (
        "run: python tools/metrics_doc.py > docs/metrics.md"
    )

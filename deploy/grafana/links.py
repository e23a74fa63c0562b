"""Write the dashboard's panels into the links of alerts and their tests: `python -m deploy.grafana.links`.

Reads: the dashboard (generate.py), two files each of deploy/prometheus/{rules,tests}. Writes: these files.
Never: anything in them but the number after `viewPanel=`.

A link names its panel by title, in the comment above it; the number is that of the dashboard as it is now:

    # Panel: Open findings by kind
    dashboard_url: "{{ $externalLabels.grafana }}/d/ddbmm-cutover?viewPanel=13"
"""

import re
from pathlib import Path

from deploy.grafana.generate import build

PROMETHEUS = Path(__file__).parent.parent / "prometheus"
FILES = tuple(PROMETHEUS / kind / name for kind in ("rules", "tests") for name in ("alerts.yml", "pager.yml"))
_LINK = re.compile(r"(# Panel: (.+)\n +dashboard_url: .+?\?viewPanel=)\d+")


def panel_ids() -> dict[str, int]:
    """The identifier of every panel, by its title."""
    panels = [each for top in build().panels or [] for each in (top, *getattr(top, "panels", ()))]
    return {str(panel.title): int(panel.id_val or 0) for panel in panels if panel.type_val != "row"}


def linked(text: str) -> str:
    """The text with every link's number as it is now. Raises KeyError for a title that no panel has."""
    ids = panel_ids()
    return _LINK.sub(lambda found: f"{found[1]}{ids[found[2]]}", text)


if __name__ == "__main__":
    for file in FILES:
        file.write_text(linked(file.read_text(encoding="utf-8")), encoding="utf-8")

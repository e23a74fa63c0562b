"""Whether Alertmanager's configuration names anybody who is told when something is critical.

Reads: that file. Writes: nothing. What a receiver's settings hold, which may be secret, is not looked at.
"""

from pathlib import Path
from typing import Any

import yaml

#: The receiver that deploy/alertmanager/alertmanager.yml gives what is critical.
PAGE = "page"
#: A file of this size is none of Alertmanager's.
MOST_BYTES = 1_000_000


def untold(path: Path) -> str:
    """Why nobody would be told, in words; "" = somebody would."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            return f"{path} is too large for a configuration of Alertmanager"
        made = yaml.safe_load(content.decode("utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:  # ValueError: no UTF-8, 2026-99-99
        return f"{path} cannot be read ({type(error).__name__})"
    receivers = _receivers(made)
    if receivers is None:
        return f"{path} is no configuration of Alertmanager"
    name = PAGE if PAGE in receivers else _default(made)
    if not any(
        settings for key, settings in receivers.get(name, {}).items() if str(key).endswith("_configs")
    ):
        return f"the receiver {name!r} of {path} has no way to reach anybody"
    return ""


def _receivers(made: Any) -> dict[str, dict[str, Any]] | None:
    """The receivers by name; None where there are none."""
    listed = made.get("receivers") if isinstance(made, dict) else None
    if not isinstance(listed, list):
        return None
    return {str(one.get("name")): one for one in listed if isinstance(one, dict)}


def _default(made: dict[str, Any]) -> str:
    route = made.get("route")
    return str(route.get("receiver")) if isinstance(route, dict) else ""

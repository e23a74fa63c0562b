"""Profiles whose credentials need somebody at a keyboard: a service has nobody.

Reads: AWS configuration through botocore. Writes: nothing. Never: sockets. Nothing is asked of a person.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.aws.errors import NeedsCode

_BY_ROLE = "assume-role"  # botocore's name of the source that asks for codes


def refuse(session: Any, profile: str | None) -> None:
    """Raises NeedsCode for a botocore session that would ask for an MFA code at its first request.

    botocore would read it from the terminal, once for every process and side, and fail without one.
    """
    profiles: Mapping[str, Mapping[str, object]] = session.full_config.get("profiles", {})
    asking = list(_chain(profiles, profile or session.profile or "default"))
    # Made without a request; other sources, such as the environment, may come first.
    if asking and getattr(session.get_credentials(), "method", "") == _BY_ROLE:
        raise NeedsCode(error_msg=f"profile {asking[0]} asks for an MFA code, and nobody answers a service")


def _chain(profiles: Mapping[str, Mapping[str, object]], name: object) -> Iterator[object]:
    """The profiles that take a role with a code, from `name` on along their sources."""
    seen = set()
    while name in profiles and name not in seen:
        seen.add(name)
        one = profiles[str(name)]
        if "mfa_serial" in one and "role_arn" in one:
            yield name
        name = one.get("source_profile")

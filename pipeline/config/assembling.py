"""The configurations, put together from the options' values.

Reads: values that the parser has made. Writes: nothing. Never: AWS, the store, files, the environment.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipeline.config.declaration import Option, options_of
from pipeline.config.options import MigrationConfig
from pipeline.core.model import Side, SideConfig

#: Which part of an ARN is the region.
_REGION_IN_ARN = 3


def plain(config: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a configuration that hold one option each."""
    return {option.field: _value(option, values) for option in options_of(config) if "." not in option.field}


def _value(option: Option, values: Mapping[str, Any]) -> Any:
    value = values[option.field]
    if value is None:
        return option.unset
    return tuple(value) if option.repeats else value


def migration_of(values: Mapping[str, Any], name: str = "") -> MigrationConfig:
    """The migration that the values tell of. name: as its entry in the file calls it, if it has one."""
    given = MigrationConfig(**plain(MigrationConfig, values))
    if name:
        given = dataclasses.replace(given, name=name, target_table=given.target_table or name)
    source = _side("source", given.region, given.source_table, values)
    target = _side("target", given.region, given.target_table, values)
    origin = source if given.origin is Side.SOURCE else target
    return dataclasses.replace(
        given,
        name=given.name or _name_in(given.target_table),
        source_table=given.source_table or _name_in(given.target_table),
        source=source,
        target=target,
        stream=_stream_side(origin, given.stream_arn, values),
    )


def _name_in(table: str) -> str:
    """Of a table's name or its ARN, the name."""
    return table.rpartition("/")[2]


def _region_in(arn: str | None, endpoint_url: str | None) -> str | None:
    """The region that an ARN names; None for a name, and where somebody else than AWS answers: an emulator
    may write any region into its ARNs, and keeps its tables by the one that signs.
    """
    parts = (arn or "").split(":")
    if len(parts) <= _REGION_IN_ARN or parts[0] != "arn":
        return None
    region = parts[_REGION_IN_ARN]
    return region if endpoint_url is None or f".{region}." in endpoint_url else None


def _side(side: str, region: str | None, table: str, values: Mapping[str, Any]) -> SideConfig:
    prefix = f"{side}."
    own = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    own["region"] = own["region"] or region or _region_in(table, own["endpoint_url"])
    return SideConfig(side, **own)


def _stream_side(origin: SideConfig, arn: str | None, values: Mapping[str, Any]) -> SideConfig:
    """The origin's access, but for what was given; a profile of its own reads without the origin's role."""
    profile = values["stream.profile"]
    endpoint_url = values["stream.endpoint_url"] or origin.endpoint_url
    region = _region_in(arn, endpoint_url) or origin.region
    if profile:
        return SideConfig("stream", profile, region, endpoint_url)
    return dataclasses.replace(origin, side="stream", region=region, endpoint_url=endpoint_url)

"""What an option is, and how one is declared: on the field that holds its value.

Reads: nothing. Writes: nothing. Never: the environment, files. What was given is read by `load`.

    workers: int = option(PACE, "workers", "validator processes", whole(1, 256), "2", metavar="N")

is the field's type (mypy holds the parser to it), its default, the flag, the variable, the line of the YAML
file and the row in docs/configuration.md, all from one place.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.config.parsers import aws_name, duration_ms, duration_or_auto, endpoint
from pipeline.core.model import SideConfig

Value = TypeVar("Value")
_OPTIONS = "options"


@dataclass(frozen=True)
class Option:
    """One option: `--name` on the command line, `DDBMM_NAME` in the environment, `name:` in the YAML file.

    group: its heading in the help. default: as an operator would write it; None when there is none, then
    `unset` is the value and `otherwise` says what happens. parse None: a switch. field: where the value is
    held, `side.name` for a side's.
    """

    group: str
    name: str
    help: str
    parse: Callable[[str], object] | None
    default: str | None = None
    unset: object = None
    otherwise: str = ""
    metavar: str = "NAME"
    repeats: bool = False
    secret: bool = False
    field: str = ""

    @property
    def flag(self) -> str:
        return f"--{self.name}"

    @property
    def is_duration(self) -> bool:
        return self.parse in (duration_ms, duration_or_auto)

    @property
    def variable(self) -> str:
        return "DDBMM_" + self.name.upper().replace("-", "_")


def option(
    group: str, name: str, text: str, parse: Callable[[str], Value], default: str, *, metavar: str
) -> Value:
    """A field with a default, written as an operator would and read by the option's own parser."""
    return _field(parse(default), Option(group, name, text, parse, default, metavar=metavar))


def optional(
    group: str,
    name: str,
    text: str,
    parse: Callable[[str], Value],
    unset: Value,
    *,
    otherwise: str = "",
    metavar: str = "NAME",
    secret: bool = False,
) -> Value:
    """A field that may stay without a value: it is `unset` then. otherwise: what happens, in words."""
    made = Option(group, name, text, parse, unset=unset, otherwise=otherwise, metavar=metavar, secret=secret)
    return _field(unset, made, shown=not secret)


def repeated(group: str, name: str, text: str, *, otherwise: str) -> tuple[str, ...]:
    """A field that is given any number of times. otherwise: what happens when it is not given at all."""
    made = Option(group, name, text, aws_name, unset=(), otherwise=otherwise, repeats=True)
    return _field((), made)


def switch(group: str, name: str, text: str) -> bool:
    """A field that is off until its flag stands there."""
    return _field(False, Option(group, name, text, None, unset=False))


def side(group: str, name: str) -> SideConfig:
    """A field for the access to one table; all its options may stay without a value."""

    def one(of: str, text: str, otherwise: str, metavar: str, **more: Any) -> Option:
        parse = more.pop("parse", aws_name)
        flag = f"{name}-{of.replace('_', '-')}"
        return Option(group, flag, text, parse, otherwise=otherwise, metavar=metavar, field=of, **more)

    return _field(
        SideConfig(name),
        one("profile", f"AWS profile for the {name}", "the standard AWS credential chain", "NAME"),
        one("region", f"AWS region of the {name}", "`--region`", "REGION"),
        one(
            "endpoint_url",
            f"URL of the {name}'s DynamoDB, for emulators and private endpoints",
            "AWS's own",
            "URL",
            parse=endpoint,
        ),
        one("role_arn", f"role to assume for the {name}", "none", "ARN"),
        one("external_id", "external id for that role", "none", "ID", secret=True),
    )


def stream_side(group: str) -> SideConfig:
    """A field for the access to the stream: what is not given is the access to the stream's table."""
    otherwise = "that of the stream's table"
    return _field(
        SideConfig("stream"),
        Option(
            group,
            "stream-profile",
            "AWS profile for the stream",
            aws_name,
            otherwise=otherwise,
            field="profile",
        ),
        Option(
            group,
            "stream-endpoint-url",
            "URL of the stream's endpoint",
            endpoint,
            otherwise=otherwise,
            metavar="URL",
            field="endpoint_url",
        ),
    )


def _field(default: Value, *options: Option, shown: bool = True) -> Value:
    """A dataclass's field, for mypy a plain value. shown: in its repr."""
    made: Any = dataclasses.field(default=default, repr=shown, metadata={_OPTIONS: options})
    return made  # type: ignore[no-any-return]


def options_of(config: type) -> Iterator[Option]:
    """Every option that is declared on the fields of a dataclass, each with its field's name."""
    for one in dataclasses.fields(config):
        for declared in one.metadata.get(_OPTIONS, ()):
            path = f"{one.name}.{declared.field}" if declared.field else one.name
            yield dataclasses.replace(declared, field=path)

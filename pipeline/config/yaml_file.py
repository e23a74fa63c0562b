"""The YAML file of `--config`: option names, their values and the lines they stand in.

Reads: the file. Writes: nothing. Never: AWS, the store. Only what an options file needs is accepted: one
mapping, each name once, no aliases, nothing deep or large. No message repeats a line of the file, which may
hold a password.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.quoting import masked, quoted
from pipeline.errors import ConfigurationError

#: A file of options takes a few KB; this much is read of anything else.
MAX_BYTES = 1_000_000
MAX_DEPTH = 16
#: YAML 1.1's way to take over another mapping.
_MERGE = "<<"


@dataclass(frozen=True)
class Entry:
    """A value and its line (1 = the first): a text, a list, or a mapping of names to entries."""

    value: Any
    line: int


def read(path: Path) -> dict[str, Entry]:
    """What the file says, by name. Raises ConfigurationError, which names the file and the line."""
    text = _text(path)
    try:
        _check_shape(path, text)
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ConfigurationError(
            f"{path} is not valid YAML{at}",
            "indent with blanks, not tabs; put a value that holds : # or other signs in quotes",
        ) from None  # PyYAML's text quotes the line
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(
            f"{path} is not a list of options",
            "write one `name: value` on each line, as in `sample-rate: 10`",
        )
    return dict(_entries(path, root))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"--config {path}: {error.strerror}", "give the path of a YAML file"
        ) from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not valid YAML: it is no text in UTF-8") from None
    if len(content) > MAX_BYTES:
        raise ConfigurationError(f"{path} is too large for a file of options", "give the path of a YAML file")
    return text


def _check_shape(path: Path, text: str) -> None:
    """Raises ConfigurationError for what would take a deep stack or much memory to build."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise ConfigurationError(
                f"{path}, line {line}: aliases (*name) are not understood",
                "write the value out; put one that begins with * in quotes",
            )
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            raise ConfigurationError(
                f"{path}, line {line}: a second document begins, which nobody would read",
                "leave `---` out, or make it a file of its own",
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ConfigurationError(
                f"{path}, line {line}: nested too deep for options", "write one `name: value` on each line"
            )


def _entries(path: Path, mapping: yaml.MappingNode) -> Iterator[tuple[str, Entry]]:
    lines: dict[str, int] = {}
    for name, node in mapping.value:
        line = name.start_mark.line + 1
        key = name.value if isinstance(name, yaml.ScalarNode) else ""
        if not key:
            raise ConfigurationError(f"{path}, line {line}: an option without a name")
        if key == _MERGE and name.style is None:
            raise ConfigurationError(
                f"{path}, line {line}: merge keys (<<) are not understood",
                "write the options out; what holds for all migrations stands outside `migrations:`",
            )
        if key in lines:
            raise ConfigurationError(
                f"{path}, line {line}: {quoted(masked(key), 60)} stands there twice",
                f"keep this one or that in line {lines[key]}",
            )
        lines[key] = line
        yield key, Entry(_value(path, node), line)


def _value(path: Path, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_value(path, one) for one in node.value]
    if isinstance(node, yaml.MappingNode):
        return dict(_entries(path, node))
    return node.value

"""What was given in vain, or says something else than it seems to: refused with its place and a suggestion.

Reads: the environment's names and values, words of the command line. Writes: nothing. Never: AWS, the store.
No message repeats a value that may be a secret.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise

from pipeline.config.declaration import Option
from pipeline.core.quoting import quoted
from pipeline.errors import UsageError

#: What else is named so: variables of docker-compose.yml and deploy/hosts, which a shell may hold as well.
DEPLOYMENT = frozenset(
    f"DDBMM_{name}"
    for name in (
        *("CONFIG", "CONFIG_FILE", "UID", "GID", "VERSION", "REVISION"),
        *("VALIDATORS", "COMPARERS", "HOST_ADDRESS"),
    )
)
#: Kubernetes sets these in every container for a service whose name begins with `ddbmm`.
_SERVICE_LINK = re.compile(r"DDBMM\w*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?|PORT)")
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://")
_QUOTES = ("'", '"')
#: Below this likeness a name is no misspelling.
_ALIKE = 0.6
SWITCH_WORDS = frozenset({"true", "yes", "on", "1", "false", "no", "off", "0"})
_WORD = re.compile(r"[a-z][a-z-]{0,30}")


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """The known name that is most like this one, as a question; `otherwise` where none is."""
    near = get_close_matches(name, list(known), n=1, cutoff=_ALIKE)
    return f"did you mean {near[0]}?" if near else otherwise


def check_environment(environment: Mapping[str, str], options: Sequence[Option]) -> None:
    """Raises UsageError for a variable of ours that names no option, and for a value that cannot be meant."""
    by_variable = {option.variable: option for option in options}
    for name, value in environment.items():
        if not value or not name.upper().startswith("DDBM") or name in DEPLOYMENT:
            continue
        option = by_variable.get(name)
        if option is not None:
            _check_value(name, value, option)
        elif not _SERVICE_LINK.fullmatch(name):
            raise UsageError(
                f"{quoted(name, 60)} is set in the environment, and there is no such option",
                did_you_mean(name.upper(), by_variable, "unset it; --help lists the options"),
            )


def _check_value(name: str, value: str, option: Option) -> None:
    if _LINK_VALUE.match(value) and _SERVICE_LINK.fullmatch(name):
        raise UsageError(
            f"{name} in the environment is an address that Kubernetes made of a service's name",
            "set enableServiceLinks: false in the pod, or name the service otherwise",
        )
    if len(value) > 1 and value[0] == value[-1] and value[0] in _QUOTES:
        raise UsageError(
            f"the value of {name} in the environment stands in quotes, which belong to it",
            "leave the quotes out (docker's --env-file and systemd's EnvironmentFile= differ in this)",
        )
    if option.parse is None and value.lower() not in SWITCH_WORDS:
        raise UsageError(f"{name} in the environment is neither true nor false", "write true or false")
    if option.repeats and "," in value and not (value.startswith("[") and value.endswith("]")):
        raise UsageError(f"{name} in the environment holds a comma", listing(option))


def check_words(words: Sequence[str], options: Sequence[Option]) -> None:
    """Raises UsageError for a flag that is to be repeated and was given a list."""
    for option in options:
        if not option.repeats:
            continue
        given = [after for before, after in pairwise(words) if before == option.flag]
        given += [word for word in words if word.startswith(f"{option.flag}=")]
        if any("," in value for value in given):
            raise UsageError(f"{option.flag} holds a comma", listing(option))


def listing(option: Option) -> str:
    """How a list is written in each place."""
    return (
        f"write a list as [a, b] in {option.variable} or in YAML, or give {option.flag} once for each; "
        "a name that holds a comma goes into a YAML list, in quotes"
    )


def refuse_words(unknown: Sequence[str], options: Sequence[Option], commands: Iterable[str]) -> None:
    """Raises UsageError for what the command line says in vain; only flags are repeated, never a value."""
    flags = [quoted(word.partition("=")[0], 40) for word in unknown if word.startswith("-")]
    if unknown[0] in commands:
        raise UsageError(f"not understood: {unknown[0]}", f"the command {unknown[0]!r} comes first")
    if not flags:
        raise UsageError("not understood: a value without an option before it", "see --help")
    hint = did_you_mean(flags[0], [*(option.flag for option in options), "--config"], "see --help")
    raise UsageError(f"not understood: {' '.join(flags)}", hint)


def refuse_command(word: str, commands: Sequence[str]) -> None:
    """Raises UsageError for a first word that is no command."""
    if not _WORD.fullmatch(word):
        raise UsageError(
            "the first word is neither a command nor an option", f"use one of {', '.join(commands)}"
        )
    hint = did_you_mean(word, commands, f"use one of {', '.join(commands)}")
    raise UsageError(f"there is no command {word!r}", hint)

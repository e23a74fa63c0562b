"""Writes docs/configuration.md from the option table; `make docs` runs it.

Reads: the options that `pipeline/config` declares, the exit codes. Writes: standard output.
"""

from pipeline.config.all_options import GROUPS
from pipeline.config.declaration import Option
from pipeline.config.words import COMMANDS
from pipeline.exit_codes import MEANINGS

_HEAD = """# Configuration

<!-- Made by `make docs` from pipeline/config/options.py and pipeline/exit_codes.py: change it there. -->

    dynamodb-migration-monitor [COMMAND] [OPTION …]

The command comes first; without one it is `run`.

| Command | What it does |
|---|---|
{commands}

An option comes from, in this order: the command line (`--sample-rate 10`), the environment
(`DDBMM_SAMPLE_RATE=10`), the YAML file named by `--config` or `DDBMM_CONFIG` (`sample-rate: 10`), the
default. A switch is `true` or `false` in the environment and in YAML. An option that may be repeated is a
list in YAML and `[a,b]` in the environment; a list on the command line replaces one from elsewhere. An empty
variable counts as not set. `dynamodb-migration-monitor config` shows every effective value and where it came
from, and masks secrets.

Refused, with the place (flag, variable, file and line) and, where one is near, the name that was probably
meant: a variable that begins with `DDBMM_` and names no option, a name that stands twice in the file, a value
in the environment that came with its quotes, a list written as one word. A word given twice on the command
line: the last one counts.

Durations are written as Prometheus does: `250ms`, `90s`, `5m`, `1h30m`. `demo`, `datagen` and `datadel` have
options of their own: `dynamodb-migration-monitor datagen --help`.
"""

_TAIL = """
## Exit codes

| Code | Meaning |
|---|---|
{codes}
"""


def page() -> str:
    """The whole page."""
    commands = "\n".join(f"| `{name}` | {text} |" for name, text in COMMANDS.items())
    sections = [_HEAD.format(commands=commands)]
    for heading, options in GROUPS.items():
        rows = "\n".join(map(_row, options))
        sections.append(f"\n## {heading}\n\n| Option | Default | What it does |\n|---|---|---|\n{rows}\n")
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in MEANINGS.items())
    return "".join([*sections, _TAIL.format(codes=codes)])


def _row(option: Option) -> str:
    if option.parse is None:
        return f"| `{option.flag}` | off | {option.help} |"
    default = f"`{option.default}`" if option.default else option.otherwise or "none: required"
    return f"| `{option.flag} {option.metavar}` | {default} | {option.help} |"


if __name__ == "__main__":
    print(page(), end="")

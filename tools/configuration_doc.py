"""Writes docs/configuration.md from the option table; `make docs` runs it.

Reads: the options that `pipeline/config` declares, the exit codes. Writes: standard output.
"""

from collections.abc import Iterable

from pipeline.config.all_options import GROUPS
from pipeline.config.declaration import Option, options_of
from pipeline.config.headings import COMMANDS
from pipeline.config.options import MigrationConfig
from pipeline.config.options_file import OF_ONE_TABLE
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

## Many migrations in one file

One set of processes, one Redis and one dashboard serve any number of tables:

```yaml
redis-url: redis://redis:6379/0        # everything outside `migrations:` holds for all
source-profile: old
target-profile: new
migrations:
  orders: {{}}                           # the name is the target table's, unless the entry says otherwise
  customers: {{source-table: customers_v1, sample-rate: 10}}
```

An entry's name is its migration's: the state, the metrics and `--migration NAME`, which narrows any command
to one, go by it. Precedence: command line, environment, the entry, the rest of the file, default; a list in
an entry replaces that of the rest. An entry may hold

{entry}.

Every other option is the process's and stands outside. What one migration has alone ({of_one_table})
stands in entries only, and goes with `--migration` on the command line. Two entries on the same two tables
are refused, and so is an entry's option without a value. A changed file is read at the next start; an entry
that is taken out leaves its state where it is, and `gate` and `report` name it.

`doctor --tables 'prod-*'` pairs the tables of both accounts by name and checks each pair;
`config --write FILE --tables 'prod-*'` makes the file of them (`deploy/iam/list-tables.json`).
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
    own = [option.name for option in options_of(MigrationConfig) if option.name != "migration"]
    sections = [_HEAD.format(commands=commands, entry=_names(own), of_one_table=_names(OF_ONE_TABLE))]
    for heading, options in GROUPS.items():
        rows = "\n".join(map(_row, options))
        sections.append(f"\n## {heading}\n\n| Option | Default | What it does |\n|---|---|---|\n{rows}\n")
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in MEANINGS.items())
    return "".join([*sections, _TAIL.format(codes=codes)])


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _row(option: Option) -> str:
    if option.parse is None:
        return f"| `{option.flag}` | off | {option.help} |"
    default = f"`{option.default}`" if option.default else option.otherwise or "none: required"
    return f"| `{option.flag} {option.metavar}` | {default} | {option.help} |"


if __name__ == "__main__":
    print(page(), end="")

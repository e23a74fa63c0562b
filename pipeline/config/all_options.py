"""Every option in the order of the help, from the fields that they are declared on.

Reads: nothing. Writes: nothing. Never: the environment, files.
"""

from collections.abc import Sequence

from pipeline.config.declaration import Option, options_of
from pipeline.config.headings import HEADINGS
from pipeline.config.options import MigrationConfig, ProcessConfig

#: Every option, by heading and as declared; a migration's before the process's.
OPTIONS: tuple[Option, ...] = tuple(
    one
    for heading in HEADINGS
    for config in (MigrationConfig, ProcessConfig)
    for one in options_of(config)
    if one.group == heading
)
#: Heading → its options, in the order of the help and of docs/configuration.md.
GROUPS: dict[str, Sequence[Option]] = {
    heading: [one for one in OPTIONS if one.group == heading]
    for heading in dict.fromkeys(one.group for one in OPTIONS)
}

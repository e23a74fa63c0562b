"""Python's garbage collector, set for a role that has started and now does the same thing over and over.

Reads and writes: the collector's own settings. The collector stays on, so that memory stays bounded (`make
soak`).
"""

import gc

#: Containers made and not yet freed before the young ones are looked at. Python's 700 are made twice by one
#: batch of decoded items.
YOUNG_OBJECTS = 10_000


def freeze() -> None:
    """Call once, when everything that lasts is made: it is then never gone through again.

    Going through boto3 and its models each time new objects had piled up took a sixth of a validator's CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)

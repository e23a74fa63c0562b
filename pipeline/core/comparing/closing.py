"""Which gaps of the stream a comparison closes, once all that it suspects is answered.

Reads: settings. Writes: nothing. Never: I/O. The closing itself is `lua/compare_take.lua`'s.

A gap is a window in which changes of the stream's side were lost. It is closed by whatever has looked at
every key that changed in it: a comparison of the whole table that read what the table held after the window,
or an incremental export of the stream's side whose window holds the gap's. An export of the other side does
not: a change that never arrived there is not in it.
"""

import msgspec

from pipeline.core.comparing.partitions import Mode
from pipeline.core.comparing.state import EXPORT_FUZZ_MS, CompareSettings
from pipeline.core.model import Side


class Closes(msgspec.Struct, frozen=True):
    """Gaps that begin and end within are closed. to_ms: None = until it begins. by: who does, in words."""

    from_ms: int
    to_ms: int | None
    by: str


def closes(settings: CompareSettings, origin: Side, stream_percent: float) -> Closes | None:
    """origin: the side whose stream is read. stream_percent: of the keys that the stream's readers keep.

    None: no gap. A sample of the table may have passed over the keys of a gap.
    """
    if settings.mode is Mode.CHANGES:
        export = settings.export(origin)
        if export is None or export.from_ms is None or settings.sample_percent < stream_percent:
            return None
        by = f"incremental export {export.arn or export.location} of the {origin}"
        return Closes(export.from_ms + EXPORT_FUZZ_MS, export.vouches_from_ms, by)
    if not settings.whole:
        return None
    shown = [export.vouches_from_ms for export in settings.exports.values()]
    return Closes(0, min(shown) if shown else None, "comparison of the whole table")

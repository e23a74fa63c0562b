"""What the monitor writes: samples of the figures, of which a report draws how the migration went.

Reads and writes: `samples`. Never: judging.
"""

import msgspec

from pipeline.core.samples import TIERS_MS, Sample
from pipeline.store import scripts
from pipeline.store.figures_view import FiguresView


class SampleStore(FiguresView):
    """A migration's numbers, read only but for the samples of them."""

    def keep(self, sample: Sample) -> None:
        """Keep a sample and forget what is too old (lua/sample.lua); nothing before the migration began."""
        tiers = (number for tier in TIERS_MS for number in tier)
        self._connection.run(scripts.SAMPLE, (sample.at_ms, msgspec.json.encode(sample), *tiers))

"""What every process needs: an end tied to its parent, the collector, logs."""

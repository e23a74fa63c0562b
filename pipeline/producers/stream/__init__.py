"""The stream producer: discovery of shards, reading them, what a record becomes."""

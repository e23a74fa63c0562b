"""Exports to S3 as a source of a comparison: where they lie, what they say of themselves, what they hold."""

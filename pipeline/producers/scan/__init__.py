"""Scans as a source of a comparison: one segment of both tables, read in step and joined."""

"""Whole-table comparison, the pure part: pairs, the join by key, segments of a table, definitions."""

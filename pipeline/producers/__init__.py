"""Producers read one table's changes or items in order and hand them on as batches."""

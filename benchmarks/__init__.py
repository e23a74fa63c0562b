"""Measurements of what the monitor costs: CPU time against plain boto3 in the same run. See `__main__`."""

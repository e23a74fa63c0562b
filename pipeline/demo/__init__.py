"""The demo: the whole monitor on one machine, against planted faults; and the tools for test data.

Everything here plays the outside world (tables, writers, a replicator), so boto3 may be imported, unlike in
the rest of the package. The monitor itself runs as it does in earnest: as a process with a command line.
"""

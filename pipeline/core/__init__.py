"""The pure core: no clock, no I/O, no environment, no logging, no randomness."""

"""What the rows' queries have in common.

Reads: nothing. Writes: nothing. Never: which panel asks for what (see rows.py and machine_rows.py).
"""

RATE = "[$__rate_interval]"
SHARE_DECIMALS = 3


def rate(metric: str, by: str = "", select: str = "{m}") -> str:
    """The rate of a counter, summed over the processes that count it."""
    grouped = f"sum by ({by}) " if by else "sum"
    return f"{grouped}(rate({metric}{select}{RATE}))"


def store_rate(metric: str, by: str = "") -> str:
    """The rate of a counter that the monitor reads from Redis; a second monitor says the same once more.

    The ledger goes back when Redis is restored: `rate` would take that for a new beginning, and count it all.
    """
    grouped = f"max by ({by}) " if by else "max"
    return f"{grouped}(clamp_min(deriv({metric}{{m}}{RATE}), 0))"


def share(ratio: str) -> str:
    """A share of right keys, cut to the decimals that are shown (SHARE_DECIMALS of a percentage).

    Grafana rounds: 0.9999996 would read "100.000 %". 1e-9 is more than a product of floats lacks of the whole
    number that it should be.
    """
    return f"floor(1e5 * {ratio} + 1e-9) / 1e5"


def age(metric: str) -> str:
    """Seconds since the newest instant that a timestamp gauge holds; 0 means that it was never set."""
    return f"time() - max({metric}{{m}} > 0)"

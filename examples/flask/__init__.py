"""A shop with jobs, on Flask."""

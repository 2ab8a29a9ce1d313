"""A small real application on procrastinate, run with a worker killed on the way: `make demo`."""

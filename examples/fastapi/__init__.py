"""A shop with jobs, on FastAPI."""

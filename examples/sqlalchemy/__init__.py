"""A shop with jobs, on SQLAlchemy."""

"""A task queue for Python on PostgreSQL."""

__version__ = "4.0.0.dev0"

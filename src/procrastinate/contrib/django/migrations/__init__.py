"""Django's migrations of procrastinate."""

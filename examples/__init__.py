"""Programs to read from top to bottom, and to start from."""

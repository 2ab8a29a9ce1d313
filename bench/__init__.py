"""How fast jobs run, against the ceiling that the database sets: `make bench`."""

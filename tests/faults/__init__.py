"""The fault suite: real servers, real processes, real signals. `python -m faults` runs the long form."""

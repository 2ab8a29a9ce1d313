"""What the application and the program that shows it both know."""

from __future__ import annotations

DATABASE_VARIABLE = "DEMO_DATABASE_URL"
# Every so many jobs, one fails in its first attempt.
FAIL_EVERY = 40

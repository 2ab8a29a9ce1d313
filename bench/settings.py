"""What the benchmark and its worker process both know."""

from __future__ import annotations

DATABASE_VARIABLE = "BENCH_DATABASE_URL"

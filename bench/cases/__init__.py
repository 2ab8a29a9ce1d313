"""The cases, one module each."""

from __future__ import annotations

from bench.cases import (
    bulk,
    concurrency,
    deferring,
    drains,
    flatness,
    horizon,
    idle,
    latencies,
    memory,
    plans,
    process_counts,
    retention,
    scaling,
    startup,
    tricks,
    work,
)
from bench.measurement import Case

CASES: tuple[Case, ...] = (
    drains.Drains(),
    concurrency.Concurrency(),
    work.Work(),
    process_counts.ProcessCounts(),
    flatness.Flatness(),
    plans.Plans(),
    horizon.Horizon(),
    deferring.Deferring(),
    bulk.Bulk(),
    latencies.Latencies(),
    memory.Memory(),
    idle.Idle(),
    startup.Startup(),
    retention.Retention(),
    scaling.Scaling(),
    tricks.Tricks(),
)

"""Runs of the ceilings in `bare.py`, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from bench.measurement import Measurement, Miscount
from bench.processes import Load, Program, cpu_seconds
from bench.stand import ROOT, Database, Stand, insert_jobs


def python(
    stand: Stand,
    database: Database | None,
    module: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> Program:
    """Start a module of ours."""
    environment = {**({"BENCH_DATABASE_URL": database.url} if database else {}), **(environment or {})}
    command = [sys.executable, "-m", module, *arguments]
    return Program(command, environment, stand.logs / f"{module}.log", cwd=ROOT, **options)


def answer(program: Program, timeout: float = 600.0) -> dict[str, Any]:
    """Wait for a program's end, and return its last line."""
    try:
        output, _ = program.process.communicate(timeout=timeout)
    finally:
        program.stop()
    if program.process.returncode:
        raise RuntimeError(f"failed\n{program.tail()}")
    return json.loads(output.decode().splitlines()[-1])


def bare(stand: Stand, name: str, jobs: int) -> Measurement:
    """Run a ceiling in a fresh database."""
    is_drain = name in {"keep", "delete"}
    with stand.new_database("bench_bare") as database:
        if is_drain:
            insert_jobs(database, jobs)
            database.settle()
        counters, statements = database.counters(), database.statements
        load, server = Load.now(stand.server_pid), cpu_seconds(stand.server_pid)
        result = answer(python(stand, database, "bench.bare", name, str(jobs), stdout=subprocess.PIPE))
        server = cpu_seconds(stand.server_pid) - server
        foreign = Load.now(stand.server_pid).foreign_since(load)
        costs = database.counters().per_job(counters, jobs, database.statements - statements)
        done = database.value(
            f"select count(*) from procrastinate_jobs where status = '{'succeeded' if is_drain else 'todo'}'"
        )
        if done != (0 if name == "delete" else jobs):
            raise Miscount(f"bare {name}: {done} of {jobs} jobs are there")
        return Measurement(
            {
                "jobs": jobs,
                "seconds": result["seconds"],
                "rate": jobs / result["seconds"],
                "worker": result["cpu"] / jobs * 1e6,
                "server": server / jobs * 1e6,
                "foreign": foreign,
                **costs,
            }
        )


def ticks(stand: Stand, seconds: int) -> Measurement:
    """Claim once a second what is not there, for so many seconds, and nothing else."""
    load = Load.now(stand.server_pid)
    with stand.new_database("bench_bare") as database:
        result = answer(python(stand, database, "bench.bare", "tick", str(seconds), stdout=subprocess.PIPE))
    foreign = Load.now(stand.server_pid).foreign_since(load)
    return Measurement({"cpu": result["cpu"] / result["seconds"], "foreign": foreign})


def naps(stand: Stand, jobs: int, concurrency: int, wake_every: float = 0.0) -> Measurement:
    """Wait for a millisecond so many times, without a database, on a loop that is woken now and then, in seconds."""
    load = Load.now(stand.server_pid)
    program = python(
        stand, None, "bench.bare", "nap", str(jobs), str(concurrency), str(wake_every), stdout=subprocess.PIPE
    )
    result = answer(program)
    foreign = Load.now(stand.server_pid).foreign_since(load)
    return Measurement({"jobs": jobs, "rate": jobs / result["seconds"], **result, "foreign": foreign})

"""Databases that the other implementation made itself: its oldest version that can be taken over, and the newest.

Opt-in, since its package must be installed: `PROCRASTINATE_INCUMBENT=1 pytest tests/takeover/test_incumbent.py` puts it
into environments of its own, in `.cache/incumbent`, and runs it there. Nothing of it is read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

import procrastinate
from procrastinate import types
from takeover import support

pytestmark = [
    pytest.mark.skipif("PROCRASTINATE_INCUMBENT" not in os.environ, reason="needs PROCRASTINATE_INCUMBENT=1"),
    pytest.mark.timeout(600),
]

CACHE = Path(__file__).parents[2] / ".cache" / "incumbent"
PROGRAM = Path(__file__).parent / "incumbent_program.py"


@pytest.fixture(scope="session", params=["3.4.0", "3.10.0"])
def interpreter(request):
    """The Python of an environment that has this version."""
    folder = CACHE / request.param
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        packages = [f"procrastinate[django]=={request.param}", "psycopg[binary]", "django>=5.2,<5.3"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "ready").touch()
    return python


class Program:
    """Runs the user's program on a database."""

    def __init__(self, interpreter, conninfo):
        self.command = [interpreter, PROGRAM]
        self.environment = {**os.environ, "DSN": conninfo}
        # Our own package must not be found there.
        self.environment.pop("PYTHONPATH", None)

    def run(self, command):
        result = subprocess.run(
            [*self.command, command], env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert result.returncode == 0, result.stderr.strip().splitlines()[-1]
        return result.stdout

    def work_and_die(self):
        """Start a worker, and kill it as soon as its job runs."""
        with subprocess.Popen(
            [*self.command, "work"], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout.readline() == "running\n"
            process.kill()


@pytest.mark.parametrize("made_by", ["schema", "django"])
async def test_taken_over(interpreter, made_by, empty_database, connection):
    program = Program(interpreter, empty_database)
    program.run(made_by)
    found = json.loads(program.run("jobs"))
    program.work_and_die()
    with psycopg.connect(empty_database, autocommit=True) as old:
        # As if the time had gone by in which the killed worker might still be alive.
        old.execute("update procrastinate_workers set last_heartbeat = now() - interval '1 hour'")
        events = support.events(old)
        jobs = old.execute("select id, task_name, args, status::text, attempts from procrastinate_jobs order by id")
        before = jobs.fetchall()
        with support.opened(empty_database) as manager:
            assert manager.upgrade()
            assert manager.verify() == []
        assert support.catalog(old) == support.catalog(connection)
        assert support.events(old) == events
        jobs = old.execute("select id, task_name, args, status::text, attempts from procrastinate_jobs order by id")
        assert jobs.fetchall() == before
        found["deferred by the old program"] = int(program.run("defer"))

        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=empty_database))
        ran = []
        for name in ("add", "fails", "hangs", "flaky", "aborts"):

            @app.task(name=name, pass_context=True)
            async def task(context, **arguments):
                ran.append((context.job.id, arguments))

        async with app.open_async():
            retry_at = types.utcnow()
            for name in ("failed", "failed after retries", "retried by hand"):
                await app.job_manager.retry_job_by_id_async(found[name], retry_at=retry_at)
            while not {found["running"], found["behind the running"]} <= {job_id for job_id, _ in ran}:
                await app.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)
            names = {job_id: name for name, job_id in found.items()}
            order = [names[job_id] for job_id, _ in ran]
            expected = (
                "waiting, low, high, queueing lock, long queue, periodic, running, behind the running, failed, "
                "failed after retries, retried by hand, deferred by the old program"
            )
            assert sorted(order) == sorted(expected.split(", "))
            assert order.index("high") < order.index("low")
            assert order.index("running") < order.index("behind the running")
            assert (found["waiting"], {"x": "é"}) in ran
            # The tick of the periodic task is known: it is not deferred again, and the next one is.
            job = app.tasks["add"].configure(task_kwargs={"timestamp": 100}).job
            assert await app.job_manager.defer_periodic_job(job=job, periodic_id="p", defer_timestamp=100) is None
            await app.job_manager.cancel_job_by_id_async(found["scheduled"])
            await app.job_manager.delete_old_jobs(
                nb_hours=0, include_failed=True, include_cancelled=True, include_aborted=True
            )
        assert old.execute("select count(*) from procrastinate_jobs").fetchone() == (0,)

"""What a user may rely on when workers stop: numbers 25 to 27, with real processes and signals."""

from __future__ import annotations

import signal

import pytest

import procrastinate


def test_25_interrupted_worker_finishes_its_job(held, jobs_table):
    worker, job_id, gate = held("hold_async")
    worker.process.send_signal(signal.SIGINT)
    worker.wait_for("Stop requested")
    assert jobs_table.status(job_id) == "doing"
    gate.touch()
    assert worker.end() == 0, worker.stderr
    assert jobs_table.status(job_id) == "succeeded"


@pytest.mark.parametrize(("task", "status"), [("hold_async", "aborted"), ("hold_or_retry", "todo")])
def test_26_job_is_aborted_after_the_graceful_timeout(held, jobs_table, task, status):
    worker, job_id, _ = held(task, "--shutdown-graceful-timeout", "0.3")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0, worker.stderr
    assert jobs_table.status(job_id) == status
    assert jobs_table.column("attempts") == [1]


async def test_27_second_signal_kills_and_the_job_can_be_retried(held, jobs_table, database):
    worker, job_id, _ = held("hold")
    worker.process.send_signal(signal.SIGTERM)
    worker.wait_for("Stop requested")
    worker.process.send_signal(signal.SIGTERM)
    # What a shell shows as 143.
    assert worker.end() == -signal.SIGTERM, worker.stderr
    assert jobs_table.status(job_id) == "doing"
    jobs_table.connection.execute("delete from procrastinate_workers")
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database, min_size=1))
    async with app.open_async():
        [stalled] = await app.job_manager.get_stalled_jobs()
        assert stalled.id == int(job_id)
        await app.job_manager.retry_job(stalled)
        assert list(await app.job_manager.get_stalled_jobs()) == []
    assert jobs_table.status(job_id) == "todo"

"""How a worker process ends."""

from __future__ import annotations

import signal

import pytest

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
COLORS = pytest.mark.parametrize("task", ["hold", "hold_async"])


@BOTH
@COLORS
def test_first_signal_lets_the_job_finish(held, jobs_table, number, task):
    worker, job_id, gate = held(task)
    worker.process.send_signal(number)
    worker.wait_for("Stop requested")
    assert worker.process.poll() is None
    assert jobs_table.status(job_id) == "doing"
    gate.touch()
    assert worker.end() == 0, worker.stderr
    assert jobs_table.status(job_id) == "succeeded"
    assert jobs_table.connection.execute("select count(*) from procrastinate_workers").fetchone() == (0,)
    assert "Traceback" not in worker.stderr


@BOTH
@COLORS
def test_second_signal_ends_the_process_at_once(held, jobs_table, number, task):
    worker, job_id, _ = held(task)
    worker.process.send_signal(number)
    worker.wait_for("Stop requested")
    worker.process.send_signal(number)
    # A shell shows 128 plus the signal's number.
    assert worker.end(5) == -number, worker.stderr
    assert jobs_table.status(job_id) == "doing"


@BOTH
def test_idle_worker_ends(procrastinate_command, jobs_table, number):
    worker = procrastinate_command.start("worker")
    # That it runs a job shows that it is up.
    jobs_table.wait_for_status(procrastinate_command.run("defer", "add", "a=1", "b=2").stdout, "succeeded")
    worker.process.send_signal(number)
    assert worker.end() == 0, worker.stderr


def test_no_new_job_after_the_signal(held, procrastinate_command, jobs_table):
    worker, _, gate = held("hold_async", "--concurrency", "5")
    worker.process.send_signal(signal.SIGTERM)
    worker.wait_for("Stop requested")
    late = procrastinate_command.run("defer", "add", "a=1", "b=2").stdout
    gate.touch()
    assert worker.end() == 0
    assert jobs_table.status(late) == "todo"


def test_graceful_timeout(held, jobs_table):
    worker, job_id, _ = held("hold_async", "--shutdown-graceful-timeout", "0.3")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0, worker.stderr
    assert jobs_table.status(job_id) == "aborted"

"""`procrastinate worker --processes N`: several workers under one command."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from acceptance_tools import wait_until

pytestmark = pytest.mark.timeout(120)


def defer(commands, *words: str) -> str:
    result = commands.run("defer", *words)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def workers(table) -> set[int]:
    return {row[0] for row in table.connection.execute("select id from procrastinate_workers")}


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def stat(pid: int) -> list[str]:
    """What Linux says of a process, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def is_alive(pid: int) -> bool:
    try:
        return stat(pid)[0] != "Z"
    except FileNotFoundError:
        return False


def age(pid: int) -> float:
    """For how many seconds a process has been running."""
    started = int(stat(pid)[19]) / os.sysconf("SC_CLK_TCK")
    return float(Path("/proc/uptime").read_text().split()[0]) - started


@pytest.fixture
def supervisor(procrastinate_command, jobs_table):
    running = procrastinate_command.start("worker", "--processes", "2")
    wait_until(lambda: len(workers(jobs_table)) == 2, what="two workers")
    yield running
    # Of tests that fail: workers live in sessions of their own.
    for pid in children(running.process.pid) if running.process.poll() is None else []:
        os.kill(pid, signal.SIGKILL)


def test_a_worker_that_dies_is_started_again(supervisor, procrastinate_command, jobs_table) -> None:
    before = workers(jobs_table)
    job_ids = [defer(procrastinate_command, "add", "a=1", "b=2") for _ in range(2)]
    for job_id in job_ids:
        jobs_table.wait_for_status(job_id, "succeeded")
    # They have settled once they have lived for some seconds; this one may die before, beside the other.
    wait_until(lambda: "Starting worker" in supervisor.stderr)
    victim, other = children(supervisor.process.pid)
    wait_until(lambda: age(other) > 6, what="workers that have settled")
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(workers(jobs_table) - before) == 1, what="a new worker")
    assert "ended with code 137" in supervisor.stderr
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.end() == 0, supervisor.stderr
    assert not is_alive(other)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_jobs_end(supervisor, procrastinate_command, jobs_table, tmp_path, number) -> None:
    gate = tmp_path / "gate"
    job_ids = [defer(procrastinate_command, task, f"path={gate}") for task in ("hold", "hold_async")]
    for job_id in job_ids:
        jobs_table.wait_for_status(job_id, "doing")
    supervisor.process.send_signal(number)
    supervisor.wait_for("Stopping 2 worker processes")
    wait_until(lambda: supervisor.stderr.count("Stop requested") == 2)
    assert supervisor.process.poll() is None
    gate.touch()
    assert supervisor.end() == 0, supervisor.stderr
    assert [jobs_table.status(job_id) for job_id in job_ids] == ["succeeded", "succeeded"]
    assert workers(jobs_table) == set()


def test_a_second_signal_ends_all_at_once(supervisor, procrastinate_command, jobs_table, tmp_path) -> None:
    job_id = defer(procrastinate_command, "hold", f"path={tmp_path / 'never'}")
    jobs_table.wait_for_status(job_id, "doing")
    processes = children(supervisor.process.pid)
    supervisor.process.send_signal(signal.SIGTERM)
    wait_until(lambda: supervisor.stderr.count("Stop requested") == 2)
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.end(10) == 143, supervisor.stderr
    assert not any(map(is_alive, processes))
    assert jobs_table.status(job_id) == "doing"


def test_workers_stop_when_the_supervisor_is_killed(supervisor, jobs_table) -> None:
    processes = children(supervisor.process.pid)
    assert len(processes) == 2
    supervisor.process.kill()
    wait_until(lambda: not any(map(is_alive, processes)), what="workers without a supervisor")
    assert workers(jobs_table) == set()


def test_one_shot(procrastinate_command, jobs_table) -> None:
    job_ids = [defer(procrastinate_command, "add", "a=1", "b=2") for _ in range(3)]
    result = procrastinate_command.run("worker", "--one-shot", PROCRASTINATE_WORKER_PROCESSES="2")
    assert result.returncode == 0, result.stderr
    assert [jobs_table.status(job_id) for job_id in job_ids] == ["succeeded"] * 3


def test_workers_that_cannot_start_end_the_command(procrastinate_command, jobs_table) -> None:
    jobs_table.connection.execute("drop table procrastinate_workers")
    result = procrastinate_command.run("worker", "--processes", "2")
    assert result.returncode == 1, result.stderr
    assert "another one starts" not in result.stderr

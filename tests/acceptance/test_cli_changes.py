"""`procrastinate retry` and `procrastinate cancel`: by id, and by conditions after a confirmation."""

from __future__ import annotations

import pytest
from acceptance_tools import wait_until

# By id


def test_retry_by_id(in_process, insert_job, jobs_table):
    failed, running = insert_job(status="failed", attempts=1), insert_job(status="doing", attempts=1)
    result = in_process.run("retry", str(failed), str(running), str(failed))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [f"Job {failed}: retried", f"Job {running}: retried"]
    assert jobs_table.column("status") == ["todo", "todo"]
    assert jobs_table.column("attempts") == [2, 2]


def test_retry_what_cannot_be_retried(in_process, insert_job, jobs_table):
    succeeded, failed = insert_job(status="succeeded"), insert_job(status="failed")
    result = in_process.run("retry", str(succeeded), "99", str(failed))
    assert result.returncode == 1
    assert result.stdout == f"Job {failed}: retried\n"
    assert result.stderr.splitlines() == [
        f"Job {succeeded}: not retried, it is succeeded",
        "Job 99: not retried, there is no such job",
    ]
    assert jobs_table.column("status") == ["succeeded", "todo"]


def test_retry_with_a_queueing_lock_that_is_taken(in_process, insert_job, jobs_table):
    failed = insert_job(status="failed", queueing_lock="one")
    insert_job(queueing_lock="one")
    result = in_process.run("retry", str(failed))
    assert result.returncode == 1
    assert "it is failed; Job cannot be enqueued" in result.stderr
    assert "queueing lock one" in result.stderr
    assert jobs_table.column("status") == ["failed", "todo"]


def test_retry_of_a_job_that_somebody_asked_to_abort(in_process, insert_job, jobs_table):
    job_id = insert_job(status="doing", abort_requested=True)
    assert "an abort was requested" in in_process.run("retry", str(job_id)).stdout
    assert jobs_table.status(job_id) == "failed"


def test_retry_later(in_process, insert_job, jobs_table):
    job_id = insert_job(status="failed")
    result = in_process.run("retry", str(job_id), "--at", "2999-01-01")
    assert result.returncode == 0, result.stderr
    assert [at.year for at in jobs_table.column("scheduled_at")] == [2999]


def test_cancel_by_id(in_process, insert_job, jobs_table):
    job_id = insert_job()
    result = in_process.run("cancel", str(job_id))
    assert (result.returncode, result.stdout) == (0, f"Job {job_id}: cancelled\n")
    result = in_process.run("cancel", str(job_id))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"Job {job_id}: not cancelled, it is cancelled\n"
    assert jobs_table.column("status") == ["cancelled"]


def test_cancel_and_delete(in_process, insert_job, jobs_table):
    waiting, failed = insert_job(), insert_job(status="failed")
    result = in_process.run("cancel", "--delete", str(waiting), str(failed))
    assert (result.returncode, result.stdout) == (1, f"Job {waiting}: deleted\n")
    assert jobs_table.column("id") == [failed]


def test_cancel_a_running_job(in_process, insert_job, connection, jobs_table):
    job_id = insert_job(status="doing")
    assert in_process.run("cancel", str(job_id)).returncode == 1
    assert connection.execute("select abort_requested from procrastinate_jobs").fetchone() == (False,)
    result = in_process.run("cancel", "--abort", str(job_id))
    assert (result.returncode, result.stdout) == (0, f"Job {job_id}: asked to abort\n")
    assert connection.execute("select abort_requested from procrastinate_jobs").fetchone() == (True,)


def test_abort_reaches_a_worker(procrastinate_command, jobs_table, tmp_path):
    worker = procrastinate_command.start("worker")
    job_id = procrastinate_command.run("defer", "hold_async", f"path={tmp_path / 'never'}").stdout.strip()
    jobs_table.wait_for_status(job_id, "doing")
    assert procrastinate_command.run("cancel", "--abort", job_id).returncode == 0
    jobs_table.wait_for_status(job_id, "aborted")
    worker.process.terminate()
    assert worker.end() == 0


# By conditions


def test_retry_by_conditions(in_process, insert_job, jobs_table):
    insert_job(status="failed")
    insert_job(status="failed", queue_name="other")
    insert_job(status="doing")
    insert_job(status="succeeded")
    result = in_process.run("retry", "--queue", "q", "--yes")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "1 job retried\n"
    assert "1 (1 failed)" in result.stderr
    assert jobs_table.column("status") == ["todo", "failed", "doing", "succeeded"]
    result = in_process.run("retry", "--status", "failed", "--status", "doing", "-y")
    assert result.stdout == "2 jobs retried\n"
    assert jobs_table.column("status") == ["todo", "todo", "todo", "succeeded"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["--status", "todo"], ["cancelled"] * 4 + ["doing"]),
        (["--queue", "other"], ["todo", "cancelled", "todo", "todo", "doing"]),
        (["--task", "u"], ["todo", "todo", "cancelled", "todo", "doing"]),
        (["--lock", "l"], ["todo", "todo", "cancelled", "todo", "doing"]),
        (["--queueing-lock", "ql"], ["todo", "todo", "todo", "cancelled", "doing"]),
        (["--worker-id", "7"], ["todo", "todo", "todo", "todo", "doing"]),
    ],
)
def test_cancel_by_conditions(in_process, insert_job, jobs_table, conditions, expected):
    insert_job()
    insert_job(queue_name="other")
    insert_job(task_name="u", lock="l")
    insert_job(queueing_lock="ql")
    insert_job(status="doing", worker_id=7)
    result = in_process.run("cancel", *conditions, "--yes")
    assert result.returncode == 0, result.stderr
    assert jobs_table.column("status") == expected


def test_cancel_and_abort_by_conditions(in_process, insert_job, connection, jobs_table):
    insert_job()
    insert_job(status="doing")
    insert_job(status="failed")
    result = in_process.run("cancel", "--queue", "q", "--abort", "--yes")
    assert result.stdout == "2 jobs cancelled or asked to abort\n"
    assert "2 (1 todo, 1 doing)" in result.stderr
    assert jobs_table.column("status") == ["cancelled", "doing", "failed"]
    assert jobs_table.column("abort_requested") == [False, True, False]


def test_delete_by_conditions(in_process, insert_job, jobs_table):
    insert_job()
    kept = insert_job(status="failed")
    assert in_process.run("cancel", "--queue", "q", "--delete", "--yes").stdout == "1 job deleted\n"
    assert jobs_table.column("id") == [kept]


def test_many_by_conditions(in_process, connection, jobs_table):
    connection.execute(
        "insert into procrastinate_jobs (queue_name, task_name) select 'q', 't' from generate_series(1, 1203)"
    )
    result = in_process.run("cancel", "--queue", "q", "--yes")
    assert result.stdout == "1203 jobs cancelled\n"
    assert set(jobs_table.column("status")) == {"cancelled"}


def test_nothing_meets_the_conditions(in_process, insert_job):
    insert_job()
    result = in_process.run("cancel", "--queue", "nowhere")
    assert (result.returncode, result.stdout) == (0, "")
    assert "No job" in result.stderr


@pytest.mark.parametrize(("command", "status"), [("retry", "failed"), ("cancel", "todo")])
def test_nobody_to_confirm(in_process, insert_job, jobs_table, command, status):
    insert_job(status=status)
    result = in_process.run(command, "--queue", "q")
    assert result.returncode == 2
    assert f"1 (1 {status})" in result.stderr
    assert "--yes" in result.stderr
    assert jobs_table.column("status") == [status]


def test_siblings_with_one_queueing_lock(in_process, insert_job, jobs_table):
    insert_job(status="failed", queueing_lock="one")
    insert_job(status="failed", queueing_lock="one")
    result = in_process.run("retry", "--queue", "q", "--yes")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "1 job retried\n"
    assert "1 job not retried: Job cannot be enqueued" in result.stderr
    assert sorted(jobs_table.column("status")) == ["failed", "todo"]


@pytest.mark.parametrize(
    ("command", "before", "between", "done"),
    [
        ("cancel", "todo", "succeeded", "cancelled"),
        # Somebody else retried it, and it runs: it must not be taken from its worker.
        ("retry", "failed", "doing", "retried"),
    ],
)
def test_changed_in_between(procrastinate_command, insert_job, connection, jobs_table, command, before, between, done):
    """Another session holds the job while we wait for it, and changes it: that is no error."""
    job_id = insert_job(status=before)
    with connection.transaction():
        connection.execute("update procrastinate_jobs set status = %s where id = %s", [between, job_id])
        running = procrastinate_command.start(command, "--queue", "q", "--yes")
        waiting = "select exists (select from pg_locks where not granted)"
        wait_until(lambda: connection.execute(waiting).fetchone() == (True,), what="the command waits for us")
    assert running.end() == 0, running.stderr
    assert f"1 job not {done}: changed in between" in running.stderr
    assert jobs_table.status(job_id) == between

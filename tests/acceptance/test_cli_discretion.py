"""Arguments that the command line keeps to itself."""

from __future__ import annotations

import json

import pytest

SECRET = "4111-1111"


@pytest.fixture
def secret_job(procrastinate_command) -> str:
    """The id of a job whose arguments nobody is to see; the command that deferred it did not show them either."""
    result = procrastinate_command.run("-v", "defer", "pay", f"card={SECRET}")
    assert result.returncode == 0, result.stderr
    assert SECRET not in result.stderr
    assert "Launching a job: pay(…)" in result.stderr
    return result.stdout.strip()


def test_what_is_shown_of_a_job(procrastinate_command, secret_job, jobs_table):
    job_id = secret_job
    result = procrastinate_command.run("-v", "worker", "--one-shot")
    assert result.returncode == 0, result.stderr
    assert "pay[1](…)" in result.stderr
    assert jobs_table.column("args ->> 'card'") == [SECRET]
    told = [result.stderr]
    for command in (("jobs",), ("jobs", "--details"), ("jobs", "--json", "--details"), ("shell", "list_jobs details")):
        result = procrastinate_command.run(*command)
        assert result.returncode == 0, result.stderr
        told += [result.stdout, result.stderr]
    assert SECRET not in "".join(told)
    assert all("…" in text for text in (told[1], told[3], told[7]))
    [job] = json.loads(told[5])
    assert (job["id"], job["task_kwargs"]) == (int(job_id), None)
    assert job["attempts_log"][-1]["exception"] == "ValueError"
    assert "message" not in job["attempts_log"][-1]


def test_other_jobs_are_shown(procrastinate_command, insert_job):
    insert_job(task_name="add", args='{"a": 12345}')
    insert_job(task_name="elsewhere", args='{"b": 67890}')
    for command in (("jobs",), ("jobs", "--details"), ("jobs", "--json"), ("shell", "list_jobs details")):
        result = procrastinate_command.run(*command)
        assert "12345" in result.stdout
        assert "67890" in result.stdout


def test_tasks_that_cannot_be_imported(procrastinate_command, secret_job, tmp_path):
    (tmp_path / "broken_paths.py").write_text("from acceptance_app import app\napp.import_paths = ['no_such_module']\n")
    for command in (("jobs", "--details"), ("shell", "list_jobs details")):
        result = procrastinate_command.run("--app", "broken_paths.app", *command)
        assert result.returncode == 0, result.stderr
        assert "pay" in result.stdout
        assert SECRET not in result.stdout
        assert "No arguments are shown" in result.stderr
        assert "no_such_module" in result.stderr


def test_what_the_server_says_of_a_row(procrastinate_command, secret_job, jobs_table):
    """PostgreSQL describes the whole row that breaks a constraint."""
    jobs_table.connection.execute("alter table procrastinate_jobs add check (status <> 'failed')")
    worker = procrastinate_command.start("worker")
    worker.wait_for("The outcome of job 1 could not be recorded yet: ConnectorException")
    assert SECRET not in worker.stderr

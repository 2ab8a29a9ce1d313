"""`procrastinate jobs`, `queues`, `tasks`, `locks` and `workers`: what people and programs see."""

from __future__ import annotations

import datetime
import json

import pytest

TRACEBACK = 'Traceback (most recent call last):\n  File "tasks.py", line 1\nValueError: on \x1b[31mpurpose\n'


@pytest.fixture
def listed(in_process):
    """Run a command with --json, and return what it prints, and standard error."""

    def listed(*arguments):
        result = in_process.run(*arguments, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout), result.stderr

    return listed


# jobs


def test_jobs_newest_first(in_process, insert_job):
    insert_job(task_name="first", args='{"a": "ü"}', lock="l", priority=5)
    insert_job(task_name="second", status="failed", attempts=3)
    result = in_process.run("jobs")
    assert result.returncode == 0, result.stderr
    header, second, first = result.stdout.splitlines()
    columns = ["ID", "STATUS", "QUEUE", "TASK", "ARGUMENTS", "PRIORITY", "LOCK", "ATTEMPTS", "SCHEDULED", "CREATED"]
    assert header.split() == columns
    assert second.split()[:7] == ["2", "failed", "q", "second", "{}", "0", "3"]
    assert first.split()[:8] == ["1", "todo", "q", "first", '{"a":', '"ü"}', "5", "l"]
    assert result.stderr == ""


def test_jobs_piped_are_one_line_each(in_process, insert_job):
    insert_job(task_name="t" * 128, lock="a b\n\x1b[2Jc", args=json.dumps({"text": "x" * 1000}))
    header, line = in_process.run("jobs", COLUMNS="40").stdout.splitlines()
    assert "t" * 128 in line
    assert r"a b\n\x1b[2Jc" in line
    assert "…" in line
    assert line.index("{") == header.index("ARGUMENTS")


def test_no_jobs(in_process, connection):
    result = in_process.run("jobs")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert in_process.run("jobs", "--details").stdout == ""
    assert json.loads(in_process.run("jobs", "--json").stdout) == []


def test_jobs_as_json(listed, insert_job):
    at = datetime.datetime(2999, 1, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    insert_job(args='{"a": [1, null]}', scheduled_at=at, lock="l", queueing_lock="ql", priority=-1)
    [job], _ = listed("jobs")
    created = datetime.datetime.fromisoformat(job.pop("created_at"))
    assert created.utcoffset() == datetime.timedelta(0)
    assert job == {
        "id": 1,
        "status": "todo",
        "queue": "q",
        "priority": -1,
        "lock": "l",
        "queueing_lock": "ql",
        "task_name": "t",
        "task_kwargs": {"a": [1, None]},
        "scheduled_at": "2999-01-01T10:00:00+00:00",
        "attempts": 0,
        "abort_requested": False,
        "worker_id": None,
        "waits_for": None,
        "attempted_at": None,
        "finalized_at": None,
    }
    [job], _ = listed("jobs", "--details")
    assert job["attempts_log"] == []


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], [4, 3, 2, 1]),
        (["--queue", "other"], [2]),
        (["--task", "u"], [3]),
        (["--status", "failed"], [1]),
        (["--status", "failed", "--status", "todo", "--queue", "q"], [4, 3, 1]),
        (["--lock", "l"], [3]),
        (["--queueing-lock", "ql"], [4]),
        (["--id", "2"], [2]),
        (["--id", "99"], []),
        (["--worker-id", "7"], [1]),
        (["--queue", "nowhere"], []),
    ],
)
def test_conditions_on_jobs(listed, insert_job, conditions, expected):
    insert_job(status="failed", worker_id=7)
    insert_job(queue_name="other")
    insert_job(task_name="u", lock="l")
    insert_job(queueing_lock="ql")
    assert [job["id"] for job in listed("jobs", *conditions)[0]] == expected


def test_limit(in_process, listed, insert_job):
    for _ in range(3):
        insert_job()
    jobs, stderr = listed("jobs", "--limit", "2")
    assert [job["id"] for job in jobs] == [3, 2]
    assert "more jobs" in stderr
    assert "--limit" in stderr
    assert listed("jobs", "--limit", "3")[1] == ""
    assert len(in_process.run("jobs", "--limit", "1").stdout.splitlines()) == 2


def test_details(in_process, insert_job):
    log = [
        {"number": 1, "event": "deferred_for_retry", "exception": "KeyError", "message": "'x'", "traceback": "first\n"},
        {
            "number": 2,
            "event": "failed",
            "final": True,
            "started_at": "2030-01-01T10:00:00+02:00",
            "ended_at": "2030-01-01T10:00:05+02:00",
            "worker_id": 3,
            "exception": "ValueError",
            "message": "on\npurpose",
            "traceback": TRACEBACK,
        },
    ]
    insert_job(status="failed", attempts=2, args='{"a": {"b": 1}}', attempts_log=json.dumps(log))
    insert_job(scheduled_at="2999-01-01T00:00:00Z", waits_for="time", lock="a lock")
    result = in_process.run("jobs", "--details")
    waiting, failed = result.stdout.split("\n\n")
    assert waiting.startswith("Job 2: t\n  status        todo (waits for its time)\n")
    assert "  scheduled     2999-01-01 00:00:00Z\n" in waiting
    assert "  lock          a lock\n" in waiting
    assert "error" not in waiting
    assert failed.startswith("Job 1: t\n  status        failed\n")
    assert '      "b": 1\n' in failed
    assert r"    2.  2030-01-01 08:00:00Z to 2030-01-01 08:00:05Z  worker 3  failed  ValueError: on\npurpose" in failed
    assert "    1.  deferred_for_retry  KeyError: 'x'\n" in failed
    assert failed.endswith('      File "tasks.py", line 1\n    ValueError: on \\x1b[31mpurpose\n')
    assert "\x1b" not in result.stdout


def test_details_of_a_job_that_really_failed(cli_on, jobs_table):
    cli_on.run("defer", "fail")
    cli_on.run("worker", "--one-shot")
    jobs_table.wait_for_status(1, "failed")
    result = cli_on.run("jobs", "--id", "1", "--details")
    assert result.returncode == 0, result.stderr
    assert "failed  ValueError: on purpose" in result.stdout
    assert 'raise ValueError("on purpose")' in result.stdout


@pytest.fixture
def cli_on(procrastinate_command):
    return procrastinate_command


def test_arguments_that_somebody_wrote_by_hand(in_process, insert_job):
    insert_job(args="[1, 2]")
    assert "[1, 2]" in in_process.run("jobs").stdout
    assert in_process.run("jobs", "--details").returncode == 0


# queues, tasks, locks


@pytest.mark.parametrize(("command", "key"), [("queues", "queue"), ("tasks", "task"), ("locks", "lock")])
def test_counts(in_process, listed, insert_job, command, key):
    columns = {"queue": "queue_name", "task": "task_name", "lock": "lock"}
    insert_job(**{columns[key]: "b"})
    insert_job(**{columns[key]: "b"}, status="failed")
    insert_job(**{columns[key]: "a a"}, status="succeeded")
    counts, _ = listed(command)
    assert [(line["name"], line["jobs_count"]) for line in counts] == [("a a", 1), ("b", 2)]
    assert counts[1] == {
        "name": "b",
        "jobs_count": 2,
        "todo": 1,
        "doing": 0,
        "succeeded": 0,
        "failed": 1,
        "cancelled": 0,
        "aborted": 0,
    }
    lines = [line.split() for line in in_process.run(command).stdout.splitlines()]
    assert lines == [
        [key.upper(), "JOBS", "TODO", "DOING", "SUCCEEDED", "FAILED", "CANCELLED", "ABORTED"],
        ["a", "a", "1", "0", "0", "1", "0", "0", "0"],
        ["b", "2", "1", "0", "0", "1", "0", "0"],
    ]
    counts, stderr = listed(command, "--limit", "1")
    assert [line["name"] for line in counts] == ["a a"]
    assert f"more {command}" in stderr


def test_conditions_on_counts(listed, insert_job):
    insert_job(queue_name="a", lock="l")
    insert_job(queue_name="b", task_name="u")
    insert_job(queue_name="c", status="failed")

    def names(*conditions):
        return [line["name"] for line in listed("queues", *conditions)[0]]

    assert names() == ["a", "b", "c"]
    assert names("--queue", "b") == ["b"]
    assert names("--task", "u") == ["b"]
    assert names("--status", "failed") == ["c"]
    assert names("--lock", "l") == ["a"]
    assert names("--lock", "l", "--status", "failed") == []


# workers


def test_workers(in_process, listed, connection, insert_job):
    assert in_process.run("workers").stdout == ""
    connection.execute("insert into procrastinate_workers (name, queues) values ('alpha', '{mails,bills}')")
    connection.execute(
        "insert into procrastinate_workers (last_heartbeat, started_at)"
        " values (now() - interval '2 minutes', now() - interval '1 day')"
    )
    insert_job(status="doing", worker_id=1)
    insert_job(status="doing", worker_id=1)
    insert_job(status="failed", worker_id=1)
    workers, _ = listed("workers")
    assert [worker["status"] for worker in workers] == ["alive", "stalled"]
    assert [worker["running_jobs"] for worker in workers] == [2, 0]
    assert [worker["name"] for worker in workers] == ["alpha", None]
    assert [worker["queues"] for worker in workers] == [["mails", "bills"], None]
    assert set(workers[0]) == {
        "id",
        "name",
        "queues",
        "status",
        "running_jobs",
        "started_at",
        "last_heartbeat",
        "seconds_since_heartbeat",
    }
    assert [worker["status"] for worker in listed("workers", "--stalled-after", "100000")[0]] == ["alive", "alive"]
    header, alpha, nameless = in_process.run("workers").stdout.splitlines()
    assert header.split() == ["ID", "NAME", "QUEUES", "STATUS", "RUNNING", "HEARTBEAT", "STARTED"]
    assert alpha.split()[:6] == ["1", "alpha", "mails,", "bills", "alive", "2"]
    assert nameless.split()[:4] == ["2", "all", "stalled", "0"]
    assert "2 min" in nameless
    assert "more workers" in listed("workers", "--limit", "1")[1]


def test_a_worker_that_runs(cli_on, listed, jobs_table, tmp_path):
    worker = cli_on.start("worker", "--name", "busy")
    gate = tmp_path / "gate"
    job_id = cli_on.run("defer", "hold", f"path={gate}").stdout
    jobs_table.wait_for_status(job_id, "doing")
    [listed_worker], _ = listed("workers")
    assert (listed_worker["name"], listed_worker["status"], listed_worker["running_jobs"]) == ("busy", "alive", 1)
    gate.touch()
    jobs_table.wait_for_status(job_id, "succeeded")
    worker.process.terminate()
    assert worker.end() == 0
    assert listed("workers")[0] == []


@pytest.mark.parametrize("command", ["jobs", "queues", "tasks", "locks", "workers"])
def test_lists_without_tables(make_commands, empty_database, command):
    result = make_commands(empty_database).run(command)
    assert result.returncode == 1
    assert "procrastinate schema --apply" in result.stderr
    assert "Traceback" not in result.stderr

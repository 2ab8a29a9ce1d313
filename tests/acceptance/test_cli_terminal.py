"""The command line on a terminal: what a person reads there, and is asked."""

from __future__ import annotations

import re
import signal
import sys

import psycopg.conninfo
import pytest
from terminal import Terminal

import procrastinate

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")


@pytest.fixture
def start(procrastinate_command):
    """Start a command on a terminal; it ends with the test at the latest."""
    started = []

    def start(*arguments, **variables):
        started.append(Terminal(procrastinate_command, *arguments, **variables))
        return started[-1]

    yield start
    for terminal in started:
        terminal.close()


# worker


def test_a_worker_introduces_itself(start, procrastinate_command, database):
    password = {"PROCRASTINATE_TEST_DSN": psycopg.conninfo.make_conninfo(database, password="a-secret")}
    worker = start("worker", "--one-shot", "-c", "3", "-q", "a,b", "--delete-jobs", "always", **password)
    assert worker.end() == 0
    lines = dict(re.findall(r"^  (\S+(?: \S+)*)  +(\S.*?) *$", worker.screen, re.MULTILINE))
    assert lines["procrastinate"] == procrastinate.__version__
    assert lines["app"] == "acceptance_app.app"
    assert lines["database"].startswith(psycopg.conninfo.conninfo_to_dict(database)["dbname"])
    assert "PostgreSQL" in lines["database"]
    assert lines["queues"] == "a, b"
    assert lines["concurrency"] == "3"
    assert lines["options"] == "wait=False, delete_jobs=always"
    assert int(lines["tasks"]) > 3
    assert "Ctrl-C" in lines["to stop"]
    assert "Launching a worker on a, b" in worker.screen
    assert "a-secret" not in worker.screen


def test_log_lines_are_readable(start):
    worker = start("worker", "--one-shot")
    assert worker.end() == 0
    assert re.search(r"^\d\d:\d\d:\d\d INFO +Starting worker on all queues", worker.screen, re.MULTILINE)
    assert "INFO:procrastinate" not in worker.screen
    assert "\x1b[" in worker.raw


def test_no_color(start):
    worker = start("worker", "--one-shot", NO_COLOR="1")
    assert worker.end() == 0
    assert "Starting worker" in worker.screen
    assert not re.search(r"\x1b\[[0-9;]*[349][0-7]m", worker.raw)


def test_plain_lines_for_who_asks_for_a_format(start):
    for options in (("--log-format", "%(levelname)s:%(name)s:%(message)s"), ("--log-format", "|%(message)s")):
        worker = start(*options, "worker", "--one-shot")
        assert worker.end() == 0
        assert re.search(r"^(INFO:procrastinate.worker:|\|)Starting worker on all queues$", worker.screen, re.MULTILINE)
        assert "Ctrl-C" not in worker.screen
        assert "\x1b[" not in worker.raw


def test_without_the_extra(start, procrastinate_command):
    # A package that cannot be imported is what is found when `rich` is not installed.
    (procrastinate_command.folder / "sitecustomize.py").write_text(
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'rich' else find(name, *more)\n"
        "sys.modules['rich'] = None\n"
    )
    paths = {"PYTHONPATH": f"{procrastinate_command.folder}:{procrastinate_command.environment['PYTHONPATH']}"}
    worker = start("worker", "--one-shot", **paths)
    assert worker.end() == 0, worker.screen
    assert "INFO:procrastinate.worker:Starting worker on all queues" in worker.screen
    assert re.search(r"^  to stop +Ctrl-C", worker.screen, re.MULTILINE)
    jobs = start("jobs", **paths)
    assert jobs.end() == 0, jobs.screen


def test_piped_output_stays_plain(procrastinate_command):
    result = procrastinate_command.run("worker", "--one-shot")
    assert result.stderr.splitlines()[:2] == [
        "Launching a worker on all queues",
        "INFO:procrastinate.worker:Starting worker on all queues",
    ]


def test_several_processes_introduce_themselves_once(start):
    worker = start("worker", "--processes=2", "--one-shot")
    assert worker.end() == 0
    assert worker.screen.count("Starting worker") == 2
    assert len(re.findall(r"^  to stop +Ctrl-C", worker.screen, re.MULTILINE)) == 1


def test_ctrl_c_stops_a_worker(start):
    worker = start("worker")
    worker.wait_for("Starting worker")
    worker.process.send_signal(signal.SIGINT)
    assert worker.end() == 0
    assert "Stopped worker" in worker.screen


# Lists


def test_tables(start, insert_job):
    insert_job(task_name="a.task", status="failed", args='{"a": 1}')
    jobs = start("jobs")
    assert jobs.end() == 0
    header, line = jobs.screen.splitlines()
    # Columns that say nothing are left out.
    assert header.split() == ["ID", "STATUS", "QUEUE", "TASK", "ARGUMENTS", "CREATED"]
    assert re.fullmatch(r' 1  failed +q +a\.task +\{"a": 1\} +\d+ s ago *', line)
    assert "\x1b[31mfailed" in jobs.raw


def test_narrow_terminals_cut_nothing_off(start, insert_job):
    insert_job(task_name="t" * 100, queue_name="q" * 50, lock="l" * 30, priority=5, attempts=3, args='{"key": "value"}')
    jobs = start("jobs", COLUMNS="40")
    assert jobs.end() == 0
    assert jobs.screen.count("t") >= 100
    assert jobs.screen.count("l") >= 30
    assert "s ago" in jobs.screen


# Questions


@pytest.mark.parametrize(("answer", "code", "status"), [("y", 0, "cancelled"), ("n", 1, "todo"), ("", 1, "todo")])
def test_confirmation(start, insert_job, jobs_table, answer, code, status):
    insert_job()
    cancel = start("cancel", "--queue", "q")
    cancel.wait_for("Cancel 1 job? [y/N]")
    assert "Jobs that meet the conditions: 1 (1 todo)." in cancel.screen
    cancel.type(f"{answer}\n")
    assert cancel.end() == code
    assert ("1 job cancelled" in cancel.screen) == (code == 0)
    assert "Traceback" not in cancel.screen
    assert jobs_table.column("status") == [status]


# shell


def test_shell(start, insert_job):
    insert_job()
    shell = start("shell")
    shell.wait_for("Welcome to the procrastinate shell.   Type help or ? to list commands.\n\nprocrastinate> ")
    shell.type("list_jobs\n")
    shell.wait_for("#1 t on q - [todo]")
    shell.type("cancel 1\n")
    shell.wait_for("#1 t on q - [cancelled]")
    shell.type("\n")
    shell.type("list_jobs id=one\n")
    shell.wait_for("*** id must be a whole number, not 'one'")
    shell.type("exit\n")
    assert shell.end() == 0
    assert "Traceback" not in shell.screen


def test_ctrl_c_takes_back_a_line(start):
    shell = start("shell")
    shell.wait_for("procrastinate> ")
    shell.type("cancel 1")
    shell.wait_for("cancel 1")
    shell.interrupt_until("cancel 1\nprocrastinate> ")
    shell.type("\x04")
    assert shell.end() == 0
    assert "Traceback" not in shell.screen

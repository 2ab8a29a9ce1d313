"""The shell's commands, one at a time."""

from __future__ import annotations

import datetime

import pytest

import procrastinate
from procrastinate import shell, testing
from procrastinate.jobs import Job

ZEROS = "succeeded: 0, failed: 0, cancelled: 0, aborted: 0"


@pytest.fixture
def app():
    app = procrastinate.App(connector=testing.InMemoryConnector())

    @app.task(name="add")
    def add(**arguments):
        pass

    with app.open():
        yield app


@pytest.fixture
def run(app, capsys):
    """Execute a command, and return what it prints to standard output and to standard error."""

    def run(line):
        shell.ProcrastinateShell(app.job_manager).onecmd(line)
        return tuple(capsys.readouterr())

    return run


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}),
        ("queue=a  task=b", {"queue": "a", "task": "b"}),
        ("lock='a b' queue=\"c d\"", {"lock": "a b", "queue": "c d"}),
        ("'lock=a b'", {"lock": "a b"}),
        ("lock=a=b", {"lock": "a=b"}),
        ("lock=", {"lock": ""}),
        ("details", {"details": True}),
    ],
)
def test_parse_argument(text, arguments):
    assert shell.parse_argument(text) == arguments


def test_print_job(capsys):
    at = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    job = Job(
        id=3,
        status="todo",
        queue="q",
        lock="l",
        queueing_lock="ql",
        task_name="t",
        task_kwargs={"a": 1},
        scheduled_at=at,
    )
    shell.print_job(job)
    assert capsys.readouterr().out == "#3 t on q - [todo]\n"
    shell.print_job(job, details=True)
    assert capsys.readouterr().out == (
        "#3 t on q - [todo] (attempts=0, priority=0, scheduled_at=2030-01-01 00:00:00+00:00, args={'a': 1}, lock=l)\n"
    )


def test_list_jobs(app, run):
    assert run("list_jobs") == ("", "")
    app.configure_task("add").defer(a=1)
    app.configure_task("add", queue="other", lock="a lock", queueing_lock="ql").defer()
    assert run("list_jobs") == ("#1 add on default - [todo]\n#2 add on other - [todo]\n", "")
    for condition in ("id=2", "queue=other", "lock='a lock'", "'lock=a lock'", "queueing_lock=ql"):
        assert run(f"list_jobs {condition}") == ("#2 add on other - [todo]\n", "")
    for condition in ("id=3", "task=x", "status=failed", "worker_id=1"):
        assert run(f"list_jobs {condition}") == ("", "")
    details = "(attempts=0, priority=0, scheduled_at=None, args={'a': 1}, lock=None)"
    assert run("list_jobs details queue=default") == (f"#1 add on default - [todo] {details}\n", "")


@pytest.mark.parametrize(
    ("command", "name"), [("list_queues", "default"), ("list_tasks", "add"), ("list_locks", "a lock")]
)
def test_list_groups(app, run, command, name):
    assert run(command) == ("", "")
    app.configure_task("add", lock="a lock").defer()
    app.configure_task("add", lock="a lock").defer()
    assert run(command) == (f"{name}: 2 jobs (todo: 2, doing: 0, {ZEROS})\n", "")
    assert run(f"{command} queue=nowhere") == ("", "")
    assert run(f"{command} task=add status=todo lock='a lock'")[0].startswith(name)


def test_retry(app, run):
    job_id = app.configure_task("add").defer()
    app.job_manager.connector.jobs[job_id]["status"] = "failed"
    assert run(f"retry {job_id}") == ("#1 add on default - [todo]\n", "")
    assert app.job_manager.connector.jobs[job_id]["scheduled_at"].microsecond == 0


def test_cancel(app, run):
    app.configure_task("add").defer()
    assert run("cancel 1") == ("#1 add on default - [cancelled]\n", "")
    app.job_manager.connector.jobs[1]["status"] = "succeeded"
    assert run("cancel 1") == ("#1 add on default - [succeeded]\n", "")


def test_an_empty_line_does_nothing(app, capsys):
    app.configure_task("add").defer()
    prompt = shell.ProcrastinateShell(app.job_manager)
    prompt.onecmd("list_jobs")
    assert capsys.readouterr().out
    assert prompt.onecmd("") is False
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("nonsense", "*** Unknown syntax: nonsense\n"),
        ("list_jobs colour=red", "list_jobs does not know 'colour', it takes id=, queue="),
        ("list_queues details", "list_queues does not know 'details'"),
        ("list_jobs queue", "queue needs a value"),
        ("list_jobs id=one", "id must be a whole number, not 'one'"),
        ("list_jobs status=done", "There is no status 'done'"),
        ("list_jobs lock='open", "No closing quotation"),
        ("cancel", "must be a whole number"),
        ("cancel 99", "There is no job 99"),
        ("retry 99", "There is no job 99"),
        ("retry 1", "has an invalid status to retry"),
    ],
)
def test_errors_are_one_line(app, run, line, complaint):
    app.configure_task("add").defer()
    out, err = run(line)
    assert out == ""
    assert err.startswith("*** ")
    assert complaint in err
    assert err.count("\n") == 1


def test_help(run):
    listed = run("help")[0].rpartition("===")[2].split()
    commands = ["EOF", "cancel", "exit", "help", "list_jobs", "list_locks", "list_queues", "list_tasks", "retry"]
    assert listed == commands
    for command in set(commands) - {"help"}:
        assert "*** No help" not in run(f"help {command}")[0]
    assert "cancel JOB_ID" in run("help cancel")[0]


def test_leaving(app):
    prompt = shell.ProcrastinateShell(app.job_manager)
    assert prompt.onecmd("exit") is True
    assert prompt.onecmd("EOF") is True
    assert prompt.onecmd("list_jobs") is False
    assert prompt.onecmd("nonsense") is False


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("list_jobs qu", ["queue=", "queueing_lock="]),
        ("list_jobs queue=a det", ["details"]),
        ("list_jobs status=s", ["succeeded"]),
        ("list_queues ", ["queue=", "task=", "status=", "lock="]),
        ("list_queues queue=q", []),
        ("cancel 1", []),
    ],
)
def test_completion(app, line, expected):
    prompt = shell.ProcrastinateShell(app.job_manager)
    begin = max(line.rfind(" "), line.rfind("=")) + 1
    assert prompt.completedefault(line[begin:], line, begin, len(line)) == expected
    assert "list_jobs" in prompt.completenames("list")


# From another shell


def test_one_command(in_process, insert_job):
    insert_job(lock="a lock")
    line = "#1 t on q - [todo]\n"
    assert in_process.run("shell", "list_jobs").stdout == line
    assert in_process.run("shell", "list_jobs", "lock=a lock").stdout == line
    assert in_process.run("shell", "list_jobs lock='a lock' queue=q").stdout == line
    result = in_process.run("shell", "list_jobs", "details", "id=1")
    assert (result.returncode, result.stderr) == (0, "")
    assert "lock=a lock" in result.stdout
    assert in_process.run("shell", "cancel", "1").stdout == "#1 t on q - [cancelled]\n"


@pytest.mark.parametrize("words", [("nonsense",), ("list_jobs", "id=x"), ("retry", "99"), ("cancel 1 2",)])
def test_one_command_that_fails(in_process, connection, words):
    result = in_process.run("shell", *words)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("*** ")
    assert "Traceback" not in result.stderr


def test_commands_from_a_file(procrastinate_command, insert_job):
    insert_job()
    result = procrastinate_command.python(
        "-c",
        "import subprocess, sys\n"
        "text = 'list_jobs\\n\\nnonsense\\nlist_queues\\n'\n"
        "done = subprocess.run([sys.executable, '-m', 'procrastinate', 'shell'], input=text, text=True)\n"
        "sys.exit(done.returncode)\n",
    )
    assert result.returncode == 0, result.stderr
    assert "#1 t on q - [todo]" in result.stdout
    assert "q: 1 jobs (todo: 1" in result.stdout
    assert "*** Unknown syntax: nonsense" in result.stderr


def test_a_database_that_cannot_be_reached(make_commands):
    commands = make_commands("host=127.0.0.1 port=1 dbname=nothing")
    result = commands.run("shell", "list_jobs", PROCRASTINATE_TEST_POOL_TIMEOUT="1")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr

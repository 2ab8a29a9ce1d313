"""The command line as its users see it: streams, exit codes, environment variables."""

from __future__ import annotations

import datetime
import json
import re
import sys

import psycopg
import pytest
from acceptance_tools import wait_until

import procrastinate
from procrastinate.cli import COMMANDS


@pytest.fixture
def cli(procrastinate_command):
    return procrastinate_command


@pytest.fixture
def on_empty(make_commands, empty_database):
    """The command line, on a database without tables."""
    return make_commands(empty_database)


# Help, version, usage.


@pytest.mark.parametrize("argument", ["--help", "-h", "--version", "-V"])
def test_help_and_version_import_no_driver(offline, argument):
    program = (
        "import sys\n"
        "from procrastinate.cli import main\n"
        "try:\n"
        f"    main([{argument!r}])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "print([name for name in sys.modules if name.startswith('psycopg')], file=sys.stderr)\n"
    )
    result = offline.python("-c", program)
    assert result.returncode == 0, result.stderr
    assert result.stderr.strip() == "[]"
    assert "procrastinate" in result.stdout


def test_command_help_needs_no_app_and_no_driver(offline):
    program = (
        "import sys\nfrom procrastinate.cli import COMMANDS, main\n"
        "for name in COMMANDS:\n"
        "    try:\n"
        "        main([name, '--help'])\n"
        "    except SystemExit as end:\n"
        "        assert end.code == 0, end.code\n"
        "print([name for name in sys.modules if name.startswith('psycopg')], file=sys.stderr)\n"
    )
    result = offline.python("-c", program, PROCRASTINATE_APP="no_such_module.app")
    assert result.returncode == 0, result.stderr
    assert result.stderr.strip() == "[]"
    for name in COMMANDS:
        assert f"Usage: procrastinate {name}" in result.stdout


def test_help_imports_no_command(offline):
    program = (
        "import sys\nfrom procrastinate.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "slow = ('procrastinate.cli.commands', 'procrastinate.app', 'asyncio', 'rich')\n"
        "print([name for name in sys.modules if name.startswith(slow)], file=sys.stderr)\n"
    )
    result = offline.python("-c", program)
    assert result.stderr.strip() == "[]"
    for name, (_, line) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", result.stdout, re.MULTILINE)


def test_help_does_not_import_the_app(offline):
    result = offline.run("--help", PROCRASTINATE_APP="no_such_module.app")
    assert result.returncode == 0
    assert "PROCRASTINATE_APP" in result.stdout


def test_version(offline):
    result = offline.run("--version")
    assert result.stdout == f"procrastinate, version {procrastinate.__version__}\n"
    assert result.stderr == ""
    assert offline.python("-m", "procrastinate", "-V").stdout == result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("no-such-command",),
        ("--no-such-option",),
        ("worker", "-v"),
        ("--verb", "healthchecks"),
        ("worker", "-c", "many"),
        ("worker", "-c", "0"),
        ("worker", "-p", "nan"),
        ("worker", "--delete-jobs", "sometimes"),
        ("defer",),
        ("defer", "add", "--in", "soon"),
        ("defer", "add", "--at", "whenever"),
        ("defer", "add", "--priority", "1.5"),
        ("defer", "add", "--priority", "99999999999"),
        ("defer", "add", "--at", "2030-01-01", "--in", "5"),
        ("-v", "--log-level", "info", "healthchecks"),
        ("--log-level", "loud", "healthchecks"),
        ("--log-format", "%(message", "healthchecks"),
        ("jobs", "--limit", "0"),
        ("jobs", "--status", "done"),
        ("retry",),
        ("retry", "1", "--queue", "q"),
        ("retry", "--status", "succeeded"),
        ("retry", "one"),
        ("retry", "-1"),
        ("cancel", "99999999999999999999"),
        ("cancel",),
        ("cancel", "--status", "doing"),
        ("completion", "tcsh"),
    ],
)
def test_usage_errors(in_process, arguments):
    result = in_process.run(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert "Usage: procrastinate" in result.stderr
    assert "Error: " in result.stderr
    assert "Traceback" not in result.stderr


# The app.


@pytest.mark.parametrize(
    "arguments",
    [
        ("worker",),
        ("defer", "add"),
        ("schema", "--apply"),
        ("healthchecks",),
        ("jobs",),
        ("cancel", "1"),
        ("shell", "list_jobs"),
    ],
)
def test_without_an_app(offline, arguments):
    result = offline.run(*arguments)
    assert result.returncode == 1
    assert "--app" in result.stderr
    assert "PROCRASTINATE_APP" in result.stderr
    assert "Traceback" not in result.stderr


def test_app_module_is_missing(offline):
    result = offline.run("--app", "no_such_module.app", "healthchecks")
    assert result.returncode == 2
    assert "Could not load app from no_such_module.app" in result.stderr
    assert "No module named 'no_such_module'" in result.stderr


def test_app_modules_own_import_error_is_shown(offline):
    (offline.folder / "broken.py").write_text("import not_installed_here\n")
    result = offline.run("-a", "broken.app", "healthchecks")
    assert result.returncode == 2
    assert "not_installed_here" in result.stderr
    assert f'File "{offline.folder}/broken.py", line 1' in result.stderr
    assert "importlib" not in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in offline.run("-v", "-a", "broken.app", "healthchecks").stderr


def test_app_modules_own_bug_is_shown(offline):
    (offline.folder / "buggy.py").write_text("1 / 0\n")
    result = offline.run("-a", "buggy.app", "healthchecks")
    assert result.returncode == 2
    assert "ZeroDivisionError: division by zero" in result.stderr


def test_app_modules_error_is_shown_where_it_is(offline):
    (offline.folder / "outer.py").write_text("import os\nimport inner\n")
    (offline.folder / "inner.py").write_text("def make():\n    raise LookupError('no such setting')\n\nmake()\n")
    result = offline.run("-a", "outer.app", "healthchecks")
    assert result.returncode == 2
    places = re.findall(r'(\w+\.py)", line (\d+)', result.stderr)
    assert places == [("outer.py", "2"), ("inner.py", "4"), ("inner.py", "2")]
    assert "LookupError: no such setting" in result.stderr


def test_app_module_that_is_no_python(offline):
    (offline.folder / "nonsense.py").write_text("x = 1\ndef f(:\n")
    result = offline.run("-a", "nonsense.app", "healthchecks")
    assert result.returncode == 2
    assert "SyntaxError" in result.stderr
    assert f'File "{offline.folder}/nonsense.py", line 2' in result.stderr


def test_app_path_names_something_else(offline):
    (offline.folder / "strange.py").write_text("app = 42\n")
    result = offline.run("-a", "strange.app", "healthchecks")
    assert result.returncode == 2
    assert "int" in result.stderr


def test_sync_connector(offline):
    (offline.folder / "sync_app.py").write_text(
        "import procrastinate\napp = procrastinate.App(connector=procrastinate.SyncPsycopgConnector())\n"
    )
    result = offline.run("-a", "sync_app.app", "healthchecks")
    assert result.returncode == 2
    assert "is not async" in result.stderr


@pytest.mark.parametrize("is_module", [False, True])
def test_app_in_the_current_folder(cli, is_module):
    (cli.folder / "here.py").write_text("from acceptance_app import app\n")
    arguments = ("--app", "here.app", "healthchecks")
    result = cli.python("-m", "procrastinate", *arguments) if is_module else cli.run(*arguments)
    assert result.returncode == 0, result.stderr


# healthchecks


def test_healthchecks(cli):
    result = cli.run("healthchecks")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "App configuration: OK\nDB connection: OK\nFound procrastinate_jobs table: OK\n"


def test_healthchecks_without_tables(on_empty):
    result = on_empty.run("healthchecks")
    assert result.returncode == 1
    assert result.stdout == "App configuration: OK\nDB connection: OK\n"
    assert "procrastinate_jobs table was not found" in result.stderr
    assert "procrastinate schema -h" in result.stderr


# schema


def test_schema_read(offline):
    result = offline.run("schema", "--read")
    assert result.returncode == 0
    assert result.stdout.startswith("-- Procrastinate Schema")
    assert result.stdout.endswith("\n")
    assert result.stderr == ""


def test_schema_read_into_a_closed_pipe(offline):
    result = offline.python(
        "-c",
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-m', 'procrastinate', 'schema', '--read'],"
        " stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n"
        "p.stdout.close()\n"
        "print(p.stderr.read().decode())\n",
    )
    assert "Traceback" not in result.stdout


def test_schema_migrations_path(offline):
    result = offline.run("schema", "--migrations-path")
    assert result.returncode == 0
    assert result.stdout.endswith("sql/migrations\n")


def test_schema_last_action_wins(offline):
    assert offline.run("schema", "--apply", "--read", "--migrations-path").stdout.endswith("sql/migrations\n")


@pytest.mark.parametrize("arguments", [("schema",), ("schema", "--apply")])
def test_schema_apply(on_empty, empty_database, arguments):
    result = on_empty.run(*arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert result.stderr.splitlines() == ["Applying schema", "Done"]
    assert on_empty.run("healthchecks").returncode == 0


def test_schema_applied_twice(on_empty):
    assert on_empty.run("schema", "--apply").returncode == 0
    result = on_empty.run("schema", "--apply")
    assert result.returncode == 0, result.stderr
    assert "already applied" in result.stderr


def test_schema_applied_by_many_at_once(on_empty):
    processes = [on_empty.start("schema", "--apply") for _ in range(3)]
    assert [running.end(30) for running in processes] == [0, 0, 0], [running.stderr for running in processes]
    assert sum("already applied" in running.stderr for running in processes) == 2


def test_schema_read_is_what_apply_does(on_empty, empty_database):
    script = on_empty.run("schema", "--read").stdout
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(script.encode())
    assert "already applied" in on_empty.run("schema", "--apply").stderr


def test_schema_of_somebody_else(on_empty, empty_database):
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("create table procrastinate_jobs (id bigserial primary key)")
    result = on_empty.run("schema", "--apply")
    assert result.returncode == 1
    assert "already exists" in result.stderr
    assert "nothing was changed" in result.stderr
    assert "Traceback" not in result.stderr
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("select to_regclass('procrastinate_workers')").fetchone() == (None,)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("delete from procrastinate_migrations", "not applied yet"),
        ("insert into procrastinate_migrations (name, checksum) values ('99.00', 'x')", "unknown to this version"),
        ("update procrastinate_migrations set checksum = 'x'", "applied with another text"),
    ],
)
def test_schema_of_another_version(cli, connection, change, complaint):
    connection.execute(change)
    result = cli.run("schema", "--apply")
    assert result.returncode == 1
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


# defer


def only_row(connection, columns="task_name, args, queue_name, priority, lock, queueing_lock, status::text"):
    [row] = connection.execute(f"select {columns} from procrastinate_jobs").fetchall()
    return row


def test_defer_prints_only_the_id(cli, connection):
    result = cli.run("defer", "add", '{"a": 1, "b": 2}')
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"\d+\n", result.stdout)
    assert "Launching a job: add(a=1, b=2)" in result.stderr
    assert "Deferred 1 job" in result.stderr
    assert only_row(connection, "id") == (int(result.stdout),)
    assert only_row(connection) == ("add", {"a": 1, "b": 2}, "default", 0, None, None, "todo")


def test_defer_all_options(in_process, connection):
    arguments = ("--queue", "q", "--lock=l", "--queueing-lock", "ql", "--priority", "-5")
    # Options may follow the arguments.
    result = in_process.run("defer", "plus", "a=1", *arguments, "b=2")
    assert result.returncode == 0, result.stderr
    assert only_row(connection) == ("add", {"a": 1, "b": 2}, "q", -5, "l", "ql", "todo")


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ([], {}),
        ([""], {}),
        (["{}"], {}),
        (["x=1", "y=text", "z=[1, null]", 'w="1"', "v=", "u=a=b"], {"x": 1, "y": "text", "z": [1, None], "w": "1"}),
        (["x=-1.5", "y=true", "z=NaN", "n=1e999"], {"x": -1.5, "y": True, "z": "NaN", "n": "1e999"}),
        (['{"a": "x=1"}', "a=2"], {"a": 2}),
        (["a=1", '{"a": 3, "b c": 4}'], {"a": 3, "b c": 4}),
        (["a=ü🎉"], {"a": "ü🎉"}),
    ],
)
def test_defer_arguments(in_process, connection, words, arguments):
    if "v=" in words:
        arguments = {**arguments, "v": "", "u": "a=b"}
    result = in_process.run("defer", "anything", *words)
    assert result.returncode == 0, result.stderr
    assert only_row(connection, "args") == (arguments,)


@pytest.mark.parametrize("word", ["[1]", '"x"', "{", "nonsense", "=1", '{"a": NaN}', "[" * 100_000])
def test_defer_arguments_that_are_none(in_process, connection, jobs_table, word):
    result = in_process.run("defer", "anything", word)
    assert result.returncode == 1
    assert "Incorrect JSON_ARGS value expecting a valid json object (or dict)" in result.stderr
    assert "Traceback" not in result.stderr
    assert jobs_table.column("id") == []


UTC = datetime.UTC


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2030-01-02T03:04:05+01:00", datetime.datetime(2030, 1, 2, 2, 4, 5, tzinfo=UTC)),
        ("2030-01-02T03:04:05Z", datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2030-01-02 03:04:05", datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2030-01-02", datetime.datetime(2030, 1, 2, tzinfo=UTC)),
        ("Jan 5 2033 3pm", datetime.datetime(2033, 1, 5, 15, tzinfo=UTC)),
        ("Jan 5 2033 3pm +02:00", datetime.datetime(2033, 1, 5, 13, tzinfo=UTC)),
    ],
)
def test_defer_at(in_process, connection, text, moment):
    result = in_process.run("defer", "anything", "--at", text)
    assert result.returncode == 0, result.stderr
    assert only_row(connection, "scheduled_at") == (moment,)


def test_defer_at_does_not_depend_on_the_machines_time_zone(cli, jobs_table):
    for text in ("2030-01-02", "Jan 2 2030"):
        assert cli.run("defer", "anything", "--at", text, TZ="America/New_York").returncode == 0
    assert jobs_table.column("scheduled_at") == [datetime.datetime(2030, 1, 2, tzinfo=UTC)] * 2


def test_defer_at_in_an_unknown_time_zone(in_process):
    result = in_process.run("defer", "anything", "--at", "Jan 5 2033 3pm XYZ")
    assert result.returncode == 2
    assert "time zone" in result.stderr


@pytest.mark.parametrize(("seconds", "expected"), [("3600", 3600), ("-60", -60), ("1.5", 1.5)])
def test_defer_in(in_process, connection, seconds, expected):
    result = in_process.run("defer", "anything", "--in", seconds)
    assert result.returncode == 0, result.stderr
    [delay] = only_row(connection, "extract(epoch from scheduled_at - now())")
    assert expected - 30 < delay <= expected + 1


def test_defer_unknown_task(in_process, connection):
    result = in_process.run("defer", "nobody.knows")
    assert result.returncode == 1
    assert "nobody.knows" in result.stderr
    assert result.stdout == ""
    result = in_process.run("defer", "--unknown", "nobody.knows", "x=1")
    assert result.returncode == 0, result.stderr
    assert only_row(connection)[:3] == ("nobody.knows", {"x": 1}, "default")


def test_defer_already_enqueued(cli, jobs_table):
    assert cli.run("defer", "anything", "--queueing-lock", "q").returncode == 0
    result = cli.run("defer", "anything", "--queueing-lock", "q")
    assert result.returncode == 1
    assert result.stdout == ""
    sentence = "Job cannot be enqueued: there is already a job in the queue with the queueing lock q"
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    for flag in ("-i", "--ignore-already-enqueued"):
        result = cli.run("defer", flag, "anything", "--queueing-lock", "q")
        assert result.returncode == 0
        assert result.stdout == ""
        assert f"{sentence} (ignored)" in result.stderr
    assert len(jobs_table.column("id")) == 1


def test_defer_variables(in_process, connection):
    result = in_process.run(
        "defer",
        "anything",
        PROCRASTINATE_DEFER_JSON_ARGS='{"a": 1}',
        PROCRASTINATE_DEFER_QUEUE="q",
        PROCRASTINATE_DEFER_LOCK="l",
        PROCRASTINATE_DEFER_QUEUEING_LOCK="ql",
        PROCRASTINATE_DEFER_PRIORITY="-7",
        PROCRASTINATE_DEFER_AT="2030-01-01",
        PROCRASTINATE_DEFER_IN="",
        PROCRASTINATE_WORKER_CONCURRENCY="not the business of this command",
    )
    assert result.returncode == 0, result.stderr
    assert only_row(connection) == ("anything", {"a": 1}, "q", -7, "l", "ql", "todo")
    assert in_process.run("defer", "anything", PROCRASTINATE_DEFER_QUEUEING_LOCK="ql").returncode == 1
    result = in_process.run(
        "defer", "anything", PROCRASTINATE_DEFER_QUEUEING_LOCK="ql", PROCRASTINATE_DEFER_IGNORE_ALREADY_ENQUEUED="Yes"
    )
    assert result.returncode == 0, result.stderr
    assert in_process.run("defer", "who", PROCRASTINATE_DEFER_UNKNOWN="t").returncode == 0
    assert in_process.run("defer", "who", "--no-unknown", PROCRASTINATE_DEFER_UNKNOWN="t").returncode == 1
    both = {"PROCRASTINATE_DEFER_AT": "2030-01-01", "PROCRASTINATE_DEFER_IN": "5"}
    assert in_process.run("defer", "anything", **both).returncode == 2


def test_defer_falsy_priority_from_the_environment(cli, connection):
    (cli.folder / "urgent.py").write_text(
        "from acceptance_app import app\n@app.task(name='urgent', priority=9)\ndef urgent(): pass\n"
    )
    cli.environment["PROCRASTINATE_APP"] = "urgent.app"
    assert cli.run("defer", "urgent").returncode == 0
    assert cli.run("defer", "urgent", PROCRASTINATE_DEFER_PRIORITY="0").returncode == 0
    assert connection.execute("select array_agg(priority order by id) from procrastinate_jobs").fetchone() == ([9, 0],)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROCRASTINATE_DEFER_PRIORITY", "high"),
        ("PROCRASTINATE_DEFER_IN", "soon"),
        ("PROCRASTINATE_DEFER_AT", "then"),
        ("PROCRASTINATE_DEFER_UNKNOWN", "perhaps"),
        ("PROCRASTINATE_LOG_LEVEL", "LOUD"),
        ("PROCRASTINATE_VERBOSE", "very"),
        ("PROCRASTINATE_VERBOSITY", "very"),
        ("PROCRASTINATE_LOG_FORMAT_STYLE", "?"),
    ],
)
def test_bad_variable(in_process, name, value):
    result = in_process.run("defer", "anything", **{name: value})
    assert result.returncode == 2
    assert name in result.stderr
    assert "Traceback" not in result.stderr


# worker

RECORDER = """
import procrastinate, procrastinate.testing, json, sys

class Recorder(procrastinate.App):
    async def run_worker_async(self, **options):
        print(json.dumps(options))

app = Recorder(connector=procrastinate.testing.InMemoryConnector(), worker_defaults={"queues": ["d"]})
"""


@pytest.fixture
def recorder(in_process, tmp_path):
    """Run `procrastinate worker …`, and return the options that reach the app, and standard error."""
    (tmp_path / "recorder.py").write_text(RECORDER)

    def options_of(*arguments: str, **variables: str):
        result = in_process.run("worker", *arguments, PROCRASTINATE_APP="recorder.app", **variables)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout), result.stderr

    return options_of


def test_worker_forwards_only_what_is_given(recorder):
    options, stderr = recorder()
    assert options == {}
    assert "Launching a worker on d" in stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-n", "me"), {"name": "me"}),
        (("-q", "a, b,,"), {"queues": ["a", "b"]}),
        (("-q", ""), {"queues": None}),
        (("a", "b"), {"queues": ["a", "b"]}),
        (("a", "-q", "b"), {"queues": ["a", "b"]}),
        (("-c", "7"), {"concurrency": 7}),
        (("-p", "1.5"), {"fetch_job_polling_interval": 1.5}),
        (("-a", "0"), {"abort_job_polling_interval": 0.0}),
        (("--shutdown-graceful-timeout", "0"), {"shutdown_graceful_timeout": 0.0}),
        (("-w",), {"wait": True}),
        (("--one-shot",), {"wait": False}),
        (("--one-shot", "--wait"), {"wait": True}),
        (("-l",), {"listen_notify": True}),
        (("--no-listen-notify",), {"listen_notify": False}),
        (("--delete-jobs=always",), {"delete_jobs": "always"}),
    ],
)
def test_worker_options(recorder, arguments, expected):
    assert recorder(*arguments)[0] == expected


@pytest.mark.parametrize(
    ("suffix", "value", "expected"),
    [
        ("NAME", "me", {"name": "me"}),
        ("QUEUES", "a,b", {"queues": ["a", "b"]}),
        ("CONCURRENCY", "3", {"concurrency": 3}),
        ("CONCURRENCY", "", {}),
        ("FETCH_JOB_POLLING_INTERVAL", "2", {"fetch_job_polling_interval": 2.0}),
        ("ABORT_JOB_POLLING_INTERVAL", "0", {"abort_job_polling_interval": 0.0}),
        ("SHUTDOWN_GRACEFUL_TIMEOUT", "0", {"shutdown_graceful_timeout": 0.0}),
        ("WAIT", "0", {"wait": False}),
        ("WAIT", "False", {"wait": False}),
        ("WAIT", "y", {"wait": True}),
        ("WAIT", "", {}),
        ("LISTEN_NOTIFY", "no", {"listen_notify": False}),
        ("LISTEN_NOTIFY", "TRUE", {"listen_notify": True}),
        ("DELETE_JOBS", "successful", {"delete_jobs": "successful"}),
    ],
)
def test_worker_variables(recorder, suffix, value, expected):
    assert recorder(**{f"PROCRASTINATE_WORKER_{suffix}": value})[0] == expected


def test_command_line_beats_environment(recorder):
    options, stderr = recorder(
        "x", "--wait", PROCRASTINATE_WORKER_QUEUES="y", PROCRASTINATE_WORKER_WAIT="0", PROCRASTINATE_WORKER_NAME="n"
    )
    assert options == {"queues": ["x"], "wait": True, "name": "n"}
    assert "Launching a worker on x" in stderr
    assert "Launching a worker on all queues" in recorder("-q", "")[1]


def test_worker_runs_jobs(cli, jobs_table):
    wanted = cli.run("defer", "add", "a=1", "b=2").stdout
    other = cli.run("defer", "--queue", "other", "add", "a=1", "b=2").stdout
    result = cli.run("worker", "--one-shot", "default")
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert jobs_table.status(wanted) == "succeeded"
    assert jobs_table.status(other) == "todo"


def test_worker_that_ends_for_an_error(on_empty):
    result = on_empty.run("worker", "--one-shot")
    assert result.returncode == 1
    assert "procrastinate schema --apply" in result.stderr
    assert "Traceback" not in result.stderr


# Logs


def test_log_goes_to_stderr_in_the_given_format(cli):
    arguments = ("--log-level", "debug", "--log-format", "<{levelname}|{message}>", "--log-format-style", "{")
    result = cli.run(*arguments, "defer", "anything")
    assert result.returncode == 0, result.stderr
    assert "<DEBUG|Log level set to DEBUG>" in result.stderr
    assert re.fullmatch(r"\d+\n", result.stdout)


def test_log_level(cli):
    message = "Log level set to DEBUG"
    assert message in cli.run("-v", "healthchecks").stderr
    assert message in cli.run("healthchecks", PROCRASTINATE_VERBOSE="3").stderr
    assert message in cli.run("healthchecks", PROCRASTINATE_VERBOSITY="2").stderr
    assert message not in cli.run("healthchecks", PROCRASTINATE_VERBOSE="0").stderr
    assert message not in cli.run("healthchecks", PROCRASTINATE_VERBOSE="").stderr
    quiet = {"PROCRASTINATE_VERBOSE": "1", "PROCRASTINATE_LOG_LEVEL": "error"}
    assert message not in cli.run("healthchecks", **quiet).stderr
    assert message in cli.run("-v", "healthchecks", **quiet).stderr
    assert "Deferred" not in cli.run("--log-level", "warning", "defer", "anything").stderr


def test_traceback_only_at_debug_level(cli):
    assert "Traceback" not in cli.run("defer", "nobody.knows").stderr
    assert "Exception details:" in cli.run("-v", "defer", "nobody.knows").stderr


def test_wait_until_gives_up():
    with pytest.raises(AssertionError, match="did not happen"):
        wait_until(lambda: False, seconds=0.05, what="nothing")


def test_the_interpreter_is_the_one_under_test(offline):
    assert offline.python("-c", "import sys; print(sys.prefix)").stdout.strip() == sys.prefix

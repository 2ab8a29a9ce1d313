"""What the command line offers to other programs, and to the shells that complete it."""

from __future__ import annotations

import json
import logging

import click
import pytest

import procrastinate
from procrastinate import cli, exceptions, testing
from procrastinate.cli import groups, loading


@pytest.fixture
def app():
    app = procrastinate.App(connector=testing.InMemoryConnector())

    @app.task(name="add", queueing_lock="one")
    def add(a, b=0):
        pass

    return app


def rows(app):
    return [(row["task_name"], row["args"]) for row in app.connector.jobs.values()]


# Functions


def test_names():
    assert cli.PROGRAM_NAME == "procrastinate"
    assert cli.ENV_PREFIX == "PROCRASTINATE"
    for name in cli.__all__:
        assert getattr(cli, name) is not None
    with pytest.raises(AttributeError, match="create_parser"):
        _ = cli.create_parser


def test_print_stderr(capsys):
    cli.print_stderr("a", 1)
    assert capsys.readouterr() == ("", "a 1\n")


def test_load_app(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some_app.py").write_text(
        "import procrastinate\nfrom procrastinate import testing\n"
        "app = procrastinate.App(connector=testing.InMemoryConnector())\n"
    )
    assert isinstance(cli.load_app("some_app.app"), procrastinate.App)
    with pytest.raises(click.UsageError, match=r"Could not load app from some_app\.nothing"):
        cli.load_app("some_app.nothing")
    with pytest.raises(exceptions.MissingApp):
        cli.load_app("")


@pytest.mark.parametrize(("text", "queues"), [("a, b ,,", ["a", "b"]), ("", None), (" , ", None)])
def test_cast_queues(text, queues):
    assert cli.cast_queues(text) == queues


def test_env_bool():
    assert [cli.env_bool(text) for text in ("1", "Yes", "TRUE", "t")] == [True] * 4
    assert [cli.env_bool(text) for text in ("0", "no", "False", " N")] == [False] * 4
    for text in ("", "maybe", "2"):
        with pytest.raises(ValueError, match="neither yes nor no"):
            cli.env_bool(text)


def test_load_json_args():
    assert cli.load_json_args('{"a": 1}', json.loads) == {"a": 1}
    assert cli.load_json_args("", json.loads) == {}
    assert cli.load_json_args(None) == {}
    assert cli.load_json_args(['{"a": 1}', "a=2", "b=x"]) == {"a": 2, "b": "x"}
    assert cli.load_json_args('{"a": 1}', lambda _: {"read": "otherwise"}) == {"read": "otherwise"}
    with pytest.raises(click.ClickException, match="Incorrect JSON_ARGS value"):
        cli.load_json_args("[1]", json.loads)


def test_configure_task(app):
    assert cli.configure_task(app, "add", {"queue": "q"}, allow_unknown=False).job.queue == "q"
    assert cli.configure_task(app, "else", {}, allow_unknown=True).job.task_name == "else"
    with pytest.raises(exceptions.TaskNotFound):
        cli.configure_task(app, "else", {}, allow_unknown=False)


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        ({}, logging.INFO),
        ({"verbosity": 0}, logging.INFO),
        ({"verbosity": 1}, logging.DEBUG),
        ({"verbosity": 2, "log_level": "error"}, logging.ERROR),
        ({"log_level": "warning"}, logging.WARNING),
    ],
)
def test_get_log_level(arguments, level):
    assert cli.get_log_level(**arguments) == level


def test_configure_logging(offline):
    program = (
        "import logging\nfrom procrastinate import cli\n"
        "cli.configure_logging(log_level='debug', format='<{message}>', style='{')\n"
        "logging.getLogger('mine').info('hello')\n"
    )
    assert offline.python("-c", program).stderr == "<Log level set to DEBUG>\n<hello>\n"


async def test_defer(app, capsys):
    async with app.open_async():
        await cli.defer(app, "add", '{"a": 1}', ignore_already_enqueued=False, unknown=False, priority=3)
        assert capsys.readouterr() == ("1\n", "Launching a job: add(a=1)\n")
        await cli.defer(app, "add", '{"a": 1}', ignore_already_enqueued=True, unknown=False)
        assert "(ignored)" in capsys.readouterr().err
        with pytest.raises(exceptions.AlreadyEnqueued):
            await cli.defer(app, "add", '{"a": 1}', ignore_already_enqueued=False, unknown=False)
    assert rows(app) == [("add", {"a": 1})]
    assert app.connector.jobs[1]["priority"] == 3


async def test_worker(app, capsys):
    async with app.open_async():
        await app.configure_task("add").defer_async(a=1)
        await cli.worker_(app, wait=False, queues=["default"], install_signal_handlers=False)
    assert app.connector.jobs[1]["status"] == "succeeded"
    assert "Launching a worker on default" in capsys.readouterr().err


async def test_healthchecks(app, capsys):
    await cli.healthchecks(app)
    assert capsys.readouterr().out.splitlines()[-1] == "Found procrastinate_jobs table: OK"
    app.connector.table_exists = False
    with pytest.raises(click.ClickException, match="procrastinate_jobs table was not found"):
        await cli.healthchecks(app)


async def test_schema(capsys):
    await cli.schema(None, "migrations_path")
    assert capsys.readouterr().out.endswith("sql/migrations\n")
    await cli.schema(None, "read")
    assert "create table procrastinate_jobs" in capsys.readouterr().out
    with pytest.raises(exceptions.MissingApp):
        await cli.schema(None)


# Commands for an app that another program has


def test_commands_of_another_program(app, capsys):
    chosen = {name: cli.COMMANDS[name] for name in ("worker", "defer", "jobs")}
    program = groups.LazyGroup("manage.py procrastinate", commands=chosen)

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            program.main(list(arguments), obj=loading.GlobalOptions(app=app))
        return end.value.code

    assert run("defer", "add", "a=1") == 0
    assert run("worker", "--one-shot") == 0
    assert run("jobs", "--json") == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2])[0]["status"] == "succeeded"
    assert run("schema") == 2
    assert run("defer", "unknown") == 1
    assert "Task 'unknown' is not known" in capsys.readouterr().err


# Completion


def complete(commands, line, **variables):
    words = line.split(" ")
    completing = {
        "_PROCRASTINATE_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    result = commands.run(**completing, **variables)
    assert result.stderr == ""
    return [line.partition(",")[2] for line in result.stdout.splitlines() if line]


@pytest.fixture
def with_app(offline):
    (offline.folder / "an_app.py").write_text(
        "print('hello')\nimport procrastinate\nfrom procrastinate import testing\n"
        "app = procrastinate.App(connector=testing.InMemoryConnector(), import_paths=['more_tasks'])\n"
        "@app.task(name='mail', queue='slow')\ndef mail(): pass\n"
    )
    (offline.folder / "more_tasks.py").write_text(
        "from an_app import app\n@app.task(name='map', queue='small')\ndef map_(): pass\n"
    )
    offline.environment["PROCRASTINATE_APP"] = "an_app.app"
    return offline


def test_completion_of_tasks(with_app):
    assert complete(with_app, "procrastinate defer ma") == ["mail", "map"]
    del with_app.environment["PROCRASTINATE_APP"]
    assert complete(with_app, "procrastinate --app an_app.app defer ma") == ["mail", "map"]


def test_completion_of_queues(with_app):
    assert complete(with_app, "procrastinate worker s") == ["slow", "small"]
    assert complete(with_app, "procrastinate worker -q slow,sm") == ["slow,small"]


def test_completion_of_commands_and_options(offline):
    assert complete(offline, "procrastinate he") == ["healthchecks"]
    assert complete(offline, "procrastinate jobs --status s") == ["succeeded"]
    assert "--abort" in complete(offline, "procrastinate cancel --")


def test_completion_swallows_errors(offline):
    assert complete(offline, "procrastinate defer ma") == []
    (offline.folder / "broken.py").write_text("import sys\nprint('x', file=sys.stderr)\nsys.exit('no settings')\n")
    assert complete(offline, "procrastinate defer ma", PROCRASTINATE_APP="broken.app") == []
    assert complete(offline, "procrastinate worker ma", PROCRASTINATE_APP="nothing.app") == []


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete "), ("zsh", "#compdef procrastinate"), ("fish", "complete ")]
)
def test_completion_script(offline, shell, word):
    result = offline.run("completion", shell)
    assert result.returncode == 0, result.stderr
    assert word in result.stdout
    assert f"_PROCRASTINATE_COMPLETE={shell}_complete" in result.stdout

"""`procrastinate postgres …`, as a person or a script calls it."""

from __future__ import annotations

import psycopg
import pytest
from click.testing import CliRunner

from procrastinate import embedded
from procrastinate.cli.commands.postgres import NOT_RUNNING, postgres


@pytest.fixture
def run(folder):
    def run(command, *arguments):
        return CliRunner().invoke(postgres, [command, "--data-dir", str(folder / "kept"), *arguments])

    return run


def test_life_of_a_server(run, postgres_version):
    started = run("start", "--pg-version", str(postgres_version))
    assert started.exit_code == 0, started.output
    dsn = started.stdout.strip()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create table kept ()")
    assert run("start").stdout.strip() == dsn
    assert run("conninfo").stdout.strip() == dsn
    status = run("status")
    assert status.exit_code == 0
    assert f"PostgreSQL {postgres_version}." in status.stdout

    assert run("stop").exit_code == 0
    assert run("status").exit_code == NOT_RUNNING
    assert run("stop").exit_code == 0

    assert run("start", "--listen", "loopback").exit_code == 0
    with psycopg.connect(run("conninfo").stdout.strip()) as connection:
        connection.execute("table kept")


def test_conninfo_of_no_server_is_an_error_that_says_what_to_do(run, folder):
    result = run("conninfo")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "procrastinate postgres start" in result.stderr
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("command", ["start", "stop", "status", "conninfo"])
def test_commands_leave_foreign_folders_alone(run, folder, command):
    (folder / "kept").mkdir()
    (folder / "kept" / "thesis.txt").touch()
    result = run(command)
    assert result.exit_code == {"start": 1, "stop": 0, "status": NOT_RUNNING, "conninfo": 1}[command]
    assert [path.name for path in (folder / "kept").iterdir()] == ["thesis.txt"]


def test_default_folder(monkeypatch, folder):
    monkeypatch.setenv("XDG_DATA_HOME", str(folder))
    result = CliRunner().invoke(postgres, ["status"])
    assert result.exit_code == NOT_RUNNING
    assert str(embedded.default_data_dir()) in result.stdout


def test_help_speaks_of_every_command():
    result = CliRunner().invoke(postgres, ["--help"])
    assert all(command in result.stdout for command in ("start", "stop", "status", "conninfo"))

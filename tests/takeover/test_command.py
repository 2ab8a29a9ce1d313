"""`procrastinate schema --upgrade` and `--verify`, as users run them."""

from __future__ import annotations

import psycopg
import pytest

from acceptance.acceptance_tools import Commands, wait_until
from procrastinate.store import migrations
from takeover import support


@pytest.fixture
def commands(tmp_path):
    return lambda conninfo: Commands(tmp_path, conninfo)


def test_taken_over(commands, old, old_database):
    support.jobs_in_every_state(old)
    cli = commands(old_database)
    refused = cli.run("worker", "--one-shot")
    assert refused.returncode == 1
    assert migrations.OTHER_TABLES in refused.stderr
    assert "Traceback" not in refused.stderr

    result = cli.run("schema", "--upgrade")
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0] == "Adopting the tables, triggers and functions"
    assert lines[-1] == "Done"

    again = cli.run("schema", "--upgrade")
    assert (again.returncode, again.stderr) == (0, "The schema is up to date; nothing was changed.\n")
    verified = cli.run("schema", "--verify")
    assert (verified.returncode, verified.stdout) == (0, "")
    assert cli.run("schema", "--apply").returncode == 0


def test_printed(commands, old, old_database):
    cli = commands(old_database)
    before = support.catalog(old)
    result = cli.run("schema", "--upgrade", "--sql")
    assert result.returncode == 0
    assert result.stderr == ""
    assert support.catalog(old) == before
    for statement in migrations.statements(result.stdout):
        old.execute(statement)
    assert cli.run("schema", "--verify").returncode == 0
    assert cli.run("schema", "--upgrade", "--sql").stdout == "-- The schema is up to date.\n"


def test_live_workers(commands, old, old_database):
    old.execute("insert into procrastinate_workers default values")
    cli = commands(old_database)
    refused = cli.run("schema", "--upgrade")
    assert refused.returncode == 1
    assert "stop them first" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert cli.run("schema", "--upgrade", "--force", "--keep-events").returncode == 0
    assert old.execute("select count(*) from procrastinate_old_events").fetchone() == (0,)


def test_killed_while_an_index_is_built(commands, old, old_database):
    support.jobs_in_every_state(old)
    events = support.events(old)
    cli = commands(old_database)
    with psycopg.connect(old_database) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        # Whoever builds an index waits for those whose snapshot is older.
        reader.execute("select now()")
        running = cli.start("schema", "--upgrade")
        wait_until(lambda: old.execute("select from pg_stat_progress_create_index").fetchall())
        running.process.kill()
        running.process.wait()
        pids = [pid for (pid,) in old.execute("select pid from pg_stat_progress_create_index")]
    # Its server process goes on to the end of the statement, or is ended by an administrator.
    for pid in pids:
        old.execute("select pg_terminate_backend(%s, 20000)", [pid])
    assert any("not finished" in line for line in cli.run("schema", "--verify").stdout.splitlines())
    old.execute("update procrastinate_takeover set seen_at = now() - interval '31 seconds' where part = 'turn'")
    result = cli.run("schema", "--upgrade")
    assert result.returncode == 0, result.stderr
    assert "Adopting" not in result.stderr
    assert cli.run("schema", "--verify").returncode == 0
    assert set(events) <= set(support.events(old))


def test_apply_names_the_command(commands, old_database):
    result = commands(old_database).run("schema", "--apply")
    assert result.returncode == 1
    assert "procrastinate schema --upgrade" in result.stderr


def test_created(commands, empty_database):
    cli = commands(empty_database)
    verified = cli.run("schema", "--verify")
    assert verified.returncode == 1
    assert verified.stdout.strip() == migrations.NO_TABLES
    assert cli.run("schema", "--upgrade").stderr.splitlines() == ["Creating the tables", "Done"]
    assert cli.run("schema", "--verify").returncode == 0


def test_verified(commands, database, connection):
    connection.execute("drop index procrastinate_jobs_due_idx_v1")
    result = commands(database).run("schema", "--verify")
    assert result.returncode == 1
    assert result.stdout == "missing: index procrastinate_jobs.procrastinate_jobs_due_idx_v1\n"


@pytest.mark.parametrize("option", ["--sql", "--force", "--pre", "--keep-events"])
def test_options_of_an_upgrade_alone(commands, empty_database, option):
    result = commands(empty_database).run("schema", "--apply", option)
    assert result.returncode == 2
    assert "go with --upgrade" in result.stderr

"""`procrastinate healthchecks`: what it looks at, what it prints, and with which exit code it ends."""

from __future__ import annotations

import json

import pytest

APP = "App configuration: OK\nDB connection: OK\nFound procrastinate_jobs table: OK\n"


@pytest.fixture
def cli(procrastinate_command):
    return procrastinate_command


@pytest.fixture
def add_worker(jobs_table):
    def add(silent_for: str = "0 s") -> int:
        query = "insert into procrastinate_workers (last_heartbeat) values (now() - %s::interval) returning id"
        return jobs_table.connection.execute(query, [silent_for]).fetchone()[0]

    return add


def checks(result) -> dict[str, dict]:
    return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


def test_a_worker_must_live(cli, add_worker):
    result = cli.run("healthchecks", "--require-worker")
    assert (result.returncode, result.stdout) == (1, f"{APP}Version of the tables: OK\n")
    assert result.stderr == "Error: No worker is alive, and 0 gave no sign of life lately.\n"
    add_worker("1 min")
    result = cli.run("healthchecks", "--require-worker")
    assert result.stderr == "Error: No worker is alive, and 1 gave no sign of life lately.\n"
    assert cli.run("healthchecks", "--require-worker", "--stalled-after", "300").returncode == 0
    add_worker()
    result = cli.run("healthchecks", "--require-worker")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("Workers alive: 1: OK\n")


def test_the_lag(cli, insert_job, jobs_table):
    assert cli.run("healthchecks", "--max-lag", "0").returncode == 0
    insert_job(queue_name="slow")
    insert_job(queue_name="fast")
    jobs_table.connection.execute(
        "update procrastinate_jobs set created_at = now() - interval '1 hour' where queue_name = 'slow'"
    )
    result = cli.run("healthchecks", "--max-lag", "60")
    assert result.returncode == 1
    assert "Queue lag, longest in slow, in seconds: 36" in result.stderr
    assert result.stderr.endswith(", allowed are 60.\n")
    result = cli.run("healthchecks", "--max-lag", "60", "--queues", "fast,other")
    assert result.returncode == 0, result.stderr
    assert "Queue lag, longest in fast: " in result.stdout
    assert cli.run("healthchecks", "--max-lag", "86400").returncode == 0


def test_stalled_jobs(cli, insert_job, add_worker):
    insert_job(status="doing", worker_id=add_worker())
    insert_job(status="doing", worker_id=add_worker("1 min"))
    insert_job(status="doing", worker_id=None)
    result = cli.run("healthchecks", "--max-stalled-jobs", "1")
    assert result.returncode == 1
    assert result.stderr == "Error: Running jobs without a living worker: 2, allowed are 1.\n"
    result = cli.run("healthchecks", "--max-stalled-jobs", "2")
    assert (result.returncode, result.stdout) == (0, f"{APP}Version of the tables: OK\nStalled jobs: 2: OK\n")


def test_everything_that_is_wrong_is_told(cli, insert_job, jobs_table):
    insert_job(status="doing", worker_id=None)
    insert_job()
    jobs_table.connection.execute("update procrastinate_jobs set created_at = now() - interval '1 hour'")
    result = cli.run("healthchecks", "--max-stalled-jobs=0", "--require-worker", "--max-lag=1")
    assert result.returncode == 1
    assert result.stderr.count("Error: ") == 3


def test_json(cli, insert_job, add_worker):
    insert_job(status="doing", worker_id=add_worker("1 min"))
    insert_job(queue_name="mail")
    add_worker()
    result = cli.run("healthchecks", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["healthy"] is True
    found = checks(result)
    assert list(found) == ["app", "database", "tables", "schema", "workers", "stalled_jobs", "lag"]
    assert all(check["ok"] and check["problem"] is None for check in found.values())
    assert (found["workers"]["alive"], found["workers"]["silent"]) == (1, 1)
    assert found["stalled_jobs"]["count"] == 1
    assert found["lag"]["queues"].keys() == {"mail"}
    assert found["lag"]["seconds"] == found["lag"]["queues"]["mail"] >= 0
    result = cli.run("healthchecks", "--json", "--max-stalled-jobs=0")
    assert result.returncode == 1
    assert json.loads(result.stdout)["healthy"] is False
    assert not checks(result)["stalled_jobs"]["ok"]


def test_json_without_a_server(cli):
    dsn = "host=127.0.0.1 port=1 user=nobody dbname=none"
    result = cli.run("healthchecks", "--json", PROCRASTINATE_TEST_DSN=dsn, PROCRASTINATE_TEST_POOL_TIMEOUT="1")
    assert result.returncode == 1
    assert [name for name, check in checks(result).items() if not check["ok"]] == ["database"]
    assert "No connection to the database" in checks(result)["database"]["problem"]


def test_json_without_tables(make_commands, empty_database):
    result = make_commands(empty_database).run("healthchecks", "--json")
    assert result.returncode == 1
    assert "procrastinate_jobs table was not found" in checks(result)["tables"]["problem"]


def test_tables_of_another_version(cli, jobs_table):
    jobs_table.connection.execute(
        "insert into procrastinate_migrations (name, checksum) values ('99.00.00_50_post_more', '')"
    )
    result = cli.run("healthchecks")
    assert (result.returncode, result.stdout) == (1, APP)
    assert "The tables are those of a newer version" in result.stderr
    assert not checks(cli.run("healthchecks", "--json"))["schema"]["ok"]


@pytest.mark.parametrize(
    "arguments",
    [("--max-lag", "-1"), ("--max-lag", "soon"), ("--max-stalled-jobs", "-1"), ("--stalled-after", "nan"), ("all",)],
)
def test_wrong_usage(cli, arguments):
    assert cli.run("healthchecks", *arguments).returncode == 2

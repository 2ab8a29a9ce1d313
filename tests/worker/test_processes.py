"""Workers as processes: killed, stopped, cut off."""

import json
import signal

import psycopg
import pytest

import procrastinate
from worker import sample_app
from worker.harness import eventually, row, statuses, worker_process

pytestmark = pytest.mark.timeout(90)

SHORT = {"update_heartbeat_interval": 0.3, "stalled_worker_timeout": 1.5}


@pytest.fixture
def app(database: str):
    connector = procrastinate.SyncPsycopgConnector(conninfo=database, min_size=1)
    connector.open()
    with sample_app.app.replace_connector(connector) as app:
        yield app
    connector.close()


def start(database: str, **options: object):
    return worker_process(database, json.dumps({**SHORT, **options}))


def doing(connection: psycopg.Connection) -> int:
    return statuses(connection).get("doing", 0)


def test_jobs_of_a_killed_worker_are_rescued(database: str, connection: psycopg.Connection, app) -> None:
    ids = sample_app.sleep.batch_defer(*[{"seconds": 60}] * 4)
    with start(database, concurrency=4) as victim:
        eventually(lambda: doing(connection) == 4)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    connection.execute("""update procrastinate_jobs set args = '{"seconds": 0}'""")
    with start(database, concurrency=4):
        eventually(lambda: statuses(connection) == {"succeeded": 4})
    rescues, attempts, claims = row(
        connection, "select max(rescues), max(attempts), max(claims) from procrastinate_jobs"
    )
    assert (rescues, attempts, claims) == (1, 1, 2)
    types = connection.execute(
        "select type::text from procrastinate_events where job_id = %s order by id", [ids[0]]
    ).fetchall()
    assert [kind for (kind,) in types] == ["deferred", "started", "deferred_for_retry", "started", "succeeded"]
    # The dead worker's row is gone, and so is that of the one that was killed at the end of the test, or it is fresh.
    assert row(connection, "select count(*) from procrastinate_workers")[0] <= 1


def test_locks_of_a_killed_worker_are_freed(database: str, connection: psycopg.Connection, app) -> None:
    sample_app.sleep.configure(lock="one").defer(seconds=60)
    for _ in range(3):
        sample_app.quick.configure(lock="one").defer()
    with start(database, concurrency=4) as victim:
        eventually(lambda: doing(connection) == 1)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    connection.execute("""update procrastinate_jobs set args = '{"seconds": 0}' where args <> '{}'""")
    with start(database, concurrency=4):
        eventually(lambda: statuses(connection) == {"succeeded": 4})


def test_a_job_that_kills_its_workers_ends_failed(database: str, connection: psycopg.Connection, app) -> None:
    job_id = sample_app.kill_the_worker.defer()
    for _ in range(3):
        with start(database, max_rescues=1) as worker:
            eventually(lambda worker=worker: worker.poll() is not None or statuses(connection).get("failed"))
            if worker.poll() is None:
                break
    status, rescues, reason = row(
        connection,
        "select status::text, rescues, attempts_log -> -1 ->> 'reason' from procrastinate_jobs where id = %s",
        job_id,
    )
    assert (status, rescues) == ("failed", 2)
    assert "the worker died" in reason


@pytest.mark.parametrize("task", [sample_app.block_the_loop, sample_app.block])
def test_a_blocked_worker_is_not_taken_for_dead(database: str, connection: psycopg.Connection, app, task) -> None:
    task.defer(seconds=4)
    with start(database), start(database):
        eventually(lambda: statuses(connection) == {"succeeded": 1})
    assert row(connection, "select claims, rescues from procrastinate_jobs") == (1, 0)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_neighbours_of_a_job_that_kills_its_workers_succeed(
    database: str, connection: psycopg.Connection, app, concurrency
) -> None:
    """Those that run beside it, and those that are claimed ahead behind it, again and again."""
    sample_app.quick.batch_defer(*[{}] * 20)
    deadly = sample_app.kill_the_worker.defer()
    sample_app.quick.batch_defer(*[{}] * 300)
    sample_app.sleep.batch_defer(*[{"seconds": 0.01}] * 20)
    done = {"succeeded": 340, "failed": 1}
    for _ in range(10):
        with start(database, concurrency=concurrency, max_rescues=3) as worker:
            eventually(lambda worker=worker: worker.poll() is not None or statuses(connection) == done)
            if worker.poll() is None:
                break
    assert statuses(connection) == done
    assert row(connection, "select rescues from procrastinate_jobs where id = %s", deadly) == (4,)


def test_a_stopped_process_is_fenced_off(database: str, connection: psycopg.Connection, app) -> None:
    sample_app.block.defer(seconds=1)
    with start(database) as zombie:
        eventually(lambda: doing(connection) == 1)
        zombie.send_signal(signal.SIGSTOP)
        with start(database):
            eventually(lambda: row(connection, "select claims from procrastinate_jobs") == (2,))
            zombie.send_signal(signal.SIGCONT)
            eventually(lambda: statuses(connection) == {"succeeded": 1})
        zombie.send_signal(signal.SIGTERM)
        _, log = zombie.communicate(timeout=20)
    assert zombie.returncode == 0
    assert "was taken for dead" in log
    assert "was not recorded" in log
    assert row(connection, "select attempts, claims, rescues from procrastinate_jobs") == (1, 2, 1)


def test_a_worker_survives_the_loss_of_every_connection(database: str, connection: psycopg.Connection, app) -> None:
    with start(database, fetch_job_polling_interval=30) as worker:
        sample_app.quick.defer()
        eventually(lambda: statuses(connection) == {"succeeded": 1})
        for round_ in range(2, 5):
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid() and application_name = ''"
            )
            with psycopg.connect(database, autocommit=True) as other:
                other.execute(
                    "select procrastinate_defer_jobs_v1(array[row('default', 'worker.sample_app.quick', 0, "
                    "null, null, '{}', null)::procrastinate_job_to_defer_v1])"
                )
            # Well before the polling interval: the listener is back, or looked when it came back.
            eventually(lambda round_=round_: statuses(connection) == {"succeeded": round_}, seconds=15)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0


def test_a_graceful_stop_gives_claimed_jobs_back(database: str, connection: psycopg.Connection, app) -> None:
    # Quick jobs teach the worker to claim ahead, slow ones then wait for the slot.
    sample_app.quick.batch_defer(*[{}] * 300)
    sample_app.block.batch_defer(*[{"seconds": 1.5}] * 20)
    with start(database) as worker:
        eventually(
            lambda: (
                row(
                    connection,
                    "select count(*) from procrastinate_jobs where status = 'doing' and task_name like '%%block'",
                )[0]
                >= 1
            )
        )
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=20)
        assert worker.returncode == 0
    counts = statuses(connection)
    assert "doing" not in counts
    assert counts["todo"] + counts["succeeded"] == 320
    assert row(connection, "select coalesce(max(attempts), 0) from procrastinate_jobs where status = 'todo'") == (0,)
    assert row(connection, "select count(*) from procrastinate_workers") == (0,)


def test_a_worker_without_tables_says_what_to_do(empty_database: str) -> None:
    with worker_process(empty_database) as worker:
        _, log = worker.communicate(timeout=20)
    assert worker.returncode != 0
    assert "procrastinate schema --apply" in log


def test_the_kill_and_replace_drain(database: str, connection: psycopg.Connection, app) -> None:
    """The only worker is killed and replaced again and again during a drain: nothing is lost, nothing stays behind."""
    sample_app.sleep.batch_defer(*[{"seconds": 0.005}] * 400)
    kills = 0
    while statuses(connection).get("succeeded", 0) < 400:
        with start(database, concurrency=5) as worker:
            before = statuses(connection).get("succeeded", 0)
            eventually(lambda before=before: statuses(connection).get("succeeded", 0) >= min(before + 80, 400))
            if kills < 4:
                kills += 1
                worker.send_signal(signal.SIGKILL)
                worker.wait()
            else:
                eventually(lambda: statuses(connection).get("succeeded", 0) == 400)
    assert kills >= 4
    assert statuses(connection) == {"succeeded": 400}


def test_the_second_signal_ends_the_process_at_once(database: str, connection: psycopg.Connection, app) -> None:
    sample_app.sleep.defer(seconds=60)
    with start(database) as worker:
        assert worker.stderr is not None
        # Not when the job is `doing`: until it has started, it would be given back.
        assert any("Starting job" in line for line in worker.stderr)
        worker.send_signal(signal.SIGTERM)
        assert any("Waiting for job to finish" in line for line in worker.stderr)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == -signal.SIGTERM
    assert statuses(connection) == {"doing": 1}

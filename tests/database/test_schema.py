"""The schema as a public interface: applying it, the names that others rely on, deferring from SQL, notifications."""

from __future__ import annotations

import json

import psycopg
import pytest

from database import support
from procrastinate import exceptions, jobs, types
from procrastinate.schema import SchemaManager
from procrastinate.store.jobs import CancelJob, DeferAlike, DeferJob, DeferJobs, ListJobs, ReleaseJobs, RetryJob
from procrastinate.store.locks import OpenLocks
from procrastinate.store.schedule import StageJobs
from procrastinate.store.workers import RescueJobs
from procrastinate.sync_psycopg_connector import SyncPsycopgConnector

ANY = "procrastinate_any_queue_v1"


def connect(conninfo, **settings):
    return SyncPsycopgConnector(conninfo=conninfo, min_size=1, max_size=1, **settings)


class TestApply:
    def test_applied(self, empty_database):
        connector = connect(empty_database)
        connector.open()
        SchemaManager(connector).apply_schema()
        assert connector.run(ListJobs()) == []
        names = connector.execute_query_all("select name, checksum from procrastinate_migrations order by name")
        assert names[0]["name"] == "04.00.00_01_pre_initial_schema"
        connector.close()

    def test_applied_twice(self, database, connection):
        support.defer(connection)
        connector = connect(database)
        connector.open()
        with pytest.raises(
            exceptions.ConnectorException, match=r"already exists[^$]*applied before.*nothing was changed"
        ):
            SchemaManager(connector).apply_schema()
        connector.close()
        assert support.value(connection, "select count(*) from procrastinate_jobs") == 1

    def test_applied_twice_on_a_server_that_speaks_another_language(self, database):
        class GermanConnector(SyncPsycopgConnector):
            def execute_query(self, query, **arguments):
                try:
                    super().execute_query(query, **arguments)
                except exceptions.ConnectorException as error:
                    raise exceptions.ConnectorException("Typ »…« existiert bereits") from error.__cause__

        connector = GermanConnector(conninfo=database, min_size=1, max_size=1)
        connector.open()
        with pytest.raises(exceptions.ConnectorException, match=r"existiert bereits[^$]*applied before"):
            SchemaManager(connector).apply_schema()
        connector.close()

    def test_applied_at_the_same_time(self, empty_database):
        def apply():
            connector = connect(empty_database)
            connector.open()
            try:
                SchemaManager(connector).apply_schema()
            except exceptions.ConnectorException as error:
                return str(error)
            finally:
                connector.close()
            return "applied"

        with support.threads() as threads:
            answers = sorted(
                future.result(support.PATIENCE) for future in [threads.submit(apply), threads.submit(apply)]
            )
        assert answers[0] == "applied"
        assert "applied before" in answers[1]

    def test_two_instances_in_one_database(self, empty_database):
        connectors = {}
        with support.connected(empty_database, autocommit=True) as connection:
            connection.execute("create schema one; create schema two")
        for name in ("one", "two"):
            connectors[name] = connect(empty_database, kwargs={"options": f"-c search_path={name}"})
            connectors[name].open()
            SchemaManager(connectors[name]).apply_schema()
        for name, connector in connectors.items():
            support_job = support.job(task_name=name, queueing_lock="Q", lock="L")
            connector.run(support.DeferJobs(jobs=[support_job]))
        for name, connector in connectors.items():
            worker = connector.run(support.RegisterWorker())
            (claim,) = connector.run(support.FetchJobs(queues=None, worker_id=worker, limit=10)).claims
            assert claim.job.task_name == name
            connector.close()


OLD_INTERFACE = {
    "procrastinate_jobs": [
        "abort_requested boolean", "args jsonb", "attempts integer", "id bigint", "lock text", "priority integer",
        "queue_name character varying", "queueing_lock text", "scheduled_at timestamp with time zone",
        "status USER-DEFINED", "task_name character varying", "worker_id bigint",
    ],
    "procrastinate_periodic_defers": [
        "defer_timestamp bigint", "id bigint", "job_id bigint", "periodic_id character varying",
        "task_name character varying",
    ],
    "procrastinate_workers": ["id bigint", "last_heartbeat timestamp with time zone"],
}  # fmt: skip


@pytest.mark.parametrize("table", OLD_INTERFACE)
def test_columns_that_users_query(connection, table):
    query = "select column_name || ' ' || data_type from information_schema.columns where table_name = %s"
    assert set(OLD_INTERFACE[table]) <= {row[0] for row in connection.execute(query, [table])}


def test_statuses_are_those_of_the_enum(connection):
    query = "select unnest(enum_range(null::procrastinate_job_status))::text"
    assert [row[0] for row in connection.execute(query)] == [status.value for status in jobs.Status]


class TestDeferFromSql:
    QUERY = "select procrastinate_defer_jobs_v1(array[{}]::procrastinate_job_to_defer_v1[])"

    def test_in_order(self, connection):
        rows = [f"('q', 't', {n % 3}, 'L{n}', null, '{{\"n\": {n}}}', null)" for n in range(100)]
        ids = support.value(connection, self.QUERY.format(",".join(rows)))
        stored = {job.id: job for job in support.run(ListJobs(), connection)}
        assert [stored[id_].task_kwargs["n"] for id_ in ids] == list(range(100))
        assert stored[ids[5]] == support.job(
            id=ids[5], status="todo", queue="q", task_name="t", priority=2, lock="L5", task_kwargs={"n": 5}
        )

    def test_defaults_and_schedule(self, connection):
        rows = "('q', 't', null, null, null, null, null), ('q', 't', 1, null, null, '{}', now() + interval '1 hour')"
        plain, later = support.value(connection, self.QUERY.format(rows))
        (job,) = support.run(ListJobs(id=plain), connection)
        assert (job.priority, job.task_kwargs) == (0, {})
        assert support.state(connection, plain) == ("todo", None)
        assert support.state(connection, later) == ("todo", "time")

    def test_nothing(self, connection):
        assert support.value(connection, self.QUERY.format("")) is None

    def test_taken_queueing_lock(self, connection):
        rows = "('q', 't', 0, null, null, '{}', null), ('q', 't', 0, null, 'Q', '{}', null)"
        connection.execute(self.QUERY.format(rows))
        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            connection.execute(self.QUERY.format(rows))
        assert caught.value.diag.constraint_name == "procrastinate_jobs_queueing_lock_idx_v1"
        assert support.value(connection, "select count(*) from procrastinate_jobs") == 2


class TestNotifications:
    @pytest.fixture
    def listen(self, database, connection):
        """Listen on channels; calling the result answers what was sent since, without waiting for more."""
        listening = []

        def listen(*queues: str):
            own = psycopg.connect(database, autocommit=True)
            listening.append(own)
            channels = [support.value(own, "select procrastinate_queue_channel_v1(%s)", queue) for queue in queues]
            for channel in [ANY, *channels, "the_end"]:
                own.execute(psycopg.sql.SQL("listen {}").format(psycopg.sql.Identifier(channel)))

            def received() -> list[tuple[str, dict]]:
                connection.execute("notify the_end")
                found = []
                for notification in own.notifies(timeout=support.PATIENCE):
                    if notification.channel == "the_end":
                        return found
                    found.append((notification.channel, json.loads(notification.payload)))
                pytest.fail("the mark did not arrive")

            return received

        yield listen
        for own in listening:
            own.close()

    def test_once_for_each_statement_and_queue(self, connection, listen):
        received = listen("a", "b")
        ids = support.defer(connection, *[support.job(queue=queue) for queue in "abab"])
        a = {"type": "job_inserted", "job_id": ids[0], "scheduled": False}
        b = {"type": "job_inserted", "job_id": ids[1], "scheduled": False}
        found = received()
        assert len(found) == 4
        assert sorted(found, key=str) == sorted(
            [(ANY, a), (ANY, b), ("procrastinate_queue_v1#a", a), ("procrastinate_queue_v1#b", b)], key=str
        )

    def test_scheduled_jobs_say_so(self, connection, listen):
        received = listen()
        (job_id,) = support.defer(connection, support.job(scheduled_at=types.time_from_now({"hours": 1})))
        assert received() == [(ANY, {"type": "job_inserted", "job_id": job_id, "scheduled": True})]

    @pytest.mark.parametrize("queue", ["q" * 40, "q" * 41, "q" * 100, "ü" * 21, "ü" * 128, "with 'quote' and # \"x\""])
    def test_queues_of_any_length(self, connection, listen, queue):
        received = listen(queue)
        support.defer(connection, support.job(queue=queue))
        (any_queue, own_queue) = received()
        assert any_queue[0] == ANY
        assert own_queue[0].startswith("procrastinate_queue_v1#")
        assert own_queue[1] == any_queue[1]
        if len(queue.encode()) <= 40:
            assert own_queue[0] == f"procrastinate_queue_v1#{queue}"

    def test_long_names_that_begin_alike_are_apart(self, connection, listen):
        received = listen("q" * 100)
        support.defer(connection, support.job(queue="q" * 101))
        assert [channel for channel, _ in received()] == [ANY]

    def test_nothing_is_sent_before_the_commit_or_for_what_does_not_wait(self, database, connection, listen):
        received = listen()
        with support.connected(database) as own:
            support.defer(own)
            assert received() == []
            own.commit()
            assert len(received()) == 1
        connection.execute("insert into procrastinate_jobs (queue_name, task_name, status) values ('q', 't', 'failed')")
        worker = support.register(connection)
        claim = support.claim(connection, worker)
        support.succeed(connection, worker, claim)
        assert received() == []

    @pytest.mark.parametrize("kind", ["one", "alike", "several"])
    def test_of_those_that_defer_at_the_same_time_one_tells_for_all(self, database, connection, listen, kind):
        def defer(own, **changes):
            job = support.job(**changes)
            operations = {
                "one": DeferJob(job=job),
                "alike": DeferAlike(job=job, arguments=[{}, {}]),
                "several": DeferJobs(jobs=[job, job]),
            }
            support.run(operations[kind], own)

        received = listen()
        defer(connection)
        assert len(received()) == 1
        with support.connected(database) as ringing, support.connected(database) as own:
            # As a statement does that has inserted a job and is about to commit.
            ringing.execute("select pg_advisory_xact_lock(hashtextextended('default', 8080))")
            defer(connection)
            assert received() == []
            # Others cannot rely on that: a queue that nobody tells of, and what is for the schedule.
            defer(connection, queue="other")
            assert len(received()) == 1
            defer(connection, scheduled_at=types.time_from_now({"hours": 1}))
            assert len(received()) == 1
            # When a transaction will be committed of which this is a part, nobody knows.
            defer(own)
            own.commit()
            assert len(received()) == 1
        # Who has begun a transaction does not keep others from telling.
        with support.connected(database) as own:
            defer(own)
            defer(connection)
            assert len(received()) == 1

    def test_nothing_is_sent_for_an_insert_that_was_undone(self, connection, listen):
        support.defer(connection, support.job(queueing_lock="Q"))
        received = listen()
        with pytest.raises(exceptions.AlreadyEnqueued):
            support.defer(connection, support.job(), support.job(queueing_lock="Q"))
        assert received() == []

    def test_abort(self, connection, listen):
        worker = support.register(connection)
        support.defer(connection)
        claim = support.claim(connection, worker)
        received = listen("default")
        support.run(CancelJob(job_id=claim.job.id, abort=True, delete=False), connection)
        payload = {"type": "abort_job_requested", "job_id": claim.job.id}
        assert received() == [(ANY, payload), ("procrastinate_queue_v1#default", payload)]

    def test_whatever_makes_jobs_ready_says_so(self, connection, listen):
        worker = support.register(connection)
        held, waiting = support.defer(connection, support.job(lock="L"), support.job(lock="L"))
        claim = support.claim(connection, worker)
        received = listen()

        def ready(job_id: int) -> list:
            return [(ANY, {"type": "job_inserted", "job_id": job_id})]

        support.run(ReleaseJobs(claims=[claim], worker_id=worker), connection)
        assert received() == ready(held)
        support.fetch(connection, worker)
        connection.execute("update procrastinate_workers set last_heartbeat = now() - interval '1 hour'")
        support.run(RescueJobs(seconds_since_heartbeat=30, max_rescues=3, limit=5), connection)
        assert received() == ready(held)
        (claim,) = support.fetch(connection, worker).claims
        support.run(RetryJob(job_id=held, retry_at=types.utcnow(), priority=None, queue=None, lock=None), connection)
        assert received() == ready(held)
        (claim,) = support.fetch(connection, worker).claims
        support.succeed(connection, worker, claim)
        assert received() == []
        support.run(OpenLocks(locks=["L"]), connection)
        assert received() == ready(waiting)
        connection.execute(
            "update procrastinate_jobs set waits_for = 'time', scheduled_at = now() where id = %s", [waiting]
        )
        support.run(StageJobs(limit=5), connection)
        assert received() == ready(waiting)


def test_the_log_of_attempts_is_capped(connection):
    query = "select procrastinate_log_attempt_v1(%s::text::jsonb, %s::text::jsonb)"
    full = json.dumps([{"number": n} for n in range(50)])
    assert support.value(connection, query, None, '{"number": 1}') == [{"number": 1}]
    assert support.value(connection, query, "[]", None) == []
    assert support.value(connection, query, None, None) is None
    log = support.value(connection, query, full, '{"number": 50}')
    assert [entry["number"] for entry in log] == list(range(1, 51))

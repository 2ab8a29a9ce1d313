"""Deferring: ids in order, all or nothing, on the connector's own connection and on the caller's."""

from __future__ import annotations

import datetime

import psycopg
import pytest

from database import support
from procrastinate import exceptions, types
from procrastinate.store.jobs import DeferJobs, ListJobs
from procrastinate.sync_psycopg_connector import SyncPsycopgConnector


@pytest.fixture
def connector(database):
    connector = SyncPsycopgConnector(conninfo=database, min_size=1, max_size=2)
    connector.open()
    yield connector
    connector.close()


def count(connection) -> int:
    return support.value(connection, "select count(*) from procrastinate_jobs")


def defer(connector, *batch, connection=None):
    return connector.run(DeferJobs(jobs=batch), connection)


Q = support.job(queueing_lock="Q")
FREE = support.job()


def test_ids_answer_to_their_positions(connector):
    batch = [support.job(task_kwargs={"position": n}, priority=-n, queue=f"q{n % 7}") for n in range(1_000)]
    ids = defer(connector, *batch)
    assert ids == sorted(ids)
    stored = {job.id: job.task_kwargs["position"] for job in connector.run(ListJobs())}
    assert [stored[id_] for id_ in ids] == list(range(1_000))


def test_ids_answer_to_their_positions_with_queueing_locks(connector):
    batch = [support.job(queueing_lock=f"Q{n}", task_kwargs={"position": n}) for n in range(100)]
    ids = defer(connector, *batch)
    stored = {job.id: job.queueing_lock for job in connector.run(ListJobs())}
    assert [stored[id_] for id_ in ids] == [job.queueing_lock for job in batch]


def test_every_column_is_stored(connector):
    when = datetime.datetime(2080, 1, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    job = support.job(
        queue="q",
        task_name="t",
        lock="",
        queueing_lock="Ü",
        priority=-(2**31),
        scheduled_at=when,
        task_kwargs={"a": [1, None, "é\u2028'\"\\"], "b": {}},
    )
    (id_,) = defer(connector, job)
    (stored,) = connector.run(ListJobs(id=id_))
    assert stored == job.evolve(id=id_, status="todo")


def test_nothing_to_defer(connector):
    assert defer(connector) == []


def test_what_is_due_is_ready(connection):
    past, future = types.time_from_now({"hours": -1}), types.time_from_now({"hours": 1})
    ids = support.defer(connection, *[support.job(scheduled_at=when) for when in (None, past, future)])
    assert [support.state(connection, id_)[1] for id_ in ids] == [None, None, "time"]


@pytest.mark.parametrize(
    "batch",
    [[Q], [Q, FREE], [FREE, Q], [FREE, support.job(queueing_lock="R"), Q, FREE]],
    ids=["one", "1/2", "2/2", "3/4"],
)
class TestTakenQueueingLock:
    @pytest.fixture(autouse=True)
    def waiting(self, connection):
        support.defer(connection, Q)

    def test_on_the_own_connection(self, connector, connection, batch):
        with pytest.raises(exceptions.AlreadyEnqueued, match=r"queueing lock Q$"):
            defer(connector, *batch)
        assert count(connection) == 1

    def test_in_the_callers_transaction(self, database, connector, connection, batch):
        with support.connected(database) as own:
            defer(connector, FREE, connection=own)
            with pytest.raises(exceptions.AlreadyEnqueued):
                defer(connector, *batch, connection=own)
            # The transaction lives on, with what was done before, and it is still the caller's to end.
            assert own.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
            assert count(connection) == 1
            own.commit()
        assert count(connection) == 2

    def test_first_in_the_callers_transaction(self, database, connector, connection, batch):
        with support.connected(database) as own:
            with pytest.raises(exceptions.AlreadyEnqueued):
                defer(connector, *batch, connection=own)
            defer(connector, FREE, connection=own)
            assert count(connection) == 1
            own.commit()
        assert count(connection) == 2

    def test_with_autocommit(self, database, connector, connection, batch):
        with support.connected(database, autocommit=True) as own:
            with pytest.raises(exceptions.AlreadyEnqueued):
                defer(connector, *batch, connection=own)
            assert own.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert count(connection) == 1

    def test_with_autocommit_in_a_transaction_block(self, database, connector, connection, batch):
        with support.connected(database, autocommit=True) as own, own.transaction():
            defer(connector, FREE, connection=own)
            with pytest.raises(exceptions.AlreadyEnqueued):
                defer(connector, *batch, connection=own)
        assert count(connection) == 2


def test_a_queueing_lock_twice_in_one_batch(connector, connection):
    with pytest.raises(exceptions.AlreadyEnqueued, match=r"queueing lock Q$"):
        defer(connector, FREE, Q, support.job(queueing_lock="R"), Q)
    assert count(connection) == 0


def test_a_queueing_lock_is_free_when_its_job_does_not_wait(connector, connection):
    worker = support.register(connection)
    defer(connector, Q)
    support.claim(connection, worker)
    defer(connector, Q)
    assert count(connection) == 2


def test_the_callers_transaction_decides(database, connector, connection):
    with support.connected(database) as own:
        defer(connector, FREE, FREE, connection=own)
        own.rollback()
        assert count(connection) == 0
        defer(connector, Q, support.job(queueing_lock="R"), connection=own)
        assert count(connection) == 0
        own.commit()
    assert count(connection) == 2


def test_two_clients_with_one_queueing_lock(database, connection):
    with support.connected(database) as first, support.connected(database) as second, support.threads() as threads:
        support.defer(first, Q)
        racing = threads.submit(support.defer, second, FREE, Q)
        support.wait_until_blocked(connection, second, racing)
        first.commit()
        with pytest.raises(exceptions.AlreadyEnqueued):
            racing.result(support.PATIENCE)
        second.commit()
    assert count(connection) == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"queue": "q" * 129}, exceptions.InvalidData),
        ({"task_name": "t" * 129}, exceptions.InvalidData),
        ({"priority": 2**31}, exceptions.InvalidData),
        ({"lock": "\0"}, exceptions.InvalidData),
        ({"task_kwargs": {"a": "\0"}}, exceptions.InvalidData),
        ({"task_kwargs": {"a": float("nan")}}, exceptions.InvalidData),
        ({"task_kwargs": {"a": {1, 2}}}, TypeError),
    ],
)
def test_what_cannot_be_stored(connector, connection, changes, error):
    with pytest.raises(error):
        defer(connector, FREE, support.job(**changes))
    assert count(connection) == 0
    # The connection is still good.
    assert len(defer(connector, FREE)) == 1


def test_without_the_tables(empty_database):
    with support.connected(empty_database) as own, pytest.raises(exceptions.SchemaNotApplied, match="schema --apply"):
        support.defer(own, FREE)


def test_a_lost_connection(database, connector, connection):
    with support.connected(database) as own:
        connection.execute("select pg_terminate_backend(%s)", [own.info.backend_pid])
        with pytest.raises(exceptions.ConnectionLost):
            defer(connector, FREE, connection=own)
        with pytest.raises(exceptions.ConnectionLost):
            defer(connector, FREE, connection=own)

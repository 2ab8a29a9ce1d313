"""The instrument itself: each fault of the proxy does what its name says, and nothing else."""

from __future__ import annotations

import contextlib
import select
import time
from concurrent import futures

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from faults import wire_faults
from faults.link import PHASES, TO_CLIENT
from faults.proxy import FaultProxy
from procrastinate.store import postgres
from procrastinate.store.jobs import FetchJobs, FinishJobs
from procrastinate.store.workers import RegisterWorker, UnregisterWorker, UpdateHeartbeat


@pytest.fixture
def proxy(database: str):
    with FaultProxy(database) as proxy:
        yield proxy


def connect(proxy: FaultProxy, **settings) -> psycopg.Connection:
    return psycopg.connect(proxy.conninfo, autocommit=True, connect_timeout=2, **settings)


def seconds(call, *arguments) -> float:
    start = time.monotonic()
    call(*arguments)
    return time.monotonic() - start


def test_phases_are_those_of_the_statements():
    operations = {
        "claim": FetchJobs(queues=None, worker_id=1, limit=1),
        "finish": FinishJobs(verdicts=[], worker_id=1),
        "heartbeat": UpdateHeartbeat(worker_id=1, revive=True),
        "register": RegisterWorker(),
        "unregister": UnregisterWorker(worker_id=1),
    }
    for phase, operation in operations.items():
        found = [name for name, mark in PHASES.items() if mark in postgres.statement(operation).lower()]
        assert found == [phase]


def test_without_a_fault_everything_passes(proxy: FaultProxy):
    with connect(proxy) as connection:
        assert connection.execute("select repeat('x', 1000000)").fetchone() == ("x" * 1_000_000,)
        rows = connection.execute("select n from generate_series(1, 20000) n where n > %s", [0]).fetchall()
        assert len(rows) == 20_000
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("select 1 / 0")
        assert proxy.kinds == ["pool"]
        connection.execute("listen something")
        assert proxy.kinds == ["listen"]


def test_a_cancel_request_passes(proxy: FaultProxy):
    with connect(proxy) as connection, futures.ThreadPoolExecutor(1) as threads:
        sleeper = threads.submit(connection.execute, "select pg_sleep(60)")
        with psycopg.connect(proxy.server_conninfo, autocommit=True) as direct:
            asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and pid = %s"
            while direct.execute(asleep, [connection.info.backend_pid]).fetchone() != (1,):
                assert not sleeper.done()
        connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            sleeper.result(20)


def test_latency(proxy: FaultProxy):
    with connect(proxy) as connection, proxy.having(wire_faults.Latency(seconds=0.1, jitter=0.01)):
        taken = seconds(connection.execute, "select * from generate_series(1, 1000)")
        assert taken >= 0.2, "there and back"
        assert taken < 5, "but not for each row"


def test_throttle(proxy: FaultProxy):
    with connect(proxy) as connection, proxy.having(wire_faults.Throttle(bytes_per_second=100_000)):
        assert seconds(connection.execute, "select repeat('x', 50000)") >= 0.5


def test_freeze_holds_and_releases(proxy: FaultProxy):
    with contextlib.closing(connect(proxy)) as connection:
        fault = proxy.add(wire_faults.Freeze())
        connection.pgconn.send_query(b"select 1")
        connection.pgconn.flush()
        with psycopg.connect(proxy.server_conninfo) as direct:
            assert direct.execute("select count(*) from pg_stat_activity where query = 'select 1'").fetchone() == (0,)
        assert not is_readable(connection, 0.3)
        proxy.remove(fault)
        assert is_readable(connection, 10)


def test_freeze_of_the_answers_lets_the_server_work(proxy: FaultProxy):
    direct = psycopg.connect(proxy.server_conninfo, autocommit=True)
    with direct, contextlib.closing(connect(proxy)) as connection:
        direct.execute("create table seen ()")
        proxy.add(wire_faults.Freeze(directions=(TO_CLIENT,)))
        connection.pgconn.send_query(b"insert into seen default values")
        connection.pgconn.flush()
        assert not is_readable(connection, 0.3)
        assert direct.execute("select count(*) from seen").fetchone() == (1,)


def is_readable(connection: psycopg.Connection, patience: float) -> bool:
    return bool(select.select([connection.fileno()], [], [], patience)[0])


@pytest.mark.parametrize("how", ["rule", "reset", "cut"])
def test_ends_of_connections(proxy: FaultProxy, how: str):
    with connect(proxy) as connection, connect(proxy) as listener:
        listener.execute("listen something")
        if how == "rule":
            proxy.add(wire_faults.Reset(kinds=("pool",)))
        else:
            proxy.cut(reset=how == "reset", only=lambda link: link.kind == "pool")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
        listener.execute("select 1")


def test_cut_after_bytes(proxy: FaultProxy):
    proxy.add(wire_faults.CutAfterBytes(count=5_000, times=1))
    with connect(proxy) as connection:
        connection.execute("select 1")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select repeat('x', 10000)")
    with connect(proxy) as other:
        other.execute("select repeat('x', 10000)")


@pytest.mark.parametrize("autocommit", [True, False])
def test_the_ambiguous_commit(proxy: FaultProxy, autocommit: bool):
    proxy.add(wire_faults.SwallowAnswer(at="register", times=1))
    insert = "insert into procrastinate_workers (name, queues) values ('x', null)"
    with connect(proxy) as connection:
        connection.autocommit = autocommit
        connection.execute("select 1")

        def work():
            connection.execute(insert)
            if not autocommit:
                connection.commit()

        with pytest.raises(psycopg.OperationalError):
            work()
    with psycopg.connect(proxy.server_conninfo) as direct:
        assert direct.execute("select count(*) from procrastinate_workers").fetchone() == (1,)


def test_faults_strike_prepared_statements_too(proxy: FaultProxy):
    with connect(proxy, prepare_threshold=0) as connection:
        query = "select %s::int /* set last_heartbeat = now() */"
        connection.execute(query, [1])
        connection.execute("select 1")
        proxy.add(wire_faults.Reset(at="heartbeat"))
        connection.execute("select 1")
        with pytest.raises(psycopg.OperationalError):
            connection.execute(query, [1])


def test_refuse_and_hang(proxy: FaultProxy):
    with connect(proxy) as open_before:
        with proxy.having(wire_faults.Refuse()), pytest.raises(psycopg.OperationalError):
            connect(proxy)
        with proxy.having(wire_faults.Hang()), pytest.raises(psycopg.errors.ConnectionTimeout):
            connect(proxy)
        open_before.execute("select 1")
    connect(proxy).close()


def test_dropped_notifications(proxy: FaultProxy):
    with connect(proxy) as listener, connect(proxy) as sender:
        listener.execute("listen news")
        with proxy.having(wire_faults.DropNotifications()):
            sender.execute("notify news, 'lost'")
            listener.execute("select 1")
        sender.execute("notify news, 'heard'")
        (heard,) = listener.notifies(timeout=10, stop_after=1)
        assert heard.payload == "heard"


def test_a_pool_recovers(proxy: FaultProxy):
    with ConnectionPool(proxy.conninfo, min_size=2, check=ConnectionPool.check_connection) as pool:
        pool.wait()
        proxy.cut(reset=True)
        with pool.connection() as connection:
            connection.execute("select 1")

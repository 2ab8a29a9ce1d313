"""A database of the other implementation becomes ours in place, and nothing in it is lost."""

from __future__ import annotations

import asyncio
import threading
from concurrent import futures

import psycopg
import pytest
from psycopg import sql

import procrastinate
from conformance.conftest import CONNECTORS
from procrastinate import exceptions, takeover, upgrade
from procrastinate.connector import BaseAsyncConnector
from procrastinate.schema import SchemaManager, UpgradeOptions
from procrastinate.store import migrations
from procrastinate.store.operation import run_flow
from procrastinate.takeover import Mode
from takeover import support

DEFER = """
    select procrastinate_defer_jobs_v1(
      array[('q', 'add', 0, null, null, '{}', null)]::procrastinate_job_to_defer_v1[]
    )
"""


def column(connection, name, job_id):
    return connection.execute(f"select {name} from procrastinate_jobs where id = %s", [job_id]).fetchone()[0]


def everything(connection):
    """The jobs as both implementations know them."""
    return connection.execute(
        "select id, queue_name, task_name, priority, lock, queueing_lock, args, status::text, scheduled_at, attempts, "
        "abort_requested, worker_id from procrastinate_jobs order by id"
    ).fetchall()


def perform_on(manager):
    return lambda request: upgrade.perform(request, manager.connector, lambda _: None)


def plan_of(manager, options=upgrade.UpgradeOptions()):  # noqa: B008  frozen
    return run_flow(upgrade.plan(manager.connector.schema, options), perform_on(manager))


def test_tables_are_those_of_a_fresh_database(manager, old, connection):
    support.jobs_in_every_state(old)
    assert manager.upgrade()
    assert support.catalog(old) == support.catalog(connection)
    assert manager.verify() == []
    assert manager.is_applied()
    assert not manager.upgrade()


def test_jobs_and_their_history_are_kept(manager, old):
    support.jobs_in_every_state(old)
    jobs, events = everything(old), support.events(old)
    manager.upgrade()
    assert everything(old) == jobs
    # A job without events has been there at least since now.
    new_events = [event for event in support.events(old) if event not in events]
    assert [event[1] for event in new_events] == ["deferred"]
    assert [event for event in support.events(old) if event in events] == events
    query = "select task_name, periodic_id, defer_timestamp, job_id is not null from procrastinate_periodic_defers"
    assert old.execute(query).fetchall() == [("add", "p", 100, True)]
    assert old.execute("select id from procrastinate_workers").fetchall() == [(1,)]


def test_each_attempt_has_its_entry(manager, old):
    job_id = support.jobs_in_every_state(old)["long story"]
    manager.upgrade()
    log = column(old, "attempts_log", job_id)
    assert [(entry["event"], entry.get("number")) for entry in log] == [
        ("deferred_for_retry", 1), ("deferred_for_retry", 2), ("failed", 3), ("retried", None)
    ]  # fmt: skip
    assert log[0]["scheduled_at"].startswith("2001-01-01")
    assert log[0]["started_at"] < log[0]["ended_at"] <= log[1]["started_at"]
    assert column(old, "finalized_at", job_id) >= column(old, "attempted_at", job_id)


def test_the_log_keeps_the_latest_attempts(manager, old):
    job_id = support.insert(old)
    old.execute("insert into procrastinate_workers default values")
    for _ in range(60):
        support.reschedule(old, support.become(old, job_id, "doing"), "-1 second")
    manager.upgrade(UpgradeOptions(force=True))
    assert [entry["number"] for entry in column(old, "attempts_log", job_id)] == list(range(11, 61))


def test_what_waits_waits_for_the_right_thing(manager, old):
    found = support.jobs_in_every_state(old)
    manager.upgrade()
    waiting = dict(old.execute("select id, waits_for from procrastinate_jobs where waits_for is not null").fetchall())
    assert waiting == {found["scheduled"]: "time"}


async def test_every_job_runs_is_retried_and_is_cleaned_up(manager, old, old_database):
    found = support.jobs_in_every_state(old)
    manager.upgrade()
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=old_database))
    ran = []

    @app.task(name="add", pass_context=True)
    async def add(context):
        ran.append(context.job.id)

    async with app.open_async():
        await app.job_manager.retry_job_by_id_async(found["failed"], retry_at=procrastinate.utils.utcnow())
        await app.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)
        # The rescue of the dead worker's jobs may come after the queue has run dry.
        while column(old, "status", found["behind the running"]) != "succeeded":
            await app.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)
        assert set(ran) == {
            found[name]
            for name in (
                "waiting", "locked first", "locked second", "with a queueing lock", "running", "behind the running",
                "failed", "to be retried",
            )
        }  # fmt: skip
        assert ran.index(found["locked first"]) < ran.index(found["locked second"])
        assert ran.index(found["running"]) < ran.index(found["behind the running"])
        assert column(old, "status", found["running, to be aborted"]) == "aborted"
        await app.job_manager.delete_old_jobs(
            nb_hours=0, include_failed=True, include_cancelled=True, include_aborted=True
        )
    assert old.execute("select id from procrastinate_jobs").fetchall() == [(found["scheduled"],)]
    assert old.execute("select job_id from procrastinate_periodic_defers").fetchall() == [(None,)]


class TestLiveWorkers:
    def test_refused(self, manager, old):
        old.execute("insert into procrastinate_workers default values")
        before = support.catalog(old)
        with pytest.raises(exceptions.ConnectorException, match=r"ids 1\): stop them first.*again in \d+ s.*--force"):
            manager.upgrade()
        assert support.catalog(old) == before

    def test_killed_long_ago(self, manager, old):
        old.execute("insert into procrastinate_workers (last_heartbeat) values (now() - interval '31 seconds')")
        assert manager.upgrade()

    def test_forced(self, manager, old):
        old.execute("insert into procrastinate_workers default values")
        assert manager.upgrade(UpgradeOptions(force=True))

    def test_started_after_the_look(self, manager, old):
        first, *_ = plan_of(manager)
        old.execute("insert into procrastinate_workers default values")
        before = support.catalog(old)
        with pytest.raises(exceptions.ConnectorException, match="workers are alive: 1"):
            run_flow(upgrade.run([first]), perform_on(manager))
        assert support.catalog(old) == before


class TestRefusals:
    @pytest.mark.parametrize(
        "change",
        [
            "alter table procrastinate_jobs drop column worker_id",
            "alter type procrastinate_job_event_type rename value 'retried' to 'again'",
            "drop table procrastinate_workers cascade",
        ],
    )
    def test_older_than_3_4(self, manager, old, change):
        old.execute(change)
        with pytest.raises(exceptions.SchemaNotApplied, match=r"before version 3\.4: upgrade them to 3\.4"):
            manager.upgrade()

    @pytest.mark.parametrize(
        ("change", "name"),
        [
            ("create view report as select count(*) from procrastinate_events", "view report"),
            ("create table mine (e bigint references procrastinate_events)", "foreign key mine_e_fkey of mine"),
            (
                """create trigger mine after insert on procrastinate_events for each row
                execute function procrastinate_notify_queue_job_inserted_v1()""",
                "trigger mine on procrastinate_events",
            ),
        ],
    )
    def test_what_is_bound_to_the_events(self, manager, old, change, name):
        old.execute(change)
        with pytest.raises(exceptions.ConnectorException, match=f"bound to the table: {name}. Drop them first"):
            manager.upgrade()


def test_what_users_added_is_kept(manager, old):
    found = support.jobs_in_every_state(old)
    old.execute(
        """
        create table audit (job_id bigint);
        create function audit() returns trigger language plpgsql as
          $$ begin insert into audit values (new.id); return null; end $$;
        create trigger audit after insert on procrastinate_jobs for each row execute function audit();
        create table orders (job_id bigint references procrastinate_jobs on delete set null);
        create index by_args on procrastinate_jobs using gin (args);
        """
    )
    old.execute("insert into orders values (%s)", [found["succeeded"]])
    manager.upgrade()
    assert manager.verify() == []
    job_id = support.insert(old)
    assert old.execute("select job_id from audit").fetchall() == [(job_id,)]
    old.execute("delete from procrastinate_jobs where id = %s", [found["succeeded"]])
    assert old.execute("select job_id from orders").fetchall() == [(None,)]
    assert old.execute("select to_regclass('by_args')::text").fetchone() == ("by_args",)


def test_privileges_are_kept(manager, old):
    role = sql.Identifier(f"reader_{old.info.dbname}")
    old.execute(sql.SQL("create role {}").format(role))
    try:
        old.execute(
            sql.SQL("grant select on procrastinate_events, procrastinate_jobs to {0}; "
                    "grant select, insert, update, delete on procrastinate_workers to {0}").format(role)
        )  # fmt: skip
        manager.upgrade()
        old.execute(sql.SQL("set role {}").format(role))
        for table in ("events", "jobs", "migrations", "chores"):
            old.execute(sql.SQL("select from {}").format(sql.Identifier(f"procrastinate_{table}")))
        old.execute("insert into procrastinate_chores values ('chore', now())")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            old.execute("delete from procrastinate_migrations")
    finally:
        old.execute("reset role")
        old.execute(sql.SQL("drop owned by {0}; drop role {0}").format(role))


def test_everything_has_the_owner_of_the_jobs(manager, old):
    role = f"owner_{old.info.dbname}"
    old.execute(f"create role {role}; grant all on schema public to {role}")
    old.execute("create function procrastinate_of_mine() returns int language sql as 'select 1'")
    try:
        for table in ("jobs", "workers", "events", "periodic_defers"):
            old.execute(f"alter table procrastinate_{table} owner to {role}")
        old.execute(f"alter function procrastinate_defer_jobs_v1 owner to {role}")
        manager.upgrade()
        owners = """
            select relname, relowner::regrole::text from pg_class
            where relname ~ '^procrastinate_' and relkind in ('r', 'v', 'S')
            union all
            select proname, proowner::regrole::text from pg_proc where proname ~ '^procrastinate_'
        """
        others = [name for name, owner in old.execute(owners) if owner != role]
        assert others == ["procrastinate_of_mine"]
    finally:
        old.execute(f"drop owned by {role}; drop role {role}")


def test_events_can_be_kept(manager, old):
    support.jobs_in_every_state(old)
    events = support.events(old)
    manager.upgrade(UpgradeOptions(keep_events=True))
    assert manager.verify() == []
    query = support.EVENTS.replace("procrastinate_events", takeover.OLD_EVENTS)
    assert old.execute(query).fetchall() == events


def let_the_turn_pass(connection):
    connection.execute("update procrastinate_takeover set seen_at = now() - interval '31 seconds' where part = 'turn'")


class TestInterrupted:
    @pytest.mark.parametrize("done", [1, 2, 3, 4, 5, 6, -4, -3, -2, -1])
    def test_it_goes_on_where_it_stopped(self, manager, old, connection, done):
        support.jobs_in_every_state(old)
        events = support.events(old)
        steps = plan_of(manager)
        run_flow(upgrade.run(steps[:done]), perform_on(manager))
        assert any("not finished" in line for line in manager.verify())
        rest = plan_of(manager)
        assert len(rest) < len(steps)
        let_the_turn_pass(old)
        assert manager.upgrade()
        assert support.catalog(old) == support.catalog(connection)
        assert set(events) <= set(support.events(old))

    def test_in_the_middle_of_an_index(self, manager, old):
        steps = plan_of(manager)
        (first, *_) = [number for number, step in enumerate(steps) if step.mode is Mode.ALONE]
        run_flow(upgrade.run(steps[:first]), perform_on(manager))
        support.insert(old)
        # It fails, and leaves an invalid index behind.
        broken = steps[first].text.replace("(priority desc, id)", "(priority desc, (1 / 0))")
        with pytest.raises(psycopg.errors.DivisionByZero):
            old.execute(broken)
        let_the_turn_pass(old)
        assert manager.upgrade()
        assert manager.verify() == []

    def test_history_in_the_middle(self, manager, old):
        found = support.jobs_in_every_state(old)
        events = support.events(old)
        *before, history, drop = plan_of(manager)
        run_flow(upgrade.run(before), perform_on(manager))
        query = history.text.replace(str(takeover.BATCH), "3")
        assert query != history.text
        for _ in range(2):
            old.execute(query)
        assert column(old, "finalized_at", found["aborted"]) is None
        # Workers run already; what they do is not undone.
        old.execute("delete from procrastinate_jobs where id = %s", [found["succeeded"]])
        run_flow(upgrade.run([history, drop]), perform_on(manager))
        assert set(support.events(old)) >= {event for event in events if event[0] != found["succeeded"]}

    @pytest.mark.parametrize("done", [1, 5])
    def test_no_worker_starts_before_its_time(self, manager, old, old_database, done):
        run_flow(upgrade.run(plan_of(manager)[:done]), perform_on(manager))
        with pytest.raises(exceptions.SchemaNotApplied, match=r"upgrade is not finished.*schema --upgrade"):
            run_worker(old_database)


def run_worker(conninfo):
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=conninfo))

    async def run():
        async with app.open_async():
            await app.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)

    asyncio.run(run())


def test_a_worker_names_the_command(old, old_database):
    with pytest.raises(exceptions.SchemaNotApplied, match=r"other implementation.*procrastinate schema --upgrade"):
        run_worker(old_database)
    assert old.execute("select count(*) from procrastinate_workers").fetchone() == (0,)


def test_jobs_are_deferred_all_the_time(manager, old, old_database):
    old.execute("insert into procrastinate_workers (last_heartbeat) values (now() - interval '1 hour')")
    for _ in range(300):
        support.become(old, support.insert(old), "doing", "succeeded")
    end = threading.Event()
    started = threading.Barrier(4)

    def defer(statement, *, autocommit):
        count = 0
        with psycopg.connect(old_database, autocommit=autocommit, prepare_threshold=0) as connection:
            started.wait(20)
            while not end.is_set():
                connection.execute(statement)
                connection.commit()
                count += 1
        return count

    insert = "insert into procrastinate_jobs (queue_name, task_name) values ('q', 'add')"
    ways = [(DEFER, True), (insert, True), (insert, False)]
    with futures.ThreadPoolExecutor(3) as threads:
        counts = [threads.submit(defer, statement, autocommit=autocommit) for statement, autocommit in ways]
        started.wait(20)
        try:
            manager.upgrade()
        finally:
            end.set()
        expected = 300 + sum(count.result(20) for count in counts)
    assert old.execute("select count(*) from procrastinate_jobs").fetchone() == (expected,)
    deferred = "select count(distinct job_id) from procrastinate_events where type = 'deferred'"
    assert old.execute(deferred).fetchone() == (expected,)
    assert manager.verify() == []


class TestOpenTransactions:
    def test_a_lock_is_not_waited_for_long(self, manager, old, old_database):
        """Those who defer would wait behind the upgrade, so it gives up its place and tries again."""
        pauses = []

        def perform(request):
            if isinstance(request, upgrade.Pause):
                pauses.append(request.seconds)
                support.insert(old)
                if len(pauses) == 2:
                    blocker.commit()
                return None
            return upgrade.perform(request, manager.connector, lambda _: None)

        with psycopg.connect(old_database) as blocker:
            support.insert(blocker)
            run_flow(upgrade.run(plan_of(manager)), perform)
        assert len(pauses) == 2
        assert old.execute("select count(*) from procrastinate_jobs").fetchone() == (3,)
        assert manager.verify() == []

    def test_one_that_never_ends(self, manager, old, old_database, monkeypatch):
        monkeypatch.setattr(upgrade, "TRIES", 1)
        before = support.catalog(old)
        with psycopg.connect(old_database) as blocker:
            support.insert(blocker)
            with pytest.raises(exceptions.LockNotAvailable, match="pg_stat_activity, and run the command again"):
                manager.upgrade()
        assert support.catalog(old) == before


def test_many_at_once(old, old_database, connection):
    support.jobs_in_every_state(old)

    def take_over():
        with support.opened(old_database) as manager:
            return manager.upgrade()

    with futures.ThreadPoolExecutor(3) as threads:
        answers = [future.result(40) for future in [threads.submit(take_over) for _ in range(3)]]
    assert True in answers
    assert support.catalog(old) == support.catalog(connection)


def test_another_program_is_at_it(manager, old):
    run_flow(upgrade.run(plan_of(manager)[:2]), perform_on(manager))
    assert old.execute(takeover.take_turn(None, 1)).fetchall()
    assert not old.execute(takeover.take_turn(None, 2)).fetchall()
    assert old.execute(takeover.take_turn(None, 1)).fetchall()
    requests = []

    def perform(request):
        requests.append(request)
        if isinstance(request, upgrade.Pause):
            if requests.count(request) == 3:
                let_the_turn_pass(old)
            return None
        return upgrade.perform(request, manager.connector, lambda _: None)

    assert run_flow(upgrade.upgrade(None, UpgradeOptions()), perform)
    told = [request.message for request in requests if isinstance(request, upgrade.Tell)]
    assert [message for message in told if message.startswith("Waiting for another program")] == told[:1]
    assert requests.count(upgrade.Pause(upgrade.TURN_PAUSE)) == 3
    assert manager.verify() == []


class TestAsSql:
    def test_the_printed_script(self, manager, old, connection):
        support.jobs_in_every_state(old)
        events = support.events(old)
        before = support.catalog(old)
        script = manager.get_upgrade()
        assert support.catalog(old) == before
        for statement in migrations.statements(script):
            old.execute(statement)
        assert support.catalog(old) == support.catalog(connection)
        assert set(events) <= set(support.events(old))
        assert manager.get_upgrade() == ""

    def test_in_a_transaction_of_ones_own(self, manager, old, old_database, connection):
        support.jobs_in_every_state(old)
        before, events = support.catalog(old), support.events(old)
        script = SchemaManager.get_takeover().encode()
        with psycopg.connect(old_database) as own:
            own.execute("set local search_path to pg_temp, public; set local lock_timeout = '77s'")
            own.execute(script)
            assert own.execute("select current_setting('search_path'), current_setting('lock_timeout')").fetchone() == (
                "pg_temp, public",
                "77s",
            )
            own.rollback()
            assert support.catalog(old) == before
            own.execute(script)
            own.commit()
        assert support.catalog(old) == support.catalog(connection)
        assert set(events) <= set(support.events(old))
        assert manager.verify() == []


@pytest.mark.parametrize("name", ["old", "jobs", 'My "own" 100% schema'])
@pytest.mark.parametrize("by_search_path", [True, False])
def test_in_a_schema(empty_database, connection, name, by_search_path):
    quoted = '"' + name.replace('"', '""') + '"'
    with psycopg.connect(empty_database, autocommit=True) as own:
        own.execute(f"create schema {quoted}; create schema nearer; set search_path to {quoted}")
        own.execute((support.HERE / "old_schema.sql").read_bytes())
        support.jobs_in_every_state(own)
        events = support.events(own)
        # Where the path is what says where the tables are, they need not be in its first schema.
        path = f"nearer, {quoted}" if by_search_path else "public"
        escaped = path.replace("\\", "\\\\").replace(" ", "\\ ")
        settings = {} if by_search_path else {"schema": name}
        with support.opened(empty_database, kwargs={"options": f"-c search_path={escaped}"}, **settings) as manager:
            assert manager.upgrade()
            assert manager.verify() == []
            assert not manager.upgrade()
        assert set(events) <= set(support.events(own))
        assert support.catalog(own) == support.catalog(connection)
        others = "select from pg_class where relname like 'procrastinate%%' and relnamespace <> %s::regnamespace"
        assert own.execute(others, [quoted]).fetchall() == []


@pytest.mark.parametrize("kind", CONNECTORS)
@pytest.mark.parametrize("schema", [None, "100% mine"])
async def test_on_every_connector(old, old_database, connection, kind, schema):
    found = support.jobs_in_every_state(old)
    events = support.events(old)
    if schema is not None:
        old.execute(f'alter schema public rename to "{schema}"; create schema public; set search_path to "{schema}"')
    connector = CONNECTORS[kind](old_database, schema=schema)
    manager = SchemaManager(connector)
    titles = []
    if isinstance(connector, BaseAsyncConnector):
        await connector.open_async()
        try:
            assert await manager.verify_async() == [migrations.OTHER_TABLES]
            assert "create index concurrently" in await manager.get_upgrade_async()
            assert await manager.upgrade_async(tell=titles.append)
            assert await manager.verify_async() == []
            assert await manager.is_applied_async()
            assert not await manager.upgrade_async()
        finally:
            await connector.close_async()
    else:
        # On the loop's own thread: nothing else needs it.
        connector.open()
        try:
            assert manager.upgrade(tell=titles.append)
            assert manager.verify() == []
            assert not manager.upgrade()
        finally:
            connector.close()
    assert titles[0].startswith("Adopting")
    assert support.catalog(old) == support.catalog(connection)
    assert set(events) <= set(support.events(old))
    assert column(old, "waits_for", found["scheduled"]) == "time"

"""Users of each role, logged in: what they can do with our verbs, and what they cannot."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector, exceptions, types
from procrastinate.jobs import Status
from procrastinate.roles import RoleNames, get_grants
from procrastinate.schema import SchemaManager
from procrastinate.store.inspection import CountWorkers, FindJobs, JobFilter, ListWorkers, MeasureLag

ODD = "the odd \"user\" of 'jobs' %s"
DENIED = r"permission denied|must be owner|no schema"
REFUSED = pytest.raises(exceptions.ConnectorException, match="permission denied")


@pytest.fixture(scope="module")
def names() -> RoleNames:
    """Names of roles that nobody else has: roles belong to the whole server."""
    end = secrets.token_hex(4)
    return RoleNames(**{role: f"{role}_{end}" for role in ("producer", "worker", "reader", "admin")})


@pytest.fixture(params=[None, 'a "schema" of its own'])
def schema(request) -> str | None:
    return request.param


@pytest.fixture
def login(empty_database, names, schema) -> Iterator[Callable[[str], str]]:
    """Return the conninfo with which a member of a role logs in."""
    users: list[str] = []
    with psycopg.connect(empty_database, autocommit=True) as owner:
        owner.execute(SchemaManager.get_schema(schema).encode())
        # Nothing comes by itself: not from everybody's rights on the schema, nor on functions.
        owner.execute("revoke all on schema public from public")
        for kind in ("functions", "types"):
            owner.execute(f"alter default privileges revoke all on {kind} from public")
        for function in owner.execute("select oid::regprocedure from pg_proc where proname like 'procrastinate%'"):
            owner.execute(f"revoke all on function {function[0]} from public")
        owner.execute(get_grants(names, schema).encode())
        owner.execute(get_grants(names, schema).encode())  # again, as after an upgrade

        def log_in(role: str) -> str:
            user, password = f"user_{secrets.token_hex(4)}", secrets.token_hex(8)
            statement = sql.SQL("create role {} login password {} in role {}")
            group = sql.Identifier(getattr(names, role))
            owner.execute(statement.format(sql.Identifier(user), sql.Literal(password), group))
            users.append(user)
            return make_conninfo(empty_database, user=user, password=password)

        try:
            yield log_in
        finally:
            owner.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = any (%s)", [users])
            for user in users:
                owner.execute(sql.SQL("drop role {}").format(sql.Identifier(user)))
            for role in ("producer", "worker", "reader", "admin"):
                group = sql.Identifier(getattr(names, role))
                owner.execute(sql.SQL("drop owned by {}").format(group))
                owner.execute(sql.SQL("drop role {}").format(group))


@pytest.fixture
def app_of(login, schema):
    """Return an app that is logged in as a member of a role."""
    with contextlib.ExitStack() as stack:

        def make(role: str) -> App:
            app = App(connector=SyncPsycopgConnector(conninfo=login(role), schema=schema, min_size=1, max_size=2))
            app.task(name="add", queueing_lock=None)(lambda **_: None)
            return stack.enter_context(app.open())

        yield make


@pytest.fixture
def owner(empty_database, schema) -> Iterator[psycopg.Connection]:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        if schema is not None:
            connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(schema)))
        yield connection


def execute(app: App, statement: str) -> None:
    """Run a statement of one's own, where the tables are."""
    schema = app.connector.schema
    if schema is not None:
        quoted = schema.replace('"', '""')
        statement = statement.replace("procrastinate_", f'"{quoted}".procrastinate_')
    app.connector.execute_query(statement)


def some_jobs(app: App) -> list[int]:
    task = app.tasks["add"]
    ids = [task.defer(a=1), task.configure(lock="l", queueing_lock="ql", priority=3).defer(a=2)]
    ids += task.batch_defer({"a": 3}, {"a": 4})
    ids += task.configure(schedule_in={"hours": 1}).batch_defer({"a": 5})
    return ids


def test_a_producer_defers(app_of, owner):
    app = app_of("producer")
    ids = some_jobs(app)
    with pytest.raises(exceptions.AlreadyEnqueued):
        app.tasks["add"].configure(queueing_lock="ql").defer()
    with pytest.raises(exceptions.AlreadyEnqueued):
        app.job_manager.batch_defer_jobs([app.tasks["add"].configure(queueing_lock="ql").make_new_job()] * 2)
    ids += [job.id for job in app.job_manager.batch_defer_jobs([app.tasks["add"].configure().make_new_job()] * 2)]
    assert owner.execute("select array_agg(id order by id) from procrastinate_jobs").fetchone() == (ids,)
    assert app.job_manager.get_job_status(ids[0]) is Status.TODO
    assert app.check_connection()


def test_a_producer_defers_by_sql(app_of, owner):
    app = app_of("producer")
    execute(
        app,
        "select procrastinate_defer_jobs_v1(array[row('q', 't', 0, null, null, '{}', null)"
        "::procrastinate_job_to_defer_v1])",
    )
    assert owner.execute("select queue_name from procrastinate_jobs").fetchall() == [("q",)]


def test_a_producer_wakes_workers(app_of, owner):
    owner.execute("listen procrastinate_any_queue_v1")
    app = app_of("producer")
    app.tasks["add"].defer()
    assert next(owner.notifies(timeout=20, stop_after=1), None) is not None


@pytest.mark.parametrize(
    "statement",
    [
        "select args from procrastinate_jobs",
        "select * from procrastinate_jobs",
        "select * from procrastinate_events",
        "select * from procrastinate_workers",
        "insert into procrastinate_jobs (queue_name, task_name, status) values ('q', 't', 'succeeded')",
        "insert into procrastinate_jobs (queue_name, task_name, worker_id) values ('q', 't', 1)",
        "insert into procrastinate_jobs (queue_name, task_name, attempts_log) values ('q', 't', '[]')",
        "update procrastinate_jobs set status = 'cancelled'",
        "update procrastinate_jobs set args = '{}'",
        "delete from procrastinate_jobs",
        "truncate procrastinate_jobs",
        "insert into procrastinate_workers (name) values ('me')",
        "insert into procrastinate_periodic_defers (task_name) values ('t')",
        "alter table procrastinate_jobs add column mine text",
        "drop table procrastinate_jobs",
    ],
)
def test_what_a_producer_cannot_do(app_of, statement):
    app = app_of("producer")
    app.tasks["add"].defer(a="theirs")
    with pytest.raises(exceptions.ConnectorException, match=DENIED):
        execute(app, statement)


def test_verbs_that_a_producer_lacks(app_of):
    app = app_of("producer")
    job_id = app.tasks["add"].defer()
    manager = app.job_manager
    for verb in (
        lambda: manager.cancel_job_by_id(job_id),
        lambda: manager.cancel_job_by_id(job_id, delete_job=True),
        lambda: manager.retry_job_by_id(job_id, types.utcnow()),
        lambda: manager.run_job_now_by_id(job_id),
        manager.list_jobs,
        manager.list_queues,
    ):
        with REFUSED:
            verb()


async def test_a_worker_does_all_of_its_work(login, app_of, owner, schema):
    seen = []
    app = App(connector=PsycopgConnector(conninfo=login("worker"), schema=schema, min_size=1, max_size=4))

    @app.task(name="add", pass_context=True, retry=3)
    async def add(context, a=0):
        seen.append(a)
        if a == 2 and seen.count(2) == 1:
            raise ValueError("once more")
        if a == 3:
            await context.app.tasks["more"].defer_async()

    @app.periodic(cron="* * * * * *")
    @app.task(name="tick", pass_context=True, queueing_lock="tick")
    async def tick(context, timestamp):
        seen.append("tick")
        await context.app.tasks["clean"].configure(queueing_lock=None).defer_async()

    @app.task(name="clean", pass_context=True)
    async def clean(context):
        await context.app.job_manager.delete_old_jobs(1)
        seen.append("clean")

    @app.task(name="more", pass_context=True)
    async def more(context):
        manager = context.app.job_manager
        others = [await context.app.tasks["add"].configure(schedule_in={"days": 1}).defer_async() for _ in range(3)]
        assert await manager.cancel_job_by_id_async(others[0])
        assert await manager.cancel_job_by_id_async(others[1], delete_job=True)
        assert await manager.run_job_now_by_id_async(others[2])
        await manager.get_stalled_jobs()
        seen.append("more")

    await asyncio.to_thread(some_jobs, app_of("producer"))
    # A dead worker's job, to be rescued; and a job that ended long ago, to be removed.
    owner.execute(
        "insert into procrastinate_jobs (queue_name, task_name, status, worker_id, claims, attempted_at, args) "
        """values ('default', 'add', 'doing', 99, 1, now(), '{"a": 9}')"""
    )
    owner.execute(
        "insert into procrastinate_jobs (queue_name, task_name, status, finalized_at) "
        "values ('default', 'old', 'succeeded', now() - interval '1 year')"
    )
    wanted = {1, 2, 3, 4, 9, "tick", "more", "clean"}

    async with app.open_async():
        work = asyncio.create_task(
            app.run_worker_async(
                concurrency=3,
                fetch_job_polling_interval=0.2,
                update_heartbeat_interval=0.2,
                stalled_worker_timeout=1,
                install_signal_handlers=False,
                delete_jobs="never",
            )
        )
        async with asyncio.timeout(40):
            while not wanted <= set(seen):
                assert not work.done()
                await asyncio.sleep(0.05)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        await app.run_worker_async(wait=False, install_signal_handlers=False, delete_jobs="always")
    assert owner.execute("select count(*) from procrastinate_jobs where status in ('doing', 'failed')").fetchone() == (
        0,
    )
    assert owner.execute("select count(*) from procrastinate_jobs where task_name = 'old'").fetchone() == (0,)
    assert owner.execute("select count(*) from procrastinate_workers").fetchone() == (0,)


@pytest.mark.parametrize(
    "statement",
    [
        "update procrastinate_jobs set args = '{}'",
        "update procrastinate_jobs set task_name = 'other'",
        "update procrastinate_jobs set created_at = now()",
        "insert into procrastinate_jobs (queue_name, task_name, status) values ('q', 't', 'succeeded')",
        "truncate procrastinate_jobs",
        "insert into procrastinate_migrations (name, checksum) values ('mine', '')",
        "delete from procrastinate_chores",
        "create table procrastinate_more ()",
        "drop table procrastinate_jobs",
    ],
)
def test_what_a_worker_cannot_do(app_of, statement):
    app = app_of("worker")
    app.tasks["add"].defer(a="theirs")
    with pytest.raises(exceptions.ConnectorException, match=DENIED):
        execute(app, statement)


def test_a_reader_reads(app_of, owner):
    some_jobs(app_of("producer"))
    app = app_of("reader")
    manager, run = app.job_manager, app.connector.run
    assert [job.task_kwargs["a"] for job in manager.list_jobs()] == [1, 2, 3, 4, 5]
    assert manager.list_queues()[0]["todo"] == 5
    assert manager.list_locks()[0]["name"] == "l"
    assert manager.list_tasks()
    assert manager.get_job_status(1) is Status.TODO
    assert len(run(FindJobs(conditions=JobFilter(), limit=10, with_log=True))) == 5
    assert run(ListWorkers(limit=10)) == []
    assert run(CountWorkers(seconds_since_heartbeat=30)).alive == 0
    assert run(MeasureLag()).keys() == {"default"}
    assert app.schema_manager.is_applied()
    execute(app, "select * from procrastinate_events")


@pytest.mark.parametrize(
    "statement",
    [
        "insert into procrastinate_jobs (queue_name, task_name) values ('q', 't')",
        "update procrastinate_jobs set status = 'cancelled'",
        "select * from procrastinate_jobs for update",
        "delete from procrastinate_jobs",
        "select nextval('procrastinate_jobs_id_seq')",
        "insert into procrastinate_workers (name) values ('me')",
        "drop view procrastinate_events",
    ],
)
def test_what_a_reader_cannot_do(app_of, statement):
    app_of("producer").tasks["add"].defer()
    app = app_of("reader")
    with pytest.raises(exceptions.ConnectorException, match=DENIED):
        execute(app, statement)


def test_verbs_that_a_reader_lacks(app_of):
    job_id = app_of("producer").tasks["add"].defer()
    app = app_of("reader")
    for verb in (
        app.tasks["add"].defer,
        lambda: app.tasks["add"].batch_defer({}, {}),
        lambda: app.job_manager.cancel_job_by_id(job_id),
        lambda: app.job_manager.retry_job_by_id(job_id, types.utcnow()),
    ):
        with REFUSED:
            verb()


async def test_an_admin_manages(login, app_of, owner, schema):
    ids = await asyncio.to_thread(some_jobs, app_of("producer"))
    app = App(connector=PsycopgConnector(conninfo=login("admin"), schema=schema, min_size=1, max_size=2))
    async with app.open_async():
        manager = app.job_manager
        assert len(list(await manager.list_jobs_async())) == len(ids)
        assert await manager.cancel_job_by_id_async(ids[0])
        assert await manager.cancel_job_by_id_async(ids[1], delete_job=True)
        assert await manager.run_job_now_by_id_async(ids[4])
        owner.execute("update procrastinate_jobs set status = 'doing', worker_id = 1 where id = %s", [ids[2]])
        assert await manager.cancel_job_by_id_async(ids[2], abort=True)
        owner.execute("update procrastinate_jobs set status = 'failed' where id = %s", [ids[3]])
        await manager.retry_job_by_id_async(ids[3], types.utcnow(), priority=5)
        await manager.finish_job_by_id_async(ids[2], Status.FAILED, delete_job=False)
        await manager.prune_stalled_workers(0)
        await manager.delete_old_jobs(0, include_failed=True, include_cancelled=True)
        await app.configure_task("add").defer_async(a=1)
        await app.connector.execute_query_async("select 1")
    left = owner.execute("select array_agg(id order by id) from procrastinate_jobs").fetchone()
    assert left == ([ids[3], ids[4], ids[4] + 1],)


@pytest.mark.parametrize(
    "statement",
    [
        "alter table procrastinate_jobs add column mine text",
        "drop table procrastinate_jobs",
        "truncate procrastinate_jobs",
        "update procrastinate_migrations set checksum = ''",
        "create table procrastinate_more ()",
    ],
)
def test_what_an_admin_cannot_do(app_of, statement):
    app = app_of("admin")
    with pytest.raises(exceptions.ConnectorException, match=DENIED):
        execute(app, statement)


# The script


def test_odd_names():
    names = RoleNames(producer=ODD, worker='x"; drop table procrastinate_jobs; --')
    text = get_grants(names, 'a "schema"')
    assert "'the odd \"user\" of ''jobs'' %s'" in text
    assert '"the odd ""user"" of \'jobs\' %s"' in text
    assert '"x""; drop table procrastinate_jobs; --"' in text
    assert '"a ""schema""".procrastinate_jobs_id_seq' in text
    assert ":'" not in text
    assert ':"' not in text


@pytest.mark.parametrize("name", ["", "a$$b", "a\0b", "n" * 64, None])
def test_names_that_cannot_be(name):
    with pytest.raises(ValueError, match="reader="):
        RoleNames(reader=name)


def test_odd_names_on_a_server(empty_database):
    odd = RoleNames(
        **{role: f"{ODD} {role} {secrets.token_hex(4)}" for role in ("producer", "worker", "reader", "admin")}
    )
    with psycopg.connect(empty_database) as connection:
        connection.execute(SchemaManager.get_schema().encode())
        connection.execute(get_grants(odd).encode())
        query = "select has_table_privilege(%s, 'procrastinate_jobs', 'select')"
        assert connection.execute(query, [odd.reader]).fetchone() == (True,)
        connection.rollback()  # roles belong to the whole server


def test_the_shipped_script_names_what_the_server_has(database, names):
    """Every column is either the worker's to change, or one of those that stand for ever."""
    with psycopg.connect(database) as connection:
        connection.execute(get_grants(names).encode())
        query = (
            "select array_agg(attname::text order by attname) from pg_attribute "
            "where attrelid = 'procrastinate_jobs'::regclass and attnum > 0 and not attisdropped "
            "and not has_column_privilege(%s, attrelid, attnum, 'update')"
        )
        fixed = connection.execute(query, [names.worker]).fetchone()
        assert fixed == (["args", "created_at", "id", "queueing_lock", "task_name"],)
        connection.rollback()


def test_the_command(run_command):
    result = run_command("schema", "--roles")
    assert result.returncode == 0, result.stderr
    assert result.stdout == get_grants()
    result = run_command("schema", "--roles", "--role", "producer=web", "--role", "admin=boss")
    assert result.stdout == get_grants(RoleNames(producer="web", admin="boss"))


@pytest.mark.parametrize(
    "arguments",
    [("--role", "producer=web"), ("--roles", "--role", "owner=me"), ("--roles", "--role", "admin=")],
)
def test_wrong_usage(run_command, arguments):
    assert run_command("schema", *arguments).returncode == 2


@pytest.fixture
def run_command(monkeypatch):
    monkeypatch.delenv("PROCRASTINATE_APP", raising=False)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "procrastinate", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=40)

    return run

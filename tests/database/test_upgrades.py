"""Our own upgrades: numbered migrations in two halves, recorded with their checksums, and what workers say of them."""

from __future__ import annotations

import asyncio
import re
import shutil
from concurrent import futures

import psycopg
import pytest

import procrastinate
from procrastinate import exceptions
from procrastinate.schema import SchemaManager, UpgradeOptions
from procrastinate.store import migrations
from procrastinate.store.catalog import compare_catalogs, expected_catalog
from takeover import support

FIRST = "04.00.00_01_pre_initial_schema"
LATER = {
    "04.01.00_01_pre_add_color": """
        -- A column with a function; the semicolon in this comment; ends nothing.
        alter table procrastinate_jobs add column color text;
        create function procrastinate_color_v1() returns text language sql as $$ select 'green; or blue' $$;
    """,
    "04.01.00_50_post_index_color": "create index procrastinate_jobs_color_idx_v1 on procrastinate_jobs (color);",
    "04.02.00_01_pre_add_shade": "alter table procrastinate_jobs add column shade text;",
    "04.02.00_50_post_require_shade": "alter table procrastinate_jobs add check (shade <> '');",
}


@pytest.fixture
def release(tmp_path, monkeypatch):
    """Make this a version with these migrations, after the real ones."""
    number = 0

    def release(**later: str) -> None:
        nonlocal number
        number += 1
        folder = tmp_path / str(number)
        shutil.copytree(SchemaManager.get_migrations_path(), folder)
        for name, text in later.items():
            (folder / f"{name}.sql").write_text(text)
        monkeypatch.setattr(migrations, "FOLDER", folder)

    return release


@pytest.fixture
def manager(database):
    with support.opened(database) as manager:
        yield manager


def applied(connection):
    return [row[0] for row in connection.execute("select name from procrastinate_migrations order by applied_at, name")]


def run_worker(conninfo):
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=conninfo))

    async def run():
        async with app.open_async():
            await app.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)

    asyncio.run(run())


class TestUpgrade:
    def test_from_the_first_release_equals_a_fresh_one(self, release, manager, connection, empty_database):
        support.insert(connection)
        release(**LATER)
        titles = []
        assert manager.upgrade(tell=titles.append)
        assert titles == [f"Applying {name}" for name in LATER]
        assert applied(connection) == [FIRST, *LATER]
        with (
            support.opened(empty_database) as fresh,
            psycopg.connect(empty_database, autocommit=True) as fresh_connection,
        ):
            assert fresh.upgrade()
            assert support.catalog(connection) == support.catalog(fresh_connection)
            assert fresh.is_applied()
        assert not manager.upgrade()
        assert manager.is_applied()

    def test_release_by_release(self, release, manager, connection, empty_database):
        release(**LATER)
        with psycopg.connect(empty_database, autocommit=True) as fresh_connection:
            fresh_connection.execute(SchemaManager.get_schema().encode())
            for count in range(len(LATER) + 1):
                release(**dict(list(LATER.items())[:count]))
                assert manager.upgrade() == (count > 0)
            assert support.catalog(connection) == support.catalog(fresh_connection)

    def test_only_before_the_new_version_starts(self, release, manager, connection):
        release(**LATER)
        assert manager.upgrade(UpgradeOptions(only_pre=True))
        # What the version before left to be done is safe by now.
        assert applied(connection)[1:] == list(LATER)[:3]
        assert not manager.upgrade(UpgradeOptions(only_pre=True))
        assert manager.upgrade()
        assert applied(connection)[1:] == list(LATER)

    def test_in_a_schema(self, release, empty_database):
        with support.opened(empty_database, schema="mine") as manager:
            assert manager.upgrade()
            assert manager.verify() == []
            release(**LATER)
            assert manager.upgrade()
            assert manager.is_applied()
        with psycopg.connect(empty_database) as connection:
            query = (
                "select relname from pg_class where relname ~ '^procrastinate' and relnamespace <> 'mine'::regnamespace"
            )
            assert connection.execute(query).fetchall() == []

    def test_one_that_fails(self, release, manager, connection):
        release(**LATER, **{"04.03.00_01_pre_bad": "create table oops (); select 1 / 0;"})
        with pytest.raises(exceptions.ConnectorException, match="division by zero"):
            manager.upgrade()
        assert applied(connection)[1:] == list(LATER)
        assert connection.execute("select to_regclass('oops')").fetchone() == (None,)
        release(**LATER)
        assert not manager.upgrade()

    def test_many_at_once(self, release, database, connection):
        release(**LATER)

        def upgrade():
            with support.opened(database) as manager:
                return manager.upgrade()

        with futures.ThreadPoolExecutor(4) as threads:
            answers = [future.result(30) for future in [threads.submit(upgrade) for _ in range(4)]]
        assert True in answers
        assert applied(connection)[1:] == list(LATER)

    def test_many_at_once_on_an_empty_database(self, empty_database):
        def upgrade():
            with support.opened(empty_database) as manager:
                return manager.upgrade()

        with futures.ThreadPoolExecutor(4) as threads:
            answers = [future.result(30) for future in [threads.submit(upgrade) for _ in range(4)]]
        assert sorted(answers) == [False, False, False, True]

    def test_a_newer_version(self, release, manager, connection):
        connection.execute("insert into procrastinate_migrations (name, checksum) values ('99.00.00_50_post_x', 'x')")
        with pytest.raises(exceptions.ConnectorException, match=r"newer version, which applied 99\.00\.00_50_post_x"):
            manager.upgrade()

    def test_another_text(self, manager, connection):
        connection.execute("update procrastinate_migrations set checksum = 'x'")
        with pytest.raises(exceptions.ConnectorException, match=f"{FIRST} was applied with another text"):
            manager.upgrade()

    def test_as_sql(self, release, manager, connection):
        release(**LATER)
        script = manager.get_upgrade()
        assert applied(connection) == [FIRST]
        for statement in migrations.statements(script):
            connection.execute(statement)
        assert manager.is_applied()
        assert connection.execute("select procrastinate_color_v1()").fetchone() == ("green; or blue",)

    def test_one_by_one(self, release, manager, connection):
        release(**LATER)
        for name in LATER:
            connection.execute(SchemaManager.get_migration(f"{name}.sql").encode())
        assert manager.is_applied()
        with pytest.raises(ValueError, match="There is no migration 'nonsense'; they are in"):
            SchemaManager.get_migration("nonsense")


class TestWorker:
    def test_starts_on_its_own_version(self, database):
        run_worker(database)

    def test_no_tables(self, empty_database):
        with pytest.raises(exceptions.SchemaNotApplied, match=r"no tables.*procrastinate schema --apply"):
            run_worker(empty_database)

    def test_an_older_schema(self, release, database, connection):
        release(**LATER)
        with pytest.raises(exceptions.SchemaNotApplied, match=r"older version.*pre_add_color.*schema --upgrade"):
            run_worker(database)
        assert connection.execute("select count(*) from procrastinate_workers").fetchone() == (0,)

    def test_post_migrations_may_follow(self, release, manager, database):
        release(**LATER)
        manager.upgrade(UpgradeOptions(only_pre=True))
        run_worker(database)

    def test_the_next_version_is_being_prepared(self, release, manager, database):
        release(**dict(list(LATER.items())[:1]))
        manager.upgrade()
        release()
        run_worker(database)

    def test_a_newer_schema(self, release, manager, database):
        release(**LATER)
        manager.upgrade()
        release()
        with pytest.raises(exceptions.SchemaNotApplied, match=r"newer version, which applied 04\.01\.00_50_post_index"):
            run_worker(database)

    def test_another_text(self, database, connection):
        connection.execute("update procrastinate_migrations set checksum = 'x'")
        with pytest.raises(exceptions.SchemaNotApplied, match=r"another text.*schema --verify"):
            run_worker(database)


class TestVerify:
    def test_what_ships_is_up_to_date(self, connection):
        differences = list(compare_catalogs(expected_catalog(), support.catalog(connection)))
        assert differences == [], "run scripts/describe_schema.py"

    def test_as_expected(self, manager):
        assert manager.verify() == []

    def test_no_tables(self, empty_database):
        with support.opened(empty_database) as manager:
            assert manager.verify() == [migrations.NO_TABLES]

    @pytest.mark.parametrize(
        ("change", "difference"),
        [
            ("drop index procrastinate_jobs_ready_idx_v1", "missing: index .*ready_idx_v1"),
            (
                """drop index procrastinate_jobs_due_idx_v1;
                create index procrastinate_jobs_due_idx_v1 on procrastinate_jobs (scheduled_at)""",
                "different: index .*due_idx_v1 is .* instead of .*waits_for",
            ),
            (
                "alter table procrastinate_workers alter column name type varchar(9)",
                r"different: column procrastinate_workers.name is 'character varying\(9\)' instead of 'text'",
            ),
            ("alter table procrastinate_jobs alter column rescues drop default", "different: column .*rescues"),
            ("alter table procrastinate_jobs alter column queue_name drop not null", "different: column .*queue_name"),
            ("alter table procrastinate_jobs drop constraint check_not_todo_abort_requested", "missing: constraint"),
            (
                "alter table procrastinate_jobs disable trigger procrastinate_jobs_notify_inserted_v1",
                "different: trigger .*enabled: D",
            ),
            ("drop function procrastinate_defer_jobs_v1", "missing: function procrastinate_defer_jobs_v1"),
            (
                """create or replace function procrastinate_queue_channel_v1(queue_name text) returns text
                language sql immutable strict parallel safe as $$ select '' $$""",
                "different: function procrastinate_queue_channel_v1",
            ),
            ("alter type procrastinate_job_status add value 'lost'", "different: type procrastinate_job_status"),
            (
                """create or replace view procrastinate_events as select id, id as job_id,
                'deferred'::procrastinate_job_event_type as type, now() as at from procrastinate_jobs""",
                "different: view procrastinate_events",
            ),
            ("drop table procrastinate_chores", "missing: table procrastinate_chores"),
            ("alter table procrastinate_jobs set (fillfactor = 70)", "different: table procrastinate_jobs"),
            (
                """create trigger procrastinate_mine after insert on procrastinate_jobs
                execute function procrastinate_notify_jobs_inserted_v1()""",
                "unexpected: trigger procrastinate_jobs.procrastinate_mine",
            ),
            ("update procrastinate_migrations set checksum = 'x'", "migrations applied with another text"),
        ],
    )
    def test_differences(self, manager, connection, change, difference):
        for statement in migrations.statements(change):
            connection.execute(statement)
        assert any(re.search(difference, line) for line in manager.verify()), manager.verify()

    def test_what_users_add(self, manager, connection):
        connection.execute(
            """
            alter table procrastinate_jobs add column mine text;
            create index mine on procrastinate_jobs (mine);
            create table procrastinate_of_mine (id bigserial primary key);
            """
        )
        assert manager.verify() == []


class TestStatements:
    @pytest.mark.parametrize(
        ("text", "statements"),
        [
            ("", []),
            ("  -- nothing; at all\n", []),
            ("select 1", ["select 1"]),
            ("select 1;\n-- b; c\nselect ';', '--''';", ["select 1", "-- b; c\nselect ';', '--'''"]),
            ("do $$ begin; end $$; select $a$ ; $$ ; $a$", ["do $$ begin; end $$", "select $a$ ; $$ ; $a$"]),
            ("select 1 - 2; select $1;", ["select 1 - 2", "select $1"]),
        ],
    )
    def test_split(self, text, statements):
        assert migrations.statements(text) == statements

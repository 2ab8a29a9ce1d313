"""Django's migrations: for new projects, for databases that have the tables, and for those of the other project."""

import io
from pathlib import Path

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import CommandError, SystemCheckError
from django.db import connection, connections
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from procrastinate.contrib.django import checks, migrations_utils
from procrastinate.contrib.django.migrations_utils import RunProcrastinateSQL
from procrastinate.fresh_databases import new_database
from procrastinate.schema import SchemaManager

SQUASHED = "0001_squashed_0041_post_retry_failed_job"
OLD_SCHEMA = Path(__file__).parent.parent / "takeover" / "old_schema.sql"


def applied():
    return [name for app, name in sorted(MigrationRecorder(connection).applied_migrations()) if app == "procrastinate"]


def has_tables(alias="default"):
    with connections[alias].cursor() as cursor:
        cursor.execute("select to_regclass('procrastinate_jobs') is not null")
        return cursor.fetchone()[0]


def migrate(**options):
    call_command("migrate", "procrastinate", verbosity=0, **options)


def replaced():
    return [name for _, name in MigrationLoader(connection).disk_migrations["procrastinate", SQUASHED].replaces]


def test_the_models_have_all_their_migrations(db):
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_each_sql_migration_is_in_a_django_migration():
    found = {}
    for key, migration in MigrationLoader(None).disk_migrations.items():
        for operation in migration.operations:
            if isinstance(operation, RunProcrastinateSQL):
                found.setdefault(operation.name, []).append(key[1])
    assert found.keys() == migrations_utils.list_migration_files().keys()


def test_a_new_project_starts_with_the_whole_schema(empty_db, app):
    migrate()
    assert app.check_connection()
    assert len(replaced()) == 41
    assert set(replaced()) | {SQUASHED} <= set(applied())
    migrate()
    with psycopg.connect(empty_db) as other:
        names = {name for (name,) in other.execute("select name from procrastinate_migrations")}
    assert {f"{name}.sql" for name in names} == migrations_utils.list_migration_files().keys()


async def test_the_schema_is_that_of_the_command_line(db, app):
    assert await app.schema_manager.is_applied_async()


def test_tables_that_are_there_already_are_left_as_they_are(empty_db, app):
    with psycopg.connect(empty_db) as other:
        other.execute(SchemaManager.get_schema())
    app.configure_task("t").defer()
    migrate()
    assert [job.task_name for job in app.job_manager.list_jobs()] == ["t"]


def test_projects_that_depend_on_a_former_migration_find_it(empty_db, monkeypatch):
    class Dependent(Migration):
        dependencies = (("procrastinate", "0036_add_worker_model"),)

    def load_disk(self):
        original(self)
        self.disk_migrations["shop", "0001_initial"] = Dependent("0001_initial", "shop")
        self.migrated_apps.add("shop")

    original = MigrationLoader.load_disk
    monkeypatch.setattr(MigrationLoader, "load_disk", load_disk)
    plan = MigrationLoader(connection).graph.forwards_plan(("shop", "0001_initial"))
    assert plan == [("procrastinate", SQUASHED), ("shop", "0001_initial")]


def test_a_database_that_is_too_old_is_refused_with_the_way_out(empty_db):
    recorder = MigrationRecorder(connection)
    recorder.ensure_schema()
    for name in replaced()[:36]:
        recorder.record_applied("procrastinate", name)
    with pytest.raises(SystemCheckError, match=r"36 of the 41(?s:.)*Install procrastinate 3\.10"):
        migrate(skip_checks=False)


@pytest.fixture
def second_database(postgres_server, use_database):
    """An empty database, for the alias `other`."""
    with new_database(postgres_server) as conninfo:
        use_database(conninfo, "other")
        yield
        connections["other"].close()


def test_only_the_database_of_the_alias_gets_the_tables(empty_db, second_database, settings):
    settings(PROCRASTINATE_DATABASE_ALIAS="other")
    migrate()
    migrate(database="other")
    assert not has_tables()
    assert has_tables("other")


class Router:
    """Wants the tables in one database only, whatever the setting says."""

    def allow_migrate(self, db, app_label, **hints):
        return db == "other" if app_label == "procrastinate" else None


def test_a_router_decides_otherwise(empty_db, second_database, settings):
    settings(DATABASE_ROUTERS=[Router()])
    migrate()
    migrate(database="other")
    assert not has_tables()
    assert has_tables("other")


def test_another_database_than_postgresql_is_refused(settings):
    migrate(database="lite")
    settings(PROCRASTINATE_DATABASE_ALIAS="lite")
    with connections["lite"].cursor() as cursor:
        cursor.execute("delete from django_migrations")
    with pytest.raises(ImproperlyConfigured, match="needs PostgreSQL"):
        migrate(database="lite")
    connections["lite"].close()


def test_an_unknown_alias_is_found_early(settings):
    settings(PROCRASTINATE_DATABASE_ALIAS="nowhere")
    [error] = checks.check_settings(None)
    assert error.id == "procrastinate.E001"


def test_sql_can_be_printed(db):
    out = io.StringIO()
    call_command("sqlmigrate", "procrastinate", SQUASHED, stdout=out)
    assert "create table procrastinate_jobs" in out.getvalue()
    assert "insert into procrastinate_migrations" in out.getvalue()


@pytest.fixture
def old_tables(empty_db):
    """Django's database with the tables of the other project, as its own migrations leave it, and two jobs."""
    with psycopg.connect(empty_db, autocommit=True) as other:
        other.execute(OLD_SCHEMA.read_bytes())
        other.execute(
            "insert into procrastinate_jobs (queue_name, task_name, args) values ('q', 'first', '{\"a\": 1}');"
            "insert into procrastinate_jobs (queue_name, task_name, scheduled_at) values ('q', 'second', 'tomorrow')"
        )
        yield other


@pytest.mark.parametrize("by_django", [True, False])
def test_tables_of_the_other_project_are_taken_over(old_tables, app, capsys, by_django):
    if by_django:
        recorder = MigrationRecorder(connection)
        recorder.ensure_schema()
        for name in replaced():
            recorder.record_applied("procrastinate", name)
    migrate()
    assert "Adopting the tables" in capsys.readouterr().out
    assert [(job.task_name, job.task_kwargs, job.status) for job in app.job_manager.list_jobs()] == [
        ("first", {"a": 1}, "todo"),
        ("second", {}, "todo"),
    ]
    assert app.schema_manager.is_applied()
    assert app.schema_manager.verify() == []
    assert {SQUASHED, "0042_take_over"} <= set(applied())
    migrate()
    assert capsys.readouterr().out == ""


def test_tables_are_not_taken_over_while_workers_live(old_tables):
    old_tables.execute("insert into procrastinate_workers default values")
    with pytest.raises(CommandError, match=r"Workers gave a sign of life.*`schema --upgrade --force`"):
        migrate()
    assert "0042_take_over" not in applied()
    old_tables.execute("delete from procrastinate_workers")
    migrate()
    assert "0042_take_over" in applied()


def test_a_takeover_by_force_is_noticed_by_migrate(old_tables, app):
    old_tables.execute("insert into procrastinate_workers default values")
    call_command("procrastinate", "schema", "--upgrade", "--force")
    migrate()
    assert "0042_take_over" in applied()
    assert app.schema_manager.verify() == []


def test_the_sql_of_a_takeover_can_be_printed(db):
    out = io.StringIO()
    call_command("sqlmigrate", "procrastinate", "0042_take_over", stdout=out)
    assert "refuse" in out.getvalue() or "procrastinate_old_events" in out.getvalue()

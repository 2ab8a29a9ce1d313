"""Alembic's users create, take over and upgrade the tables in revisions of their own; see docs/guides/migrations.md."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config

from takeover import support

ENVIRONMENT = """
import sqlalchemy
from alembic import context

engine = sqlalchemy.create_engine(context.config.get_main_option("url"), poolclass=sqlalchemy.pool.NullPool)
if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    with engine.connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
"""

REVISION = """
from alembic import op
from procrastinate.schema import SchemaManager, UpgradeOptions

revision = "{name}"
down_revision = {before!r}


def upgrade():
    op.execute({sql})


def downgrade():
    pass
"""


@pytest.fixture
def revisions(tmp_path):
    """Make a project with these revisions on a database, and return its configuration."""

    def revisions(conninfo: str, *sql: str) -> Config:
        (tmp_path / "versions").mkdir()
        (tmp_path / "env.py").write_text(ENVIRONMENT)
        before = None
        for number, text in enumerate(sql):
            name = f"r{number}"
            (tmp_path / "versions" / f"{name}.py").write_text(REVISION.format(name=name, before=before, sql=text))
            before = name
        config = Config()
        config.set_main_option("script_location", str(tmp_path))
        parts = psycopg.conninfo.conninfo_to_dict(conninfo)
        url = sqlalchemy.URL.create(
            "postgresql+psycopg",
            username=parts.get("user"),
            password=parts.get("password"),
            database=parts["dbname"],
            query={"host": parts.get("host", ""), **({"port": parts["port"]} if "port" in parts else {})},
        )
        config.set_main_option("url", url.render_as_string(hide_password=False).replace("%", "%%"))
        return config

    return revisions


def test_new_tables(revisions, empty_database):
    command.upgrade(revisions(empty_database, "SchemaManager.get_schema()"), "head")
    with support.opened(empty_database) as manager:
        assert manager.verify() == []


def test_takeover(revisions, old, old_database, connection):
    support.jobs_in_every_state(old)
    events = support.events(old)
    command.upgrade(revisions(old_database, "SchemaManager.get_takeover()"), "head")
    assert support.catalog(old) == support.catalog(connection)
    assert set(events) <= set(support.events(old))
    assert old.execute("select version_num from alembic_version").fetchall() == [("r0",)]


def test_takeover_of_tables_in_another_schema(revisions, empty_database):
    """Alembic's own table is still found where it was."""
    with psycopg.connect(empty_database, autocommit=True) as own:
        own.execute("create schema jobs; set search_path to jobs")
        own.execute((support.HERE / "old_schema.sql").read_bytes())
    command.upgrade(revisions(empty_database, "'select 1'", "SchemaManager.get_takeover('jobs')"), "head")
    with psycopg.connect(empty_database) as own:
        assert own.execute("select version_num from public.alembic_version").fetchall() == [("r1",)]
    with support.opened(empty_database, schema="jobs") as manager:
        assert manager.verify() == []


def test_as_sql(revisions, empty_database, capsys):
    command.upgrade(revisions(empty_database, "SchemaManager.get_schema()"), "head", sql=True)
    with psycopg.connect(empty_database, autocommit=True) as own:
        own.execute(capsys.readouterr().out.encode())
    with support.opened(empty_database) as manager:
        assert manager.verify() == []

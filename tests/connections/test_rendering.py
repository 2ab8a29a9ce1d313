"""Statements as text: names qualified with a schema, placeholders for each driver."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from procrastinate import schema
from procrastinate.store import postgres

SQL = Path(postgres.__file__).parent / "sql"
STATEMENTS = sorted(path.stem for path in SQL.glob("*.sql"))
COMMENT = re.compile(r"--[^\n]*")
UNQUALIFIED = re.compile(r'(?<!"here"\.)\bprocrastinate_\w+(?![\w#])')


@pytest.fixture
def others(connection):
    """What has no schema of its own: indexes, constraints and triggers follow their table, channels have none."""
    query = """
        select relname from pg_class where relkind = 'i' and relname ~ 'procrastinate'
        union select conname from pg_constraint where conname ~ 'procrastinate'
        union select tgname from pg_trigger where tgname ~ 'procrastinate'
    """
    return {name for (name,) in connection.execute(query)} | {"procrastinate_any_queue_v1"}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_name_is_forgotten(name, others):
    text = COMMENT.sub("", postgres.qualified((SQL / f"{name}.sql").read_text(), "here"))
    assert set(UNQUALIFIED.findall(text)) <= others


def test_no_name_of_the_schema_is_forgotten(others):
    text = COMMENT.sub("", schema.SchemaManager.get_schema("here"))
    assert {name for name in UNQUALIFIED.findall(text) if "#" not in name} <= others | {"procrastinate_queue_v1"}


def test_everything_is_created_there(empty_database):
    with psycopg.connect(empty_database) as connection:
        connection.execute(schema.SchemaManager.get_schema("here").encode())
        query = """
            select relname from pg_class where relnamespace = 'public'::regnamespace
            union select proname from pg_proc where pronamespace = 'public'::regnamespace
            union select typname from pg_type where typnamespace = 'public'::regnamespace
        """
        assert connection.execute(query).fetchall() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select from procrastinate_jobs j", 'select from "a\'"".b".procrastinate_jobs j'),
        ("nextval('procrastinate_jobs_id_seq')", "nextval('\"a''\"\".b\".procrastinate_jobs_id_seq')"),
        ("procrastinate_jobs_lock_idx_v1", "procrastinate_jobs_lock_idx_v1"),
        ("other.procrastinate_jobs", "other.procrastinate_jobs"),
        ("-- it's procrastinate_jobs\n'x'", "-- it's procrastinate_jobs\n'x'"),
        ("'procrastinate_queue_v1#' || q", "'procrastinate_queue_v1#' || q"),
    ],
)
def test_names(text, expected):
    assert postgres.qualified(text, "a'\".b") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%(a)s::text, %(b)s, %(a)s", ("$1::text, $2, $1", ("a", "b"))),
        ("like '100%%' and %(a)s", ("like '100%' and $1", ("a",))),
        ("select 1", ("select 1", ())),
    ],
)
def test_numbered_placeholders(text, expected):
    assert postgres.numbered(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a % b", "a %% b"), ("a %% b", "a %% b"), ("%(a)s % 2", "%(a)s %% 2"), ("'%(no'", "'%%(no'")],
)
def test_percent_signs_of_the_users(text, expected):
    assert postgres.with_lone_percents(text) == expected

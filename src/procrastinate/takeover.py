"""From a database of the other implementation, schema 3.4 to 3.10, to ours: what is to be done, as SQL.

The tables stay where they are and are never rewritten, so that a long table of jobs does not mean a long lock
(docs/adr/0010-takeover.md). Each step can be repeated: an interrupted takeover goes on where it stopped.
"""

from __future__ import annotations

import enum
import functools
import importlib.resources
import re
from collections.abc import Collection, Iterator

import attrs

from procrastinate.store import migrations, postgres
from procrastinate.store.tables import Tables

# Two programs that change the schema at the same time take turns. The number is "procrast" in ASCII.
ADVISORY_LOCK = 0x70726F6372617374

# A worker whose heartbeat is younger counts as alive: three beats of the other implementation.
ALIVE_SECONDS = 30
BATCH = 5_000

OLD_EVENTS = "procrastinate_old_events"

# What version 3.4 has and ours builds on.
_REQUIRED = frozenset(
    {
        "procrastinate_job_to_defer_v1:c",
        "procrastinate_job_event_type.retried",
        "procrastinate_job_status.aborted",
        *(f"procrastinate_workers.{column}" for column in ("id", "last_heartbeat")),
        *(f"procrastinate_events.{column}" for column in ("id", "job_id", "type", "at")),
        *(
            f"procrastinate_periodic_defers.{column}"
            for column in ("id", "task_name", "defer_timestamp", "job_id", "periodic_id")
        ),
        *(
            f"procrastinate_jobs.{column}"
            for column in (
                "id", "queue_name", "task_name", "priority", "lock", "queueing_lock", "args", "status", "scheduled_at",
                "attempts", "abort_requested", "worker_id",
            )
        ),
    }
)  # fmt: skip

# The tables and types that both have, and the indexes of all but the table of jobs, which differ.
_COMMON = re.compile(
    r"create (type|table procrastinate_(workers|jobs|periodic_defers)\b"
    r"|index \w+ on procrastinate_(workers|periodic_defers)\b)"
)
_JOB_INDEX = re.compile(r"create (unique )?index (?P<name>\w+) on procrastinate_jobs\b")


class Mode(enum.Enum):
    """How a step is run."""

    TRANSACTION = enum.auto()
    """All of it in one transaction."""
    ALONE = enum.auto()
    """One statement outside of any transaction."""
    REPEATED = enum.auto()
    """One query with one number, each time in a transaction of its own, until the number is 0."""


@attrs.frozen
class Step:
    """A part of an upgrade.

    Attributes:
        title: what it does, for whoever waits.
        text: its SQL.
        mode: how it is run.
        otherwise: for ALONE, what a transaction can run in its place where no statement can be outside of one.
        needs_turn: whether no other program may be at the same takeover.
    """

    title: str
    text: str
    mode: Mode = Mode.TRANSACTION
    otherwise: str | None = None
    needs_turn: bool = False

    @property
    def script(self) -> str:
        """The step as psql runs it."""
        match self.mode:
            case Mode.TRANSACTION:
                text = f"begin;\n{self.text}\ncommit;"
            case Mode.ALONE:
                text = f"{self.text};"
            case Mode.REPEATED:
                text = _loop(self.text, commit=True)
        return f"-- {self.title}\n{text}\n"


# Steps of a takeover that was begun.
_TurnStep = functools.partial(Step, needs_turn=True)


def is_takeable(found: Tables) -> bool:
    """Tell whether these are tables of the other implementation that can be taken over."""
    return not found.are_missing and not found.are_ours and found.names >= _REQUIRED


def prepare(schema: str | None, done: Collection[str], *, force: bool = False) -> Iterator[Step]:
    """Give the steps after which workers of ours can start.

    Args:
        schema: where the tables are, None to find them on the search_path.
        done: the parts that are done, from the table procrastinate_takeover.
        force: do not look whether workers are alive.
    """
    if "tables" not in done:
        guard = "" if force else _read("refuse_live_workers")
        # In the order in which those who defer take them.
        lock = (
            "lock table procrastinate_jobs, procrastinate_periodic_defers, procrastinate_events, procrastinate_workers "
            "in access exclusive mode;\n"
        )
        yield Step(
            "Adopting the tables, triggers and functions",
            in_schema(schema, lock, guard, _read("adopt_tables"), *_own_objects(schema), _read("share_privileges")),
        )
    # At each resumption too, for it may be another version's turn.
    yield _TurnStep("Installing the function that copies history", in_schema(schema, _read("copy_history")))
    yield _TurnStep("Copying the history of open jobs", _copy(schema, open_jobs=True), Mode.REPEATED)
    for name, statement in _job_indexes().items():
        if f"index {name}" not in done:
            yield from _build_index(schema, name, statement)
    yield _TurnStep(
        "Recording the schema as applied",
        in_schema(schema, "analyze procrastinate_jobs;\n", migrations.shipped()[0].record),
    )


def complete(schema: str | None, *, keep_events: bool = False) -> Iterator[Step]:
    """Give the steps that can run beside workers of ours.

    Args:
        schema: where the tables are, None to find them on the search_path.
        keep_events: leave the old table of events, under the name of `OLD_EVENTS`.
    """
    yield _TurnStep("Copying the history of ended jobs", _copy(schema, open_jobs=False), Mode.REPEATED)
    leftovers = "" if keep_events else f"drop table {OLD_EVENTS};\n"
    yield _TurnStep("Dropping what is no longer needed", in_schema(schema, leftovers, _read("drop_leftovers")))


def whole_script(schema: str | None = None, *, force: bool = False, keep_events: bool = False) -> str:
    """Return the whole takeover as SQL for one transaction of the caller's, which holds its locks to the end."""
    # What the steps set for their own transactions, the caller's must get back.
    names = ("search_path", "lock_timeout")
    keep = [f"select set_config('procrastinate.{name}', current_setting('{name}'), true);" for name in names]
    restore = [f"select set_config('{name}', current_setting('procrastinate.{name}'), true);" for name in names]
    steps = [*prepare(schema, (), force=force), *complete(schema, keep_events=keep_events)]
    texts = (
        _loop(step.text, commit=False) if step.mode is Mode.REPEATED else step.otherwise or step.text for step in steps
    )
    return "\n".join(
        [*keep, *(f"-- {step.title}\n{text}" for step, text in zip(steps, texts, strict=True)), *restore, ""]
    )


def live_workers(schema: str | None) -> str:
    """Return the query for workers that gave a sign of life: `ids`, a text or null, and `wait`, in seconds."""
    return postgres.qualified(
        "select string_agg(id::text, ', ' order by id) as ids, "  # noqa: S608  our own constants
        f"ceil(max(extract(epoch from last_heartbeat - now())) + {ALIVE_SECONDS})::integer as wait "
        f"from procrastinate_workers where last_heartbeat > now() - interval '{ALIVE_SECONDS} seconds'",
        schema,
    )


def dependents(schema: str | None) -> str:
    """Return the query for the users' own objects that are bound to the table of events: `name`."""
    return postgres.qualified(
        """
        select 'view ' || r.ev_class::regclass::text as name
        from pg_depend d
        join pg_rewrite r on r.oid = d.objid
        where d.classid = 'pg_rewrite'::regclass and d.refobjid = to_regclass('procrastinate_events')
          and r.ev_class <> d.refobjid  -- another program was faster, and it is a view already
        union
        select 'foreign key ' || c.conname || ' of ' || c.conrelid::regclass::text
        from pg_constraint c
        where c.contype = 'f' and c.confrelid = to_regclass('procrastinate_events')
        union
        select 'trigger ' || t.tgname || ' on procrastinate_events'
        from pg_trigger t
        where not t.tgisinternal and t.tgrelid = to_regclass('procrastinate_events')
        order by name
        """,
        schema,
    )


def progress(home: str) -> str:
    """Return the query for the parts that are done, in the schema that has the tables: `part`."""
    return f"select part from {postgres.identifier(home)}.procrastinate_takeover"  # noqa: S608


def take_turn(schema: str | None, program: int) -> str:
    """Return the statement that makes a program, known by a number, the one that does the next step: a row if it is.

    The turn of a program that gave no sign of life for a while is over, unless the server builds an index for it.
    """
    jobs = postgres.qualified("to_regclass('procrastinate_jobs')", schema)
    return (
        f"update {_beside_jobs('procrastinate_takeover', schema)} set position = {program}, seen_at = now() "  # noqa: S608
        f"where part = 'turn' and (position = {program} or (seen_at < now() - interval '{ALIVE_SECONDS} seconds' "
        f"and not exists (select from pg_stat_progress_create_index where relid = {jobs}))) returning part"
    )


def _own_objects(schema: str | None) -> Iterator[str]:
    """Give the statements of our first migration for what the other implementation does not have."""
    for statement in migrations.statements(migrations.shipped()[0].text):
        command = _uncommented(statement)
        if not _COMMON.match(command) and not _JOB_INDEX.match(command):
            command = re.sub(r"^create function", "create or replace function", command)
            yield postgres.qualified(f"{command};\n", schema)


def _job_indexes() -> dict[str, str]:
    """Return the indexes of the table of jobs: their statements by name."""
    found: dict[str, str] = {}
    for statement in migrations.statements(migrations.shipped()[0].text):
        command = _uncommented(statement)
        if match := _JOB_INDEX.match(command):
            found[match["name"]] = command
    return found


def _build_index(schema: str | None, name: str, statement: str) -> Iterator[Step]:
    """Give the steps that put an index in the place of the old one of that name, if there was one."""
    new = f"{name}_new"
    create = re.sub(rf"\b{name}\b", new, statement)
    # What an interrupted build left behind is of no use.
    yield _TurnStep(f"Making room for {name}", in_schema(schema, f"drop index if exists {new};\n"))
    yield _TurnStep(
        f"Building {name}",
        postgres.qualified(create.replace("index", "index concurrently", 1), schema),
        Mode.ALONE,
        otherwise=in_schema(schema, f"{create};\n"),
    )
    yield _TurnStep(
        f"Putting {name} into its place",
        in_schema(
            schema, f"drop index if exists {name};\nalter index {new} rename to {name};\n", _mark(f"index {name}")
        ),
    )


def in_schema(schema: str | None, *texts: str) -> str:
    """Return a script that waits for its turn, but not long for a lock, and finds everything where the jobs are.

    With one schema on the search_path, that is also where it creates things.
    """
    home = postgres.qualified("to_regclass('procrastinate_jobs')", schema)
    prologue = (
        f"select pg_advisory_xact_lock({ADVISORY_LOCK});\n"
        # Whoever waits for such a lock makes all others wait behind him.
        "select set_config('lock_timeout', '2s', true);\n"
        "select set_config('search_path', quote_ident(n.nspname), true)\n"
        f"from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = {home};\n"
    )
    return prologue + "\n".join(text for text in texts if text)


def _mark(part: str) -> str:
    return f"insert into procrastinate_takeover (part) values ('{part}');\n"  # noqa: S608


def _copy(schema: str | None, *, open_jobs: bool) -> str:
    function = _beside_jobs("procrastinate_take_over_history", schema)
    return f"select {function}({str(open_jobs).lower()}, {BATCH}) as number"


def _beside_jobs(name: str, schema: str | None) -> str:
    """Return the name of something that no migration creates, qualified like the table of jobs."""
    return postgres.qualified("procrastinate_jobs", schema).replace("procrastinate_jobs", name)


def _loop(query: str, *, commit: bool) -> str:
    pause = " commit;" if commit else " null;"
    return f"do $loop$ begin while ({query}) > 0 loop{pause} end loop; end $loop$;"


def _uncommented(statement: str) -> str:
    """Return a statement without the comments before it."""
    return re.sub(r"\A(--[^\n]*\s+)+", "", statement)


@functools.cache
def _read(name: str) -> str:
    folder = importlib.resources.files("procrastinate.store") / "sql" / "takeover"
    return (folder / f"{name}.sql").read_text(encoding="utf-8")

"""What changes the tables, written once for sync and async callers: flows that plan an upgrade, and that run it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias

import attrs

from procrastinate import connector, exceptions, takeover
from procrastinate.store import migrations, postgres
from procrastinate.store.catalog import compare_catalogs, expected_catalog
from procrastinate.store.migrations import Migration
from procrastinate.store.operation import Operation, T
from procrastinate.store.tables import InspectTables, ReadCatalog, ReadMigrations, Tables
from procrastinate.takeover import Mode, Step

# How often a step is tried that needs a lock which others hold, and how long the pauses become, in seconds.
TRIES = 12
LONGEST_PAUSE = 5.0
# How long a program waits before it looks again what another one is doing.
TURN_PAUSE = 1.0
# How many batches are done between two reports.
REPORT_EVERY = 20

NO_TRANSACTION_ALLOWED = "25001"


@attrs.frozen
class Script:
    """Run this SQL, in one transaction if it is several statements. The answer is None."""

    text: str


@attrs.frozen
class Question:
    """Run this query. The answer is its rows."""

    text: str


@attrs.frozen
class Pause:
    """Wait so many seconds."""

    seconds: float


@attrs.frozen
class Tell:
    """Tell whoever waits."""

    message: str


Request: TypeAlias = Operation[Any] | Script | Question | Pause | Tell
Flow: TypeAlias = Generator[Request, Any, T]


@attrs.frozen(kw_only=True)
class UpgradeOptions:
    """What an upgrade may do.

    Attributes:
        force: take tables over although workers of the other implementation seem to be alive.
        keep_events: leave its table of events, under the name of procrastinate_old_events.
        only_pre: leave out what has to wait until all workers of the version before have stopped.
    """

    force: bool = False
    keep_events: bool = False
    only_pre: bool = False


def upgrade(schema: str | None, options: UpgradeOptions) -> Flow[bool]:
    """Bring the tables to this version; return whether something was left to do. Raises what `plan` and `run` do."""
    steps = yield from plan(schema, options)
    has_changed = False
    is_waiting = False
    program = secrets.randbits(62)
    while steps:
        try:
            if steps[0].needs_turn and not (yield Question(takeover.take_turn(schema, program))):
                if not is_waiting:
                    yield Tell("Waiting for another program that is taking the tables over, or was until just now")
                is_waiting = True
                yield Pause(TURN_PAUSE)
                steps = yield from plan(schema, options)
                continue
            is_waiting = False
            yield from run(steps[:1])
        except exceptions.ConnectorException:
            # Programs that are started together may all try it; each does what nobody else has done so far.
            rest = yield from plan(schema, options)
            if len(rest) >= len(steps):
                raise
            steps = rest
        else:
            has_changed = True
            steps = steps[1:]
    return has_changed


def plan(schema: str | None, options: UpgradeOptions) -> Flow[list[Step]]:
    """Look at the database, and return what brings its tables to this version: nothing if they are there.

    Raises:
        SchemaNotApplied: the tables are the other implementation's, before version 3.4.
        ConnectorException: the tables may not be changed now, or are a newer version's; the message says why.
    """
    found: Tables = yield InspectTables()
    if found.schema is None:
        return [Step("Creating the tables", in_turn(whole_schema(schema)))]
    applied: dict[str, str] = {}
    parts: set[str] = set()
    if found.are_ours:
        applied = yield ReadMigrations()
        _check_known(applied)
    else:
        yield from _check_takeable(found, schema, options)
    if found.are_being_taken_over:
        rows: list[dict[str, Any]] = yield Question(takeover.progress(found.schema))
        parts = {row["part"] for row in rows}

    initial, *later = migrations.shipped()
    missing = [migration for migration in later if migration.name not in applied]
    while options.only_pre and missing and missing[-1].is_post:
        missing.pop()
    steps = [_application(migration, schema) for migration in missing]
    if found.are_ours and not found.are_being_taken_over:
        return steps
    if initial.name not in applied:
        steps = [*takeover.prepare(schema, parts, force=options.force), *steps]
    return [*steps, *takeover.complete(schema, keep_events=options.keep_events)]


def _application(migration: Migration, schema: str | None) -> Step:
    # The record comes first: it fails, and all with it, if somebody else was faster.
    texts = (postgres.qualified(text, schema) for text in (migration.record, migration.text))
    return Step(f"Applying {migration.name}", takeover.in_schema(schema, *texts))


def compare(applied: dict[str, str]) -> str | None:
    """Return how the applied migrations (checksums by name) differ from this version's, None if they do not."""
    shipped = {migration.name: migration.checksum for migration in migrations.shipped()}
    differences = {
        "not applied yet": sorted(shipped.keys() - applied.keys()),
        "unknown to this version": sorted(applied.keys() - shipped.keys()),
        "applied with another text": sorted(
            name for name in shipped.keys() & applied.keys() if shipped[name] != applied[name]
        ),
    }
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in differences.items() if names) or None


def is_applied() -> Flow[bool]:
    """Return whether the tables are those of exactly this version, False if no version of ours made any.

    Raises ConnectorException, which tells the difference, if they are those of another version.
    """
    found: Tables = yield InspectTables()
    if not found.are_ours:
        return False
    details = compare((yield ReadMigrations()))
    if details is not None:
        raise exceptions.ConnectorException(
            f"The schema was applied by another version, and nothing was changed. Migrations {details}. Run "
            f"`procrastinate schema --upgrade`; the migrations of this version are in {migrations.FOLDER}."
        )
    return True


def verify() -> Flow[list[str]]:
    """Return how the tables differ from what this version expects, a line for each difference."""
    found: Tables = yield InspectTables()
    if found.are_missing:
        return [migrations.NO_TABLES]
    if not found.are_ours:
        return [migrations.OTHER_TABLES]
    differences: list[str] = []
    details = compare((yield ReadMigrations()))
    if details is not None:
        differences.append(f"migrations {details}")
    if found.are_being_taken_over:
        differences.append("the takeover is not finished: run `procrastinate schema --upgrade`")
    catalog: dict[tuple[str, str], str] = yield ReadCatalog()
    return [*differences, *(line for line in compare_catalogs(expected_catalog(), catalog))]


def run(steps: Sequence[Step]) -> Flow[None]:
    """Run the steps, one after the other.

    Raises ConnectorException if one fails; what the steps before it did stays done.
    """
    for step in steps:
        yield Tell(step.title)
        match step.mode:
            case Mode.TRANSACTION:
                yield from _run_in_transaction(step.text)
            case Mode.ALONE:
                yield from _run_alone(step)
            case Mode.REPEATED:
                yield from _repeat(step)


def as_script(steps: Sequence[Step]) -> str:
    """Return the steps as a script for psql."""
    return "\n".join(step.script for step in steps)


def perform(request: Request, connector: connector.BaseConnector, tell: Callable[[str], None]) -> Any:
    """Do what a flow asks for, and return the answer."""
    match request:
        case Script(text):
            return connector.execute_query(text)
        case Question(text):
            return connector.execute_query_all(text)
        case Pause(seconds):
            return time.sleep(seconds)
        case Tell(message):
            return tell(message)
        case _:
            return connector.run(request)


async def perform_async(request: Request, connector: connector.BaseConnector, tell: Callable[[str], None]) -> Any:
    """Do as `perform`, asynchronously."""
    match request:
        case Script(text):
            return await connector.execute_query_async(text)
        case Question(text):
            return await connector.execute_query_all_async(text)
        case Pause(seconds):
            return await asyncio.sleep(seconds)
        case Tell(message):
            return tell(message)
        case _:
            return await connector.run_async(request)


def _run_in_transaction(text: str) -> Flow[None]:
    for attempt in range(TRIES):
        try:
            yield Script(text)
        except exceptions.LockNotAvailable as error:
            if attempt == TRIES - 1:
                raise exceptions.LockNotAvailable(
                    f"Somebody's open transaction holds what this step needs: {error}\nLook for it in "
                    "pg_stat_activity, and run the command again: it goes on with this step."
                ) from error
            yield Pause(min(0.2 * 2**attempt, LONGEST_PAUSE))
        except exceptions.UniqueViolation as error:
            raise exceptions.ConnectorException(
                f"Somebody else is upgrading these tables just now: {error}\nRun the command again when that is done."
            ) from error
        else:
            return


def _run_alone(step: Step) -> Flow[None]:
    try:
        yield Script(step.text)
    except exceptions.ConnectorException as error:
        if sqlstate(error) != NO_TRANSACTION_ALLOWED or step.otherwise is None:
            raise
        yield from _run_in_transaction(step.otherwise)


def _repeat(step: Step) -> Flow[None]:
    total = batches = 0
    while True:
        rows: list[dict[str, Any]] = yield Question(step.text)
        if not rows[0]["number"]:
            return
        total += rows[0]["number"]
        batches += 1
        if batches % REPORT_EVERY == 0:
            yield Tell(f"… {total} jobs")


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE that some driver's error behind ours carries."""
    cause = error.__cause__
    while cause is not None:
        for carrier in (cause, getattr(cause, "orig", None)):
            state = getattr(carrier, "sqlstate", None) or getattr(carrier, "pgcode", None)
            if isinstance(state, str):
                return state
        cause = cause.__cause__
    return None


def _check_known(applied: dict[str, str]) -> None:
    unknown = sorted(applied.keys() - {migration.name for migration in migrations.shipped()})
    problem = (
        f"The tables are those of a newer version, which applied {', '.join(unknown)}; nothing was changed."
        if unknown
        else migrations.altered(applied)
    )
    if problem is not None:
        raise exceptions.ConnectorException(problem)


def _check_takeable(found: Tables, schema: str | None, options: UpgradeOptions) -> Flow[None]:
    if not takeover.is_takeable(found):
        raise exceptions.SchemaNotApplied(
            "These tables are those of the other implementation before version 3.4: upgrade them to 3.4 or later with "
            "its own migrations first. Nothing was changed."
        )
    bound: list[dict[str, Any]] = yield Question(takeover.dependents(schema))
    if bound:
        names = ", ".join(row["name"] for row in bound)
        raise exceptions.ConnectorException(
            f"The table procrastinate_events becomes a view, but these are bound to the table: {names}. Drop them "
            "first; views can be created again afterwards. Nothing was changed."
        )
    if options.force:
        return
    rows: list[dict[str, Any]] = yield Question(takeover.live_workers(schema))
    if rows[0]["ids"] is not None:
        raise exceptions.ConnectorException(
            f"Workers gave a sign of life in the last {takeover.ALIVE_SECONDS} seconds (ids {rows[0]['ids']}): stop "
            f"them first. If they were killed, try again in {rows[0]['wait']} s, or go on all the same with "
            "`schema --upgrade --force`. Nothing was changed."
        )


def whole_schema(schema: str | None = None) -> str:
    """Return the SQL of all migrations in order, with the records that they were applied.

    Raises ValueError if `schema` cannot be a schema's name.
    """
    script = "\n".join(f"{migration.text}\n{migration.record}" for migration in migrations.shipped())
    name = postgres.check_schema(schema)
    if name is None:
        return script
    literal = "'" + name.replace("'", "''") + "'"
    create = CREATE_SCHEMA.format(literal=f"{literal}::text", identifier=postgres.identifier(name))
    return create + postgres.qualified(script, name)


def in_turn(script: str) -> str:
    """Return a script that waits until nobody else changes the tables."""
    return f"select pg_advisory_xact_lock({takeover.ADVISORY_LOCK});\n{script}"


# Not "if not exists", which needs the right to create schemas even where there is nothing to create.
CREATE_SCHEMA = """\
do $$
begin
  if not exists (select from pg_namespace where nspname = {literal}) then
    create schema {identifier};
  end if;
end
$$;

"""

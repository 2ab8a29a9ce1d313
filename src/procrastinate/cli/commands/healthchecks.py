"""The command `procrastinate healthchecks`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import click

from procrastinate import exceptions
from procrastinate.cli import completion, loading, output, parameters

if TYPE_CHECKING:
    from procrastinate.app import App


@attrs.frozen(kw_only=True)
class Thresholds:
    """What is still healthy; None for whatever it is.

    Attributes:
        max_lag: seconds for which a ready job may wait.
        max_stalled_jobs: how many running jobs may be without a living worker.
        require_worker: whether some worker must live.
        stalled_after: seconds of silence after which a worker counts as dead.
        queues: the queues whose lag counts, None for all.
    """

    max_lag: float | None = None
    max_stalled_jobs: int | None = None
    require_worker: bool = False
    stalled_after: float = 30.0
    queues: Sequence[str] | None = None

    @property
    def are_asked_for(self) -> bool:
        """Whether more is to be checked than that a worker could start."""
        return self.require_worker or self.max_lag is not None or self.max_stalled_jobs is not None


@attrs.frozen(kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        text: what was found.
        problem: what is wrong and what to do, None if nothing is.
        facts: the numbers.
    """

    name: str
    text: str
    problem: str | None = None
    facts: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


@click.command("healthchecks")
@click.option(
    "--max-lag", type=parameters.Seconds(0), help="Unhealthy if a job that is ready has been waiting for longer."
)
@click.option(
    "--queues",
    type=parameters.Queues(),
    metavar="A,B,…",
    shell_complete=completion.queue_names,
    help="Queues whose lag counts, separated by commas; by default all.",
)
@click.option("--require-worker", is_flag=True, show_default=False, help="Unhealthy if no worker is alive.")
@click.option(
    "--max-stalled-jobs",
    type=parameters.WholeNumber(),
    metavar="NUMBER",
    help="Unhealthy if more running jobs than that have lost their worker.",
)
@click.option(
    "--stalled-after",
    type=parameters.Seconds(0),
    default=30.0,
    help="Silence, in seconds, after which a worker counts as dead.",
)
@click.option("--json", "as_json", is_flag=True, show_default=False, help="Print one JSON object, with all numbers.")
@click.pass_context
def command(context: click.Context, *, queues: tuple[str, ...] | None, as_json: bool, **options: Any) -> None:
    """Check the app, its database, and the tables; with options, also workers and queues.

    The exit code is 0 if all is healthy, 1 if something is not or cannot be checked, 2 for wrong usage.
    """
    app = context.ensure_object(loading.GlobalOptions).load_app()
    thresholds = Thresholds(queues=queues or None, **options)
    checks = [Check(name="app", text="App configuration")]
    if as_json:
        try:
            checks += loading.run(app, lambda app: _collect(app, thresholds))
        except exceptions.ConnectorException as error:
            checks.append(Check(name="database", text="DB connection", problem=str(error)))
        output.print_json(_as_json(checks))
    else:
        _print(checks[0])
        checks += loading.run(app, lambda app: _print_all(app, thresholds))
    context.exit(int(any(check.problem for check in checks)))


async def healthchecks(app: App) -> None:
    """Check an open app, its database, and the tables, and print what is fine.

    Raises click.ClickException if the tables are missing or of another version, ConnectorException if the database
    cannot be reached.
    """
    _print(Check(name="app", text="App configuration"))
    async for check in _checks(app, Thresholds()):
        if check.problem is not None:
            raise click.ClickException(check.problem)
        _print(check)


async def _collect(app: App, thresholds: Thresholds) -> list[Check]:
    return [check async for check in _checks(app, thresholds, measure_all=True)]


async def _print_all(app: App, thresholds: Thresholds) -> list[Check]:
    checks: list[Check] = []
    async for check in _checks(app, thresholds):
        _print(check)
        checks.append(check)
    return checks


def _print(check: Check) -> None:
    if check.problem is None:
        click.echo(f"{check.text}: OK")
    else:
        output.print_stderr(f"Error: {check.problem}")


def _as_json(checks: Sequence[Check]) -> dict[str, Any]:
    lines = [{"name": each.name, "ok": each.problem is None, "problem": each.problem, **each.facts} for each in checks]
    return {"healthy": all(line["ok"] for line in lines), "checks": lines}


async def _checks(app: App, thresholds: Thresholds, *, measure_all: bool = False) -> AsyncIterator[Check]:
    """Yield what is found, up to a problem that makes the rest impossible.

    Workers and queues are looked at only if there is a threshold for them, or to `measure_all`.
    """
    # Here, not at the top: the help needs none of it.
    from procrastinate.store.flows import check_schema  # noqa: PLC0415
    from procrastinate.store.inspection import CountWorkers, MeasureLag  # noqa: PLC0415
    from procrastinate.store.operation import run_flow_async  # noqa: PLC0415

    has_tables = await app.check_connection_async()
    yield Check(name="database", text="DB connection")
    if not has_tables:
        problem = (
            "The connection to the database works, but the procrastinate_jobs table was not found. "
            "Apply the schema first; see `procrastinate schema -h`."
        )
        yield Check(name="tables", text="", problem=problem)
        return
    yield Check(name="tables", text="Found procrastinate_jobs table")
    try:
        await run_flow_async(check_schema(), app.connector.run_async)
    except exceptions.SchemaNotApplied as error:
        yield Check(name="schema", text="", problem=str(error))
        return
    if not (measure_all or thresholds.are_asked_for):
        return
    yield Check(name="schema", text="Version of the tables")
    run = app.connector.run_async
    counts = await run(CountWorkers(seconds_since_heartbeat=thresholds.stalled_after))
    if measure_all or thresholds.require_worker:
        is_missing = thresholds.require_worker and not counts.alive
        yield Check(
            name="workers",
            text=f"Workers alive: {counts.alive}",
            problem=f"No worker is alive, and {counts.silent} gave no sign of life lately." if is_missing else None,
            facts={"alive": counts.alive, "silent": counts.silent},
        )
    if measure_all or thresholds.max_stalled_jobs is not None:
        yield Check(
            name="stalled_jobs",
            text=f"Stalled jobs: {counts.stalled_jobs}",
            problem=_excess("Running jobs without a living worker", counts.stalled_jobs, thresholds.max_stalled_jobs),
            facts={"count": counts.stalled_jobs},
        )
    if measure_all or thresholds.max_lag is not None:
        yield _lag(await run(MeasureLag(queues=thresholds.queues)), thresholds.max_lag)


def _lag(lag: Mapping[str, float], max_lag: float | None) -> Check:
    longest = max(lag.values(), default=0.0)
    queue = next((name for name, seconds in lag.items() if seconds == longest), None)
    title = "Queue lag" if queue is None else f"Queue lag, longest in {output.printable(queue)}"
    return Check(
        name="lag",
        text=f"{title}: {longest:.1f} s",
        problem=_excess(f"{title}, in seconds", longest, max_lag),
        facts={"seconds": longest, "queues": lag},
    )


def _excess(what: str, number: float, most: float | None) -> str | None:
    return f"{what}: {number:.10g}, allowed are {most:g}." if most is not None and number > most else None

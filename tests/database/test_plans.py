"""What the statements of workers read does not grow with the table, whatever the planner believes about it."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterator
from typing import Any

import attrs
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from database import support
from procrastinate import jobs, types
from procrastinate.connections import Rendering
from procrastinate.connections.adapter import CONNECTIONS, PlanKeeping
from procrastinate.connections.psycopg import PsycopgAdapter
from procrastinate.store.inspection import CountWorkers, MeasureLag
from procrastinate.store.jobs import (
    CancelJob,
    DeferAlike,
    DeferJob,
    DeferJobs,
    DeleteJobs,
    DeleteOldJobs,
    FetchJobs,
    FinishJob,
    FinishJobs,
    GetJobStatus,
    GetStalledJobs,
    ListJobsToAbort,
    ReleaseJobs,
    RetryJob,
    RetryJobs,
    RunJobNow,
    Verdict,
)
from procrastinate.store.locks import FindSleepingLocks, OpenLocks
from procrastinate.store.operation import Operation
from procrastinate.store.schedule import StageJobs
from procrastinate.store.workers import RescueJobs, UnregisterWorker

MANY = 100_000
BATCH = 10
# As many as a busy worker records at a time.
LARGE = 2_000

PRIMARY_KEY = "procrastinate_jobs_pkey"
READY = "procrastinate_jobs_ready_idx_v1"
READY_BY_QUEUE = "procrastinate_jobs_ready_by_queue_idx_v1"
LINE = "procrastinate_jobs_line_idx_v1"
LOCK = "procrastinate_jobs_lock_idx_v1"
PARKED = "procrastinate_jobs_parked_idx_v1"
DUE = "procrastinate_jobs_due_idx_v1"
WORKER = "idx_procrastinate_jobs_worker_not_null"
QUEUEING_LOCK = "procrastinate_jobs_queueing_lock_idx_v1"

# Everything that must not matter to a claim.
POPULATE = """
alter table procrastinate_jobs set (autovacuum_enabled = off);
insert into procrastinate_jobs (queue_name, task_name, status, worker_id, claims, attempts, attempted_at, finalized_at)
  select 'default', 'finished', 'succeeded', 1, 1, 1, now(), now() from generate_series(1, %(many)s);
insert into procrastinate_jobs (queue_name, task_name, priority, scheduled_at, waits_for)
  select 'default', 'scheduled', 5, now() + n * interval '1 minute' + interval '1 day', 'time'
  from generate_series(1, %(many)s) n;
insert into procrastinate_jobs (queue_name, task_name, priority)
  select 'other', 'elsewhere', -5 from generate_series(1, %(many)s);
insert into procrastinate_jobs (queue_name, task_name, priority, lock, waits_for)
  select 'default', 'behind', 3, 'busy' || n %% 2, 'lock' from generate_series(1, %(many)s) n;
insert into procrastinate_jobs (queue_name, task_name, priority, lock, status, worker_id, claims, attempted_at)
  select 'default', 'busy', 3, 'busy' || n, 'doing', %(worker)s, 1, now() from generate_series(0, 1) n;
-- What the statements under test find.
insert into procrastinate_jobs (queue_name, task_name, priority, lock)
  select 'default', 'ready', n %% 3, case when n %% 2 = 0 then 'lock' || n %% 8 end from generate_series(1, 100) n;
insert into procrastinate_jobs (queue_name, task_name, lock, waits_for)
  select 'default', 'asleep', 'free', 'lock' from generate_series(1, 100) n;
insert into procrastinate_jobs (queue_name, task_name, scheduled_at, waits_for)
  select 'default', 'due', now(), 'time' from generate_series(1, 20);
insert into procrastinate_jobs (queue_name, task_name, status, worker_id, claims, attempted_at, abort_requested)
  select 'default', 'running', 'doing', %(worker)s, 1, now(), n = 1 from generate_series(1, %(batch)s) n;
insert into procrastinate_jobs (queue_name, task_name, status, worker_id, claims, attempted_at)
  select 'default', 'stalled', 'doing', 1000000, 1, now() from generate_series(1, %(batch)s);
"""


@attrs.frozen
class Expectation:
    """An operation, the indexes that it must use and may use, and the pages that it may touch."""

    operation: Operation[Any]
    must: set[str]
    may: set[str] = attrs.field(factory=set)
    pages: int = 150


def expectations(worker: int, running: list[int], job_id: int) -> Iterator[Expectation]:
    claims = [jobs.Claim(job=support.job(id=id_), token=1) for id_ in running]
    finish = [Verdict(claim=claim, status=jobs.Status.SUCCEEDED) for claim in claims]
    retry = [Verdict(claim=claim, status=jobs.Status.TODO, retry_at=types.utcnow()) for claim in claims]
    # Writing a row touches some pages of each index that it enters; the table has thousands.
    writes = 100 * BATCH
    every = {READY, READY_BY_QUEUE, LINE, LOCK, PRIMARY_KEY, WORKER}
    yield Expectation(FetchJobs(queues=None, worker_id=worker, limit=BATCH), {READY, LINE, PRIMARY_KEY}, every, writes)
    for queues in (["default"], ["default", "empty", "void"]):
        fetch = FetchJobs(queues=queues, worker_id=worker, limit=BATCH)
        yield Expectation(fetch, {READY_BY_QUEUE, LINE, PRIMARY_KEY}, every, writes)
    yield Expectation(FetchJobs(queues=["empty"], worker_id=worker, limit=BATCH), {READY_BY_QUEUE}, every)
    for queues, index in ((None, READY), (["default"], READY_BY_QUEUE)):
        fetch = FetchJobs(queues=queues, worker_id=worker, limit=BATCH, floors={0: job_id, 5: 2 * job_id})
        yield Expectation(fetch, {index}, every, writes)
    # The few running jobs can be read whole to see whether one of them has a lock.
    running_jobs = {LOCK, WORKER}
    yield Expectation(OpenLocks(locks=["free", "busy0", "busy1", "none"]), {LINE, PRIMARY_KEY}, running_jobs)
    yield Expectation(FindSleepingLocks(limit=BATCH), {PARKED, LINE}, running_jobs)
    yield Expectation(StageJobs(limit=BATCH), {DUE, PRIMARY_KEY}, pages=writes)
    by_id = {PRIMARY_KEY, WORKER, QUEUEING_LOCK}
    yield Expectation(FinishJobs(verdicts=finish, worker_id=worker), set(), by_id, writes)
    yield Expectation(DeleteJobs(verdicts=finish, worker_id=worker), set(), by_id, writes)
    yield Expectation(RetryJobs(verdicts=retry, worker_id=worker), set(), by_id, writes)
    yield Expectation(ReleaseJobs(claims=claims, worker_id=worker), set(), by_id, writes)
    # These are refused, but they are looked for.
    others = [jobs.Claim(job=support.job(id=id_), token=1) for id_ in range(1, LARGE + 1)]
    finish_others = [Verdict(claim=claim, status=jobs.Status.SUCCEEDED) for claim in others]
    retry_others = [Verdict(claim=claim, status=jobs.Status.TODO, retry_at=types.utcnow()) for claim in others]
    for large in (
        FinishJobs(verdicts=finish_others, worker_id=worker),
        DeleteJobs(verdicts=finish_others, worker_id=worker),
        RetryJobs(verdicts=retry_others, worker_id=worker),
        ReleaseJobs(claims=others, worker_id=worker),
    ):
        yield Expectation(large, {PRIMARY_KEY}, by_id, 15 * LARGE)
    rescue = RescueJobs(seconds_since_heartbeat=30, max_rescues=3, limit=BATCH)
    yield Expectation(rescue, {WORKER}, by_id, writes)
    yield Expectation(GetStalledJobs(queue=None, task_name=None, seconds_since_heartbeat=30), {WORKER})
    yield Expectation(ListJobsToAbort(worker_id=worker), {WORKER})
    for queues in (None, ["default", "other"]):
        yield Expectation(MeasureLag(queues=queues), {READY_BY_QUEUE}, pages=1_000)
    yield Expectation(CountWorkers(seconds_since_heartbeat=30), {WORKER})
    yield Expectation(UnregisterWorker(worker_id=worker), {WORKER}, pages=writes)
    yield Expectation(GetJobStatus(job_id=job_id), {PRIMARY_KEY})
    yield Expectation(CancelJob(job_id=job_id, abort=True, delete=False), {PRIMARY_KEY})
    yield Expectation(RunJobNow(job_id=job_id), {PRIMARY_KEY})
    yield Expectation(FinishJob(job_id=job_id, status=jobs.Status.FAILED, delete=False), {PRIMARY_KEY})
    retry_one = RetryJob(job_id=job_id, retry_at=types.utcnow(), priority=None, queue=None, lock=None)
    yield Expectation(retry_one, {PRIMARY_KEY}, {QUEUEING_LOCK})
    locked = [support.job(lock="busy0", queueing_lock=f"Q{n}") for n in range(BATCH)]
    yield Expectation(DeferJobs(jobs=locked), set(), pages=writes)
    old = DeleteOldJobs(nb_hours=-1, queue=None, statuses=["succeeded"], after=0, window=BATCH)
    yield Expectation(old, {PRIMARY_KEY}, pages=writes)


@pytest.fixture
def plans_database(postgres_server, template_database) -> Iterator[psycopg.Connection]:
    """A database like `database`, with many jobs, and a connection to it."""
    name = sql.Identifier(f"procrastinate_test_{secrets.token_hex(8)}")
    with psycopg.connect(postgres_server.conninfo, autocommit=True) as administration:
        administration.execute(
            sql.SQL("create database {} template {}").format(name, sql.Identifier(template_database))
        )
        try:
            conninfo = make_conninfo(postgres_server.conninfo, dbname=name._obj[0])
            with psycopg.connect(conninfo, autocommit=True) as connection:
                yield connection
        finally:
            administration.execute(sql.SQL("drop database {} with (force)").format(name))


class Planner:
    """Explains operations as workers send them, and undoes what they did."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self.cursor = psycopg.ClientCursor(connection)

    def explain(self, operation: Operation[Any], *, generic: bool) -> dict[str, Any]:
        statement = Rendering().statement(operation, is_alone=True)
        text, parameters = statement.text, statement.parameters
        explain = "explain (analyze, buffers, timing off, format json) "
        with self.connection.transaction(force_rollback=True):
            if not generic:
                self.cursor.execute(explain + text, parameters)
                return self.cursor.fetchone()[0][0]["Plan"]
            # What a prepared statement comes to after some executions: a plan made without the values.
            self.connection.execute("set local plan_cache_mode = force_generic_plan")
            names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", text)))
            for number, name in enumerate(names, 1):
                text = text.replace(f"%({name})s", f"${number}")
            self.connection.execute(f"prepare operation as {text}")
            try:
                # "p", not a value: a list of texts has a type of its own.
                values = ", ".join("null" if parameters[name] is None else f"%({name})s" for name in names)
                self.cursor.execute(f"{explain} execute operation({values})", parameters)
                return self.cursor.fetchone()[0][0]["Plan"]
            finally:
                self.connection.execute("deallocate operation")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def pages(plan: dict[str, Any]) -> int:
    """Pages touched. A part that writes is not counted in the node above it, so each node's own are added up."""

    def counted(node: dict[str, Any]) -> int:
        return node.get("Shared Hit Blocks", 0) + node.get("Shared Read Blocks", 0)

    return sum(max(0, counted(node) - sum(map(counted, node.get("Plans", [])))) for node in nodes(plan))


def faults(expectation: Expectation, plan: dict[str, Any]) -> Iterator[str]:
    # A branch that is never run reads nothing, whatever its plan.
    run = [node for node in nodes(plan) if node.get("Actual Loops", 0) > 0]
    for node in run:
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "procrastinate_jobs":
            yield "reads the whole table"
    used = {node["Index Name"] for node in run if "procrastinate_jobs" in node.get("Index Name", "")}
    if missing := expectation.must - used:
        yield f"does not use {missing}"
    if other := used - expectation.must - expectation.may:
        yield f"uses {other}"
    if pages(plan) > expectation.pages:
        yield f"touches {pages(plan)} pages instead of {expectation.pages}"


def find_faults(connection: psycopg.Connection, worker: int) -> list[str]:
    running = connection.execute("select id from procrastinate_jobs where task_name = 'running'").fetchall()
    job_id = support.value(connection, "select max(id) from procrastinate_jobs where task_name = 'busy'")
    planner = Planner(connection)
    found = []
    for expectation in expectations(worker, [row[0] for row in running], job_id):
        for generic in (False, True):
            plan = planner.explain(expectation.operation, generic=generic)
            kind = "generic" if generic else "custom"
            found += [f"{expectation.operation.name} ({kind} plan) {fault}" for fault in faults(expectation, plan)]
    return found


@pytest.mark.timeout(120)
def test_cost_does_not_depend_on_the_table(plans_database):
    """One test for three states of the statistics: the rows take longer to make than all the rest."""
    connection = plans_database
    worker = support.register(connection)
    psycopg.ClientCursor(connection).execute(POPULATE, {"many": MANY, "worker": worker, "batch": BATCH})
    assert support.value(connection, "select count(*) from pg_stats where tablename = 'procrastinate_jobs'") == 0
    assert find_faults(connection, worker) == [], "without statistics"

    connection.execute("analyze procrastinate_jobs")
    assert find_faults(connection, worker) == [], "with statistics"

    # Statistics from the height of a rush, when all of these were ready.
    connection.execute("update procrastinate_jobs set status = 'todo' where task_name = 'finished'")
    connection.execute("analyze procrastinate_jobs")
    connection.execute("update procrastinate_jobs set status = 'succeeded' where task_name = 'finished'")
    connection.execute("vacuum procrastinate_jobs")
    assert find_faults(connection, worker) == [], "with statistics that are out of date"


def test_a_floor_steps_over_what_vacuum_may_not_clean_up(database, connection):
    """Behind somebody's old transaction each claim walks over all jobs that were claimed since it began."""
    worker = support.register(connection)
    planner = Planner(connection)

    def touched(**floors):
        plan = planner.explain(FetchJobs(queues=None, worker_id=worker, limit=BATCH, **floors), generic=True)
        return pages(plan)

    connection.execute("alter table procrastinate_jobs set (autovacuum_enabled = off)")
    with support.connected(database) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("select from procrastinate_jobs")
        job_ids = support.defer(connection, *[support.job()] * 5_000)
        for _ in range(5):
            support.succeed(connection, worker, *support.fetch(connection, worker, limit=1_000).claims)
        everywhere, past_the_floor = touched(), touched(floors={0: job_ids[-1]})
        assert everywhere > 300
        assert past_the_floor < 100


@pytest.mark.parametrize("generic", [False, True])
def test_jobs_of_one_queue_do_not_matter_to_another(connection, generic):
    """Statistics of a table with one queue say that any index finds the jobs of a queue."""
    worker = support.register(connection)
    connection.execute(
        "insert into procrastinate_jobs (queue_name, task_name) select 'busy', 'task' from generate_series(1, 20000)"
    )
    connection.execute("vacuum analyze procrastinate_jobs")
    for floors in ({}, {0: 5}):
        fetch = FetchJobs(queues=["empty"], worker_id=worker, limit=BATCH, floors=floors)
        plan = Planner(connection).explain(fetch, generic=generic)
        assert list(faults(Expectation(fetch, {READY_BY_QUEUE}, {PRIMARY_KEY}, 50), plan)) == []


def test_a_plan_that_was_kept_for_a_small_table_is_forgotten(connection):
    worker = support.register(connection)
    adapter = PsycopgAdapter(connection)
    connection.execute("alter table procrastinate_jobs set (autovacuum_enabled = off)")

    def claims_read_the_whole_table(plans: PlanKeeping) -> bool:
        """Claim, and tell whether that was done by reading the table."""

        def scans() -> int:
            connection.execute("select pg_stat_force_next_flush()", prepare=False)
            query = "select seq_scan from pg_stat_user_tables where relname = 'procrastinate_jobs'"
            return support.value(connection, query)

        before = scans()
        adapter.run(FetchJobs(queues=None, worker_id=worker, limit=1), Rendering(plans=plans))
        return scans() > before

    patient, impatient = PlanKeeping(bearable=60), PlanKeeping(bearable=0)

    def the_plan_is_kept() -> bool:
        """Have a plan kept for a few jobs, insert thousands, and tell whether two more claims go by that plan."""
        connection.execute("truncate procrastinate_jobs")
        support.defer(connection, *[support.job()] * 20)
        connection.execute("vacuum analyze procrastinate_jobs")
        assert all(claims_read_the_whole_table(patient) for _ in range(12))
        connection.execute(
            "insert into procrastinate_jobs (queue_name, task_name) "
            "select 'default', 'task' from generate_series(1, 2000)"
        )
        return claims_read_the_whole_table(patient) and claims_read_the_whole_table(impatient)

    # Tests beside this one that create many tables may have the server forget all plans in between.
    assert any(the_plan_is_kept() for _ in range(20))
    assert not claims_read_the_whole_table(patient)


def test_plans_are_forgotten_after_statements_have_lost_some_time() -> None:
    plans = PlanKeeping(bearable=1, interval=0)
    # The fastest shows how far away the server is: what each statement takes is not lost.
    assert not any(plans.must_forget(0, 5) for _ in range(100))
    assert not plans.must_forget(0, 5.6)
    # Then each of the connections forgets its own.
    assert all(plans.must_forget(0, 5.6) for _ in range(CONNECTIONS))
    assert not plans.must_forget(0, 5.6)


def test_what_an_idle_worker_loses_does_not_count() -> None:
    plans = PlanKeeping(bearable=0.05, interval=0)
    assert not any(plans.must_forget(second, second + 0.001 + 0.04 * (second % 2)) for second in range(10_000))


def test_plans_are_forgotten_more_and_more_rarely() -> None:
    plans = PlanKeeping(bearable=0.25, interval=0.25, longest=8)
    assert not plans.must_forget(0, 0)
    moments: list[int] = []
    for hundredths in range(1, 4_000):
        now = hundredths / 100
        if sum(plans.must_forget(now - 0.3, now) for _ in range(CONNECTIONS)):
            moments.append(hundredths)
    waits = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert waits[:8] == pytest.approx([25, 50, 100, 200, 400, 800, 800, 800], abs=1)


def hot_statements(worker: int) -> Iterator[Operation[Any]]:
    claim = jobs.Claim(job=support.job(id=1), token=1)
    yield FetchJobs(queues=None, worker_id=worker, limit=BATCH)
    yield FetchJobs(queues=["default", "other"], worker_id=worker, limit=BATCH)
    yield FinishJobs(verdicts=[Verdict(claim=claim, status=jobs.Status.SUCCEEDED)], worker_id=worker)
    yield DeleteJobs(verdicts=[Verdict(claim=claim, status=jobs.Status.SUCCEEDED)], worker_id=worker)
    yield DeferJob(job=support.job())
    yield DeferAlike(job=support.job(), arguments=[{}, {}])


def test_hot_statements_are_not_planned_each_time(connection):
    """PostgreSQL keeps a plan only if it looks no dearer than those that are made for the values."""
    worker = support.register(connection)
    for operation in hot_statements(worker):
        connection.execute("deallocate all")
        statement = Rendering().statement(operation, is_alone=True)
        for _ in range(20):
            connection.execute(statement.text, statement.parameters, prepare=True)
        query = "select generic_plans, custom_plans from pg_prepared_statements where name not like 'query%'"
        ((kept, made),) = connection.execute(query, prepare=False).fetchall()
        assert kept > made, f"{operation.name} ({operation.part})"

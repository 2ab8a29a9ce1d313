"""The release protocol of locks, interleaved by hand: docs/concepts.md has the proof that these tests check.

The actors are the *finisher*, who ends the holder of the lock and then opens it; the *parker*, whose claim puts job J
to sleep behind the holder and who then takes a second look; and the *bystander*, a claimer whose snapshot is older than
all of that. Each step runs on its actor's own connection, and every order of the steps is tried that keeps each actor's
own order.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from concurrent import futures

import psycopg
import pytest

from database import support
from procrastinate import exceptions
from procrastinate.store import postgres
from procrastinate.store.locks import FindSleepingLocks, OpenLocks

ASLEEP = ("todo", "lock")
READY = ("todo", None)

Order = tuple[str, ...]


def interleavings(left: dict[str, int]) -> Iterator[Order]:
    """All orders in which actors can take so many steps each."""
    if not left:
        yield ()
    for actor, steps in left.items():
        rest = {**left, actor: steps - 1}
        for tail in interleavings({name: count for name, count in rest.items() if count}):
            yield (actor, *tail)


def open_locks(connection: psycopg.Connection, *locks: str) -> list[str]:
    """Try to open locks; answer those to be tried again."""
    return run_open(connection, *locks).still_parked


def run_open(connection: psycopg.Connection, *locks: str):
    return support.run(OpenLocks(locks=list(locks)), connection)


class Stage:
    """Plays the protocol in a given order, with or without each of its mechanisms."""

    def __init__(self, database: str, threads: futures.Executor, *, second_look: bool = True, retry: bool = True):
        self.second_look = second_look
        self.retry = retry
        self.observer = psycopg.connect(database, autocommit=True)
        self.connections = {name: psycopg.connect(database) for name in ("finisher", "parker", "bystander")}
        self.workers = {name: support.register(self.observer) for name in self.connections}
        self.paused = support.PausedFetch(self.connections["bystander"], self.observer, threads)

    def close(self) -> None:
        for connection in (self.observer, *self.connections.values()):
            connection.close()

    def play(self, order: Order) -> tuple[str, str | None]:
        """Answer the state of J at the end."""
        self.observer.execute("delete from procrastinate_jobs")
        (holder, waiting) = support.defer(self.observer, support.job(lock="L"), support.job(lock="L"))
        self.holding = support.fetch(self.observer, self.workers["finisher"], limit=1).claims
        assert [claim.job.id for claim in self.holding] == [holder]
        assert support.state(self.observer, waiting) == READY

        self.to_open: dict[str, list[str]] = collections.defaultdict(list)
        scripts = {
            "finisher": iter([self.finish, self.commit, self.look, self.commit]),
            "parker": iter([self.park, self.commit, self.look, self.commit]),
            "bystander": iter([self.proceed, self.commit_and_look]),
        }
        if "bystander" in order:
            self.paused.start(self.workers["bystander"])
        for actor in order:
            next(scripts[actor])(actor)
        if self.retry:
            self.try_again()
        return support.state(self.observer, waiting)

    def finish(self, actor: str) -> None:
        assert support.succeed(self.connections[actor], self.workers[actor], *self.holding)
        self.to_open[actor] = ["L"]

    def park(self, actor: str) -> None:
        answer = support.fetch(self.connections[actor], self.workers[actor])
        self.to_open[actor] = answer.parked_locks if self.second_look else []

    def commit(self, actor: str) -> None:
        self.connections[actor].commit()

    def look(self, actor: str) -> None:
        self.to_open[actor] = open_locks(self.connections[actor], *self.to_open[actor])

    def proceed(self, actor: str) -> None:
        answer = self.paused.proceed()
        self.to_open[actor] = answer.parked_locks if self.second_look else []

    def commit_and_look(self, actor: str) -> None:
        self.commit(actor)
        self.look(actor)
        self.commit(actor)

    def try_again(self) -> None:
        """What each worker does with its next statement: ask again for the locks whose head it could not have."""
        for actor, connection in self.connections.items():
            self.to_open[actor] = open_locks(connection, *self.to_open[actor])
            connection.commit()
            assert not self.to_open[actor], "nobody holds a row now, so nothing can be left"


@pytest.fixture(scope="module")
def threads() -> Iterator[futures.Executor]:
    with futures.ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def make_stage(database, threads):
    stages = []

    def make(**mechanisms) -> Stage:
        stages.append(Stage(database, threads, **mechanisms))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


# An opening that is not committed yet counts as a step of its own.
TWO_ACTORS = list(interleavings({"finisher": 4, "parker": 4}))
# Commit and opening in one step, or there would be thousands.
WITH_BYSTANDER = list(interleavings({"finisher": 3, "parker": 3, "bystander": 2}))


def asleep(stage: Stage, orders: list[Order]) -> list[Order]:
    return [order for order in orders if stage.play(order) == ASLEEP]


def test_interleavings_are_all_there():
    assert len(TWO_ACTORS) == len(set(TWO_ACTORS)) == 70
    assert len(WITH_BYSTANDER) == len(set(WITH_BYSTANDER)) == 560


def test_no_wakeup_is_lost_between_finisher_and_parker(make_stage):
    assert asleep(make_stage(), TWO_ACTORS) == []


@pytest.mark.timeout(180)
def test_no_wakeup_is_lost_with_a_claimer_whose_snapshot_is_older(make_stage):
    stage = make_stage()
    # The last step, the commit of an opening, is part of the others here.
    stage.look = lambda actor: (Stage.look(stage, actor), Stage.commit(stage, actor))
    assert asleep(stage, WITH_BYSTANDER) == []


def test_every_outcome_occurs(make_stage):
    stage = make_stage()
    assert {stage.play(order) for order in TWO_ACTORS} == {READY, ("doing", None)}


def step(order: Order, actor: str, number: int) -> int:
    """The place in an order of an actor's step, from 0."""
    return [place for place, name in enumerate(order) if name == actor][number]


def test_trap_1_without_the_second_look_jobs_sleep(make_stage):
    # P must come before the opener's snapshot, or nobody is left who knows of both P and E.
    expected = [
        order
        for order in TWO_ACTORS
        if step(order, "parker", 0) < step(order, "finisher", 1)
        and step(order, "finisher", 2) < step(order, "parker", 1)
    ]
    assert expected
    assert asleep(make_stage(second_look=False), TWO_ACTORS) == expected


def test_trap_2_opening_never_waits_for_another_opener(database, connection):
    worker = support.register(connection)
    prepare_two_free_lines(connection, worker)
    with support.connected(database) as one, support.connected(database, lock_timeout="1ms") as other:
        assert open_locks(one, "A") == []
        # A waiting opener would fail with its lock_timeout here.
        assert run_open(other, "B", "A").still_parked == ["A"]
        assert open_locks(one, "A", "B") == ["B"]
        one.commit()
        other.commit()
        assert open_locks(other, "A", "B") == []
    assert len(support.fetch(connection, worker).claims) == 2


def test_trap_2_without_skip_locked_two_openers_deadlock(database, connection, threads):
    prepare_two_free_lines(connection, support.register(connection))
    statement = postgres.statement(OpenLocks(locks=[]))
    assert statement.count(" skip locked\n") == 1
    waiting = statement.replace(" skip locked\n", "\n")
    with (
        support.connected(database, deadlock_timeout="60s") as one,
        support.connected(database, deadlock_timeout="10ms") as other,
    ):
        one.execute(waiting, {"locks": ["A"]})
        other.execute(waiting, {"locks": ["B"]})
        blocked = threads.submit(one.execute, waiting, {"locks": ["B"]})
        support.wait_until_blocked(connection, one, blocked)
        with pytest.raises(psycopg.errors.DeadlockDetected):
            other.execute(waiting, {"locks": ["A"]})
        other.rollback()
        blocked.result(support.PATIENCE)


def prepare_two_free_lines(connection: psycopg.Connection, worker: int) -> None:
    """Leave one job asleep behind each of the locks A and B, which nobody holds."""
    support.defer(connection, *[support.job(lock=lock) for lock in "AABB"])
    answer = support.fetch(connection, worker)
    assert sorted(answer.parked_locks) == ["A", "B"]
    assert len(support.succeed(connection, worker, *answer.claims)) == 2


def test_trap_3_without_trying_again_jobs_sleep(make_stage):
    # Here the head's row is held by somebody who does not want it, at the moment of the only look.
    sleepers = asleep(make_stage(retry=False), [TRAP_3])
    assert sleepers == [TRAP_3]


def test_trap_3_trying_again_opens_what_a_bystander_held(make_stage):
    assert make_stage().play(TRAP_3) == READY


# The bystander's snapshot shows J ready. When it locks J's row, J is parked: it rejects the row, but keeps the lock.
TRAP_3 = (
    *("parker", "parker", "parker", "parker"),
    *("finisher", "finisher"),
    "bystander",
    *("finisher", "finisher"),
    "bystander",
)


def test_trap_3_is_seen_in_the_answer(database, connection, threads):
    finisher, parker, bystander = (support.register(connection) for _ in range(3))
    _, waiting = support.defer(connection, support.job(lock="L"), support.job(lock="L"))
    (holding,) = support.fetch(connection, finisher, limit=1).claims
    with support.connected(database) as other:
        paused = support.PausedFetch(other, connection, threads)
        paused.start(bystander)
        assert support.fetch(connection, parker).parked_locks == ["L"]
        support.succeed(connection, finisher, holding)
        answer = paused.proceed()
        assert (answer.claims, answer.parked_locks) == ([], [])
        opened = run_open(connection, "L")
        assert (opened.queues, opened.still_parked) == ([], ["L"])
        other.commit()
    assert support.state(connection, waiting) == ASLEEP
    opened = run_open(connection, "L")
    assert (opened.queues, opened.still_parked) == (["default"], [])
    assert support.state(connection, waiting) == READY


def test_a_race_for_one_lock_ends_in_one_job_running(database, connection, threads):
    first, second = support.register(connection), support.register(connection)
    support.defer(connection, support.job(lock="L"))
    with support.connected(database) as one, support.connected(database) as other:
        assert len(support.fetch(one, first).claims) == 1
        # Fresh, and ahead of the job whose claim is not committed yet.
        support.defer(connection, support.job(lock="L", priority=1))
        racing = threads.submit(support.fetch, other, second)
        support.wait_until_blocked(connection, other, racing)
        one.commit()
        with pytest.raises(exceptions.UniqueViolation) as caught:
            racing.result(support.PATIENCE)
        assert caught.value.constraint_name == "procrastinate_jobs_lock_idx_v1"
        other.rollback()
        # "Claim again": now the lock is seen to be taken.
        answer = support.fetch(other, second)
        assert (answer.claims, answer.parked_locks) == ([], ["L"])


def test_a_scheduled_head_holds_its_line(connection):
    worker = support.register(connection)
    head, waiting = support.defer(connection, support.job(lock="L"), support.job(lock="L"))
    connection.execute(
        "update procrastinate_jobs set scheduled_at = now() + interval '1 day', waits_for = 'time' where id = %s",
        [head],
    )
    answer = support.fetch(connection, worker)
    assert (answer.claims, answer.parked_locks, answer.scanned) == ([], ["L"], 1)
    assert open_locks(connection, "L") == []
    assert support.state(connection, waiting) == ASLEEP
    assert support.run(FindSleepingLocks(limit=10), connection) == []


def test_rows_inserted_by_hand_are_parked_by_the_claim(connection):
    worker = support.register(connection)
    connection.execute(
        "insert into procrastinate_jobs (queue_name, task_name, lock, scheduled_at)"
        " values ('q', 't', null, now() + interval '1 day'), ('q', 't', 'L', null), ('q', 't', 'L', null)"
    )
    answer = support.fetch(connection, worker)
    assert [claim.job.lock for claim in answer.claims] == ["L"]
    assert (answer.parked_locks, answer.scanned) == (["L"], 3)
    states = connection.execute("select status::text, waits_for from procrastinate_jobs order by id").fetchall()
    assert states == [("todo", "time"), ("doing", None), ("todo", "lock")]
    # Each of them was looked at once.
    assert support.fetch(connection, worker).scanned == 0


def test_opening_takes_the_head_only_and_only_of_free_locks(connection):
    worker = support.register(connection)
    ids = support.defer(
        connection,
        *[support.job(lock="busy", priority=5), support.job(lock="busy")],
        *[support.job(lock="free", priority=priority) for priority in (0, 3, 3, 1)],
    )
    claims = {claim.job.id: claim for claim in support.fetch(connection, worker).claims}
    assert list(claims) == [ids[0], ids[3]]
    support.succeed(connection, worker, claims[ids[3]])
    assert run_open(connection, "busy", "free", "unknown", "free").queues == ["default"]
    assert support.state(connection, ids[1]) == ASLEEP
    assert [support.state(connection, id_) for id_ in ids[2:]] == [ASLEEP, ("succeeded", None), READY, ASLEEP]

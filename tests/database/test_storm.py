"""Many claimers on few locks: exclusivity and order are judged here, outside the database."""

from __future__ import annotations

import collections
import datetime
import random
import threading
import time
from collections.abc import Iterable

import attrs
import psycopg

from database import support
from procrastinate import exceptions, jobs, types
from procrastinate.store.jobs import DeleteJobs, FinishJobs, ReleaseJobs, RetryJobs, Verdict
from procrastinate.store.locks import FindSleepingLocks, OpenLocks

CLAIMERS = 32
LOCKS = 5
WITH_LOCK = 1_000
WITHOUT_LOCK = 200


@attrs.define
class Judge:
    """What is seen from outside, and whether it is as promised."""

    remaining: int
    guard: threading.Lock = attrs.field(factory=threading.Lock)
    running: dict[str, int] = attrs.field(factory=dict)
    starts: dict[str, list[int]] = attrs.field(factory=lambda: collections.defaultdict(list))
    ends: collections.Counter = attrs.field(factory=collections.Counter)
    faults: list[str] = attrs.field(factory=list)
    done: threading.Event = attrs.field(factory=threading.Event)

    def start(self, job: jobs.Job) -> None:
        with self.guard:
            if job.lock is None:
                return
            if job.lock in self.running:
                self.faults.append(f"{job.id} started while {self.running[job.lock]} ran under {job.lock}")
            self.running[job.lock] = job.id
            self.starts[job.lock].append(job.id)

    def stop(self, job: jobs.Job) -> None:
        with self.guard:
            if job.lock is not None:
                self.running.pop(job.lock, None)

    def end(self, job_ids: list[int]) -> None:
        with self.guard:
            self.ends.update(job_ids)
            self.remaining -= len(job_ids)
            if self.remaining <= 0:
                self.done.set()

    def fail(self, fault: str) -> None:
        with self.guard:
            self.faults.append(fault)
        self.done.set()


class Claimer(threading.Thread):
    """A worker in miniature: claims, runs, ends in one of four ways, and opens locks as workers must."""

    def __init__(self, database: str, judge: Judge, number: int) -> None:
        super().__init__(daemon=True)
        self.database = database
        self.judge = judge
        self.dice = random.Random(number)
        self.to_open: set[str] = set()

    def run(self) -> None:
        try:
            with psycopg.connect(self.database, autocommit=True) as self.connection:
                self.worker = support.register(self.connection)
                while not self.judge.done.is_set() or self.to_open:
                    self.work()
        except Exception as error:  # noqa: BLE001  whatever it is, the storm has failed
            self.judge.fail(repr(error))

    def work(self) -> None:
        try:
            answer = support.fetch(self.connection, self.worker, self.dice.choice([1, 3, 10, 50]))
        except exceptions.UniqueViolation:
            return
        self.to_open |= set(answer.parked_locks)
        self.open_locks()
        if not answer.scanned:
            # Nobody notifies anybody here.
            self.judge.done.wait(0.002)
        for claim in answer.claims:
            self.judge.start(claim.job)
        if self.dice.random() < 0.3:
            time.sleep(self.dice.random() * 0.004)
        for claim in answer.claims:
            self.judge.stop(claim.job)
        groups = collections.defaultdict(list)
        for claim in answer.claims:
            groups[self.choose(claim)].append(claim)
        for end, claims in groups.items():
            getattr(self, end)(claims)
            self.to_open |= {claim.job.lock for claim in claims if claim.job.lock is not None}
            self.open_locks()

    def choose(self, claim: jobs.Claim) -> str:
        # At most a few turns for each job, so that the storm ends.
        again = ["retry", "release"] if claim.token < 3 and self.dice.random() < 0.2 else ["finish", "delete"]
        return self.dice.choice(again)

    def finish(self, claims: list[jobs.Claim]) -> None:
        self.accept(FinishJobs, claims, jobs.Status.SUCCEEDED)

    def delete(self, claims: list[jobs.Claim]) -> None:
        self.accept(DeleteJobs, claims, jobs.Status.SUCCEEDED)

    def retry(self, claims: list[jobs.Claim]) -> None:
        self.accept(RetryJobs, claims, jobs.Status.TODO, retry_at=types.utcnow() - datetime.timedelta(seconds=1))

    def release(self, claims: list[jobs.Claim]) -> None:
        self.check(claims, self.patiently(ReleaseJobs(claims=claims, worker_id=self.worker)))

    def patiently(self, operation):
        """Try again, as workers do, where somebody holds a row for long: on a busy machine, a thread that sleeps."""
        while True:
            try:
                return support.run(operation, self.connection)
            except exceptions.LockNotAvailable:
                continue

    def accept(self, operation, claims: list[jobs.Claim], status: jobs.Status, **settings) -> None:
        verdicts = [Verdict(claim=claim, status=status, **settings) for claim in claims]
        accepted = self.patiently(operation(verdicts=verdicts, worker_id=self.worker))
        self.check(claims, accepted)
        if status is not jobs.Status.TODO:
            self.judge.end([job_id for job_id, _ in accepted])

    def check(self, claims: list[jobs.Claim], accepted: Iterable[jobs.Key]) -> None:
        if sorted(accepted) != sorted(claim.key for claim in claims):
            self.judge.fail(f"{accepted} were accepted of {claims}")

    def open_locks(self) -> None:
        if self.to_open:
            opened = support.run(OpenLocks(locks=sorted(self.to_open)), self.connection)
            self.to_open = set(opened.still_parked)


def test_storm(database, connection):
    dice = random.Random(1)
    batch = [support.job(lock=f"L{dice.randrange(LOCKS)}", priority=dice.randint(-1, 1)) for _ in range(WITH_LOCK)]
    batch += [support.job(priority=dice.randint(-1, 1)) for _ in range(WITHOUT_LOCK)]
    dice.shuffle(batch)
    ids = support.defer(connection, *batch)
    lines = collections.defaultdict(list)
    for id_, job in sorted(zip(ids, batch, strict=True), key=lambda pair: (-pair[1].priority, pair[0])):
        lines[job.lock].append(id_)
    del lines[None]

    judge = Judge(remaining=len(batch))
    crew = [Claimer(database, judge, number) for number in range(CLAIMERS)]
    for claimer in crew:
        claimer.start()
    finished = judge.done.wait(40)
    judge.done.set()
    for claimer in crew:
        claimer.join(5)

    assert judge.faults == []
    left = "select id, status::text, lock, waits_for from procrastinate_jobs where status in ('todo', 'doing')"
    assert connection.execute(left).fetchall() == []
    assert finished
    assert judge.ends == collections.Counter(ids)
    # A job that was retried or given back stands in its place, so its next start comes before anybody else's.
    starts = {
        lock: [id_ for n, id_ in enumerate(line) if line[n - 1 : n] != [id_]] for lock, line in judge.starts.items()
    }
    assert starts == lines
    assert sum(map(len, judge.starts.values())) > WITH_LOCK, "some jobs started more than once"
    assert support.run(FindSleepingLocks(limit=10), connection) == []
    deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
    assert support.value(connection, deadlocks) == 0

"""The same drain with piles of other jobs beside it: they must not matter."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import attrs

from bench import runs
from bench.contenders import OURS
from bench.measurement import Arm, Measurement, Options, Results, Row, number, row
from bench.stand import Database, Stand, insert_jobs

JOBS = 50_000
TURNS = 20
FINISHED = (
    ("status", "'succeeded'::procrastinate_job_status"),
    ("claims", "1"),
    ("attempts", "1"),
    ("attempted_at", "now()"),
    ("finalized_at", "now()"),
)
LATER = (("scheduled_at", "now() + interval '1 day' + n * interval '1 second'"), ("waits_for", "'time'"))
PARKED = (("waits_for", "'lock'"),)


def finished(database: Database, count: int) -> None:
    insert_jobs(database, count, task="pile", columns=FINISHED)


def scheduled(database: Database, count: int) -> None:
    insert_jobs(database, count, task="pile", columns=LATER)


def elsewhere(database: Database, count: int) -> None:
    insert_jobs(database, count, task="pile", queue="'elsewhere'")


def hold_two_locks(database: Database) -> None:
    """Have somebody who is not here, and never seems dead, run a job of each of two locks."""
    database.execute(
        "with worker as (insert into procrastinate_workers (name, last_heartbeat) values ('pile', now() + '1 day') "
        "returning id) insert into procrastinate_jobs (queue_name, task_name, lock, status, worker_id, claims) "
        "select 'default', 'pile', 'busy ' || n, 'doing', worker.id, 1 from worker, generate_series(0, 1) n"
    )


def behind_locks(database: Database, count: int) -> None:
    hold_two_locks(database)
    insert_jobs(database, count, task="pile", lock="'busy ' || n % 2", columns=PARKED)


@attrs.frozen
class Pile:
    """What is beside the jobs, or special about them."""

    name: str
    count: int = 0
    insert: Callable[[Database, int], None] | None = None
    queue: str = "'default'"
    priority: str = "0"
    serves_one_queue: bool = False
    has_bar: bool = True
    # Deferred together with the jobs, in turns, so that the worker meets the pile while it drains.
    is_mixed: bool = False


NOTHING = "nothing beside"
PILES = (
    Pile(NOTHING),
    Pile("finished", 1_000_000, finished),
    Pile("scheduled for later", 1_000_000, scheduled),
    Pile("in a queue not served", 1_000_000, elsewhere, serves_one_queue=True),
    Pile("behind two busy locks", 100_000, behind_locks),
    Pile("of 1,000 queues", queue="'queue ' || n % 1000"),
    Pile("of 100 priorities", priority="n % 100"),
    # Each is looked at once and parked: work that comes on top, once.
    Pile("behind two busy locks, just deferred", 100_000, has_bar=False, is_mixed=True),
)


def mix(database: Database, jobs: int, beside: int) -> None:
    hold_two_locks(database)
    for turn in range(TURNS):
        first, last = (jobs * each // TURNS for each in (turn, turn + 1))
        insert_jobs(database, last - first, first=first)
        insert_jobs(database, beside // TURNS, task="pile", lock="'busy ' || n % 2")


def drain_beside(stand: Stand, pile: Pile, jobs: int, beside: int) -> Measurement:
    """Drain jobs beside a pile, which stays for the next round."""
    stays = pile.has_bar and pile.insert is not None
    name = f"bench_pile_{PILES.index(pile)}"
    database = stand.kept_database(name)
    if database is None:
        database = stand.keep_database(name)
        if pile.insert:
            pile.insert(database, beside)
    try:
        contender = OURS
        if pile.serves_one_queue:
            contender = attrs.evolve(OURS, variant="default")
        # Its own "doing" rows, those of the pile aside.
        contender = attrs.evolve(
            contender,
            unfinished="select count(*) from procrastinate_jobs where status = 'doing' and task_name <> 'pile'",
        )
        with runs.tally_for(stand, jobs) as tally:
            if pile.is_mixed:
                mix(database, jobs, beside)
            else:
                insert_jobs(database, jobs, queue=pile.queue, priority=pile.priority)
            database.settle()
            return runs.drain_filled(stand, contender, database, tally, keep=True)
    finally:
        if stays:
            database.execute("delete from procrastinate_jobs where task_name <> 'pile'")
        else:
            stand.drop(name)


class Flatness:
    """Each pile against nothing beside."""

    name = "flatness"

    def arms(self, options: Options) -> Sequence[Arm]:
        jobs = options.scaled(JOBS, 2_000)
        piles = [pile for pile in PILES if pile.has_bar or not options.quick]
        return [
            Arm(
                pile.name,
                functools.partial(drain_beside, pile=pile, jobs=jobs, beside=options.scaled(pile.count, 1_000)),
            )
            for pile in piles
        ]

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        found: list[Row] = []
        for pile in PILES[1:]:
            if pile.name not in results.runs:
                continue
            beside = f"beside {options.scaled(pile.count, 1_000):,} " if pile.count else ""
            least = 0.7 if pile.has_bar else None
            found.append(
                row(
                    results,
                    [pile.name, NOTHING],
                    f"drain of {options.scaled(JOBS, 2_000):,} {beside}{pile.name}",
                    lambda pile=pile: (
                        f"{results.ratio(pile.name, NOTHING):.2f} × without: {number(results.median(pile.name))} jobs/s"
                    ),
                    "≥ 0.7 × without" if least else "",
                    (lambda pile=pile: results.ratio(pile.name, NOTHING) >= 0.7) if least else None,
                    "" if least else "each of them is looked at once and parked, work that comes on top",
                )
            )
        return found

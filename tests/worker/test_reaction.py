"""Of many idle workers, a few claim for each job, and they take turns."""

from __future__ import annotations

import functools
import heapq
import itertools
import random
import statistics

import attrs
import pytest

from procrastinate.store.workers import Beat
from procrastinate.worker.reaction import MOST, RARE, Reaction
from worker.harness import Clock

# From the commit to the first line of a claim, at most.
ROUND_TRIP = 0.0003


@attrs.define
class Idler:
    """A worker that runs jobs in no time, or none at all."""

    reaction: Reaction
    is_busy: bool = False
    looks_at: float | None = None
    found: int = 0


@attrs.define
class Outcome:
    claims_per_job: float
    median_wait: float
    longest_wait: float
    most_found: float


def simulate(workers: int, rate: float, *, busy: int = 0, strangers: int = 0, jobs: int = 2_000) -> Outcome:
    """Have jobs arrive at random, and all idle workers hear of each; a claim finds all that is there.

    `busy` of them claim nothing. `strangers` are counted as if they served the same queue, and do not.
    """
    chance = random.Random(8)
    clock = Clock()
    team = [
        Idler(Reaction(functools.partial(Beat, was_known=True, place=place, workers=workers + strangers), clock))
        for place in range(workers)
    ]
    for idler in team[:busy]:
        idler.is_busy = True
    arrival, looks, order = clock.now, [], itertools.count()
    waiting, waits, claims, job_id = [], [], 0, 0
    while len(waits) < jobs:
        if not looks or looks[0][0] > arrival:
            clock.now = arrival
            waiting.append(arrival)
            # Ids come in steps where something else takes some.
            job_id += 2
            for idler in team:
                at = clock.now + idler.reaction.hesitation(job_id) + chance.uniform(0, ROUND_TRIP)
                if not idler.is_busy and (idler.looks_at is None or at < idler.looks_at):
                    idler.looks_at = at
                    heapq.heappush(looks, (at, next(order), idler))
            arrival += chance.expovariate(rate)
            continue
        at, _, idler = heapq.heappop(looks)
        if at != idler.looks_at:
            continue
        clock.now, idler.looks_at = at, None
        claims += 1
        idler.reaction.learn(in_vain=not waiting)
        waits += [at - since for since in waiting]
        idler.found += len(waiting)
        waiting.clear()
    # The first tenth is for finding out.
    settled = waits[jobs // 10 :]
    return Outcome(claims / jobs, statistics.median(settled), max(settled), max(idler.found for idler in team) / jobs)


@pytest.mark.parametrize(("workers", "rate", "most"), [(2, 200, 1.5), (8, 200, 2), (32, 200, 4), (32, 1_000, 3)])
def test_a_few_claim_for_each_job(workers: int, rate: float, most: float) -> None:
    outcome = simulate(workers, rate)
    assert outcome.claims_per_job < most
    assert outcome.longest_wait <= ROUND_TRIP
    assert outcome.most_found < 1.5 / workers


def test_where_most_are_busy_the_others_do_not_wait_for_them_long() -> None:
    assert simulate(workers=8, rate=200, busy=7).longest_wait <= ROUND_TRIP
    outcome = simulate(workers=32, rate=200, busy=24)
    assert outcome.median_wait < 0.01
    assert outcome.longest_wait <= MOST
    assert outcome.claims_per_job < 4


def test_workers_of_other_queues_are_not_waited_for() -> None:
    assert simulate(workers=1, rate=200, strangers=99).longest_wait <= ROUND_TRIP


def test_few_jobs_are_not_waited_for() -> None:
    clock = Clock()
    reaction = Reaction(lambda: Beat(was_known=True, place=3, workers=8), clock)
    for job_id in range(100):
        assert reaction.hesitation(job_id) == 0
        reaction.learn(in_vain=True)
        clock.now += 2 * RARE


def test_a_job_that_is_not_known_is_looked_for_at_once() -> None:
    clock = Clock()
    reaction = Reaction(lambda: Beat(was_known=True, place=3, workers=8), clock)
    for job_id in range(100):
        reaction.hesitation(job_id)
        reaction.learn(in_vain=True)
    assert max(map(reaction.hesitation, range(100))) > 0
    assert reaction.hesitation(None) == 0

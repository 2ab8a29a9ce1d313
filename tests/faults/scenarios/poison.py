"""Jobs that should not be: the worker records an end for each, and goes on with the next."""

from __future__ import annotations

import json

import psycopg

from faults.fault_app import ENDS
from faults.judge import Rules
from faults.stage import Stage
from faults.suite import scenario
from procrastinate import exceptions

ANY_END = Rules(statuses=frozenset({"succeeded", "failed", "aborted"}))
KINDS = [*ENDS, "nul", "unprintable result", "endless recursion"]


def _goes_on(stage: Stage, what: object) -> None:
    ids = stage.defer("work", 3)
    query = f"id >= {min(ids)} and status <> 'succeeded'"
    stage.until(lambda: not stage.count(query), f"the next jobs run after {what}", 20)


def _has_ended(stage: Stage, job_id: int) -> bool:
    return not stage.count(f"id = {job_id} and status in ('todo', 'doing')")


@scenario("Every kind of exception and result, from coroutines and threads", trials=1, in_short=True)
def poisonous_ends(stage: Stage) -> None:
    stage.rules = ANY_END
    worker = stage.worker(concurrency=2)
    kinds = [*KINDS, *(["huge message"] if stage.is_long else [])]
    for task in ("poison", "poison_in_thread"):
        for kind in kinds:
            (job_id,) = stage.defer(task, kind=kind)
            stage.until(lambda job_id=job_id: _has_ended(stage, job_id), f"{task} of {kind} ends")
            (status,) = stage.query("select status::text from procrastinate_jobs where id = %s", job_id)[0]
            expected = {"unprintable result": "succeeded", "CancelledError": "aborted"}.get(kind, "failed")
            stage.promise(status == expected, f"{task} of {kind} ended {status}, not {expected}")
    _goes_on(stage, "all of them")
    stage.promise(worker.is_alive, "the worker is alive")


@scenario("Tasks that close the loop's executor and cancel their neighbours", trials=1, in_short=True)
def bad_neighbours(stage: Stage) -> None:
    stage.rules = ANY_END
    # Claimed together: the others are cancelled ahead of their first step.
    stage.defer("cancel_everybody")
    stage.defer("work", 3)
    worker = stage.worker(concurrency=4)
    _goes_on(stage, "cancel_everybody")
    stage.defer("close_the_executor")
    _goes_on(stage, "close_the_executor")
    stage.defer("work_in_thread", 3)
    stage.settle()
    stage.promise(worker.is_alive, "the worker is alive")


@scenario("Rows written by hand: arguments that are no object, unknown tasks, odd names", trials=1, in_short=True)
def odd_rows(stage: Stage) -> None:
    stage.rules = ANY_END
    worker = stage.worker(concurrency=2)
    insert = "insert into procrastinate_jobs (queue_name, task_name, args) values (%s, %s, %s::jsonb) returning id"
    rows = [("default", "work", text) for text in ("[1]", "5", '"text"', "null", "true", '{"": 1}', '{"self": 1}')]
    names = ("", " ", "nobody.knows", "é" * 128, "'; drop table procrastinate_jobs; --")
    rows += [("default", name, "{}") for name in names]
    rows += [(name, "work", "{}") for name in ("", "🙂" * 25, "q" * 128, '"; drop table procrastinate_jobs; --')]
    for row in rows:
        (job_id,) = stage.query(insert, *row)[0]
        stage.offered.append(job_id)
        stage.until(lambda job_id=job_id: _has_ended(stage, job_id), f"{str(row)[:80]} ends")
    _goes_on(stage, "all of them")
    stage.promise(worker.is_alive, "the worker is alive")


@scenario("Arguments of 50 MB; NUL and lone surrogates are refused when they are deferred", trials=1)
def huge_and_unstorable(stage: Stage) -> None:
    worker = stage.worker()
    stage.defer("work", padding="x" * (50_000_000 if stage.is_long else 5_000_000))
    stage.until(lambda: not stage.left, "the big job runs", 60)
    for text in ("a NUL \x00", "a lone surrogate \udc80"):
        try:
            stage.defer("work", padding=text)
        except exceptions.InvalidData:
            pass
        except (exceptions.ConnectorException, psycopg.Error, UnicodeError) as error:
            stage.broken.append(f"{json.dumps(text)} is refused with {error!r}")
        else:
            stage.broken.append(f"{json.dumps(text)} is not refused")
    _goes_on(stage, "all of them")
    stage.promise(worker.is_alive, "the worker is alive")

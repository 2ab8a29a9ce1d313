"""What each operation does, whatever connector answers it."""

from __future__ import annotations

import datetime

import attrs
import pytest

from procrastinate import exceptions
from procrastinate.jobs import PRIORITIES, SUSPECT, Claim, Job, Status
from procrastinate.store import jobs, locks, schedule, workers

PAST = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
FUTURE = datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC)


def a_job(**values):
    return Job(**{"queue": "q", "task_name": "t", "lock": None, "queueing_lock": None, **values})


async def defer(store, *batch):
    batch = batch or (a_job(),)
    if len(batch) == 1:
        return await store.ask(jobs.DeferJob(job=batch[0]))
    return await store.ask(jobs.DeferJobs(jobs=batch))


async def fetch(store, worker_id, *, queues=None, limit=10):
    return await store.ask(jobs.FetchJobs(queues=queues, worker_id=worker_id, limit=limit))


async def claim(store, *batch):
    """Defer jobs and claim them; answer the worker and the claims."""
    worker_id = await store.worker()
    await defer(store, *batch)
    return worker_id, (await fetch(store, worker_id)).claims


def ids(answer):
    return [claim.job.id for claim in answer.claims]


async def finish(store, worker_id, claims, status=Status.SUCCEEDED, report=None):
    verdicts = [jobs.Verdict(claim=claim, status=status, report=report) for claim in claims]
    return await store.ask(jobs.FinishJobs(verdicts=verdicts, worker_id=worker_id))


async def retry(store, worker_id, claims, **changes):
    verdicts = [jobs.Verdict(claim=claim, status=Status.TODO, **changes) for claim in claims]
    return await store.ask(jobs.RetryJobs(verdicts=verdicts, worker_id=worker_id))


async def cancel(store, job_id, *, abort=False, delete=False):
    return await store.ask(jobs.CancelJob(job_id=job_id, abort=abort, delete=delete))


async def retry_by_hand(store, job_id, *, retry_at=PAST, priority=None, queue=None, lock=None):
    return await store.ask(jobs.RetryJob(job_id=job_id, retry_at=retry_at, priority=priority, queue=queue, lock=lock))


async def rescue(store, *, max_rescues=3, limit=10):
    return await store.ask(workers.RescueJobs(seconds_since_heartbeat=60, max_rescues=max_rescues, limit=limit))


class TestDefer:
    async def test_ids_follow_the_batch(self, store):
        batch = [a_job(queue=queue, scheduled_at=at) for queue, at in [("b", None), ("a", FUTURE), ("c", PAST)]]
        assert await defer(store, *batch) == [1, 2, 3]
        assert [store.job(job_id)["queue_name"] for job_id in (1, 2, 3)] == ["b", "a", "c"]
        assert [store.job(job_id)["waits_for"] for job_id in (1, 2, 3)] == [None, "time", None]

    @pytest.mark.parametrize("at", [None, PAST, FUTURE])
    async def test_arguments_and_settings_come_back(self, store, at):
        job = a_job(priority=-3, lock="x", queueing_lock="y", task_kwargs={"a": [1, None, {"é": 1.5}]}, scheduled_at=at)
        await defer(store, job)
        await store.ask(jobs.DeferJobs(jobs=[attrs.evolve(job, queueing_lock="z")]))
        assert await store.ask(jobs.ListJobs()) == [
            attrs.evolve(job, id=1, status="todo"),
            attrs.evolve(job, id=2, status="todo", queueing_lock="z"),
        ]
        assert store.job(1)["waits_for"] == store.job(2)["waits_for"] == ("time" if at is FUTURE else None)

    @pytest.mark.parametrize(("arguments", "stored"), [(None, {"a": 1}), ({}, {}), ({"b": 2}, {"b": 2})])
    async def test_arguments_in_place_of_the_jobs_own(self, store, arguments, stored):
        await store.ask(jobs.DeferJob(job=a_job(task_kwargs={"a": 1}), arguments=arguments))
        assert [job.task_kwargs for job in await store.ask(jobs.ListJobs())] == [stored]

    async def test_what_is_no_json_is_refused(self, store):
        with pytest.raises(TypeError):
            await defer(store, a_job(task_kwargs={"a": object()}))
        with pytest.raises(exceptions.InvalidData):
            await defer(store, a_job(task_kwargs={"a": float("nan")}))
        with pytest.raises(exceptions.InvalidData):
            await defer(store, a_job(task_kwargs={"a": "\0"}))
        assert await store.ask(jobs.ListJobs()) == []

    @pytest.mark.parametrize(
        "values", [{"queue": "q" * 129}, {"task_name": "t" * 129}, {"priority": 2**31}, {"lock": "a\0"}]
    )
    async def test_what_the_columns_cannot_hold_is_refused(self, store, values):
        with pytest.raises(exceptions.InvalidData):
            await defer(store, a_job(**values))

    async def test_a_queueing_lock_is_taken_while_its_job_waits(self, store):
        job = a_job(queueing_lock="one")
        worker_id, _ = await claim(store, job)
        await defer(store, job)
        with pytest.raises(exceptions.AlreadyEnqueued, match="one"):
            await defer(store, job)
        assert len((await fetch(store, worker_id)).claims) == 1

    @pytest.mark.parametrize("batch", [["free", "taken"], ["free", "free"]])
    async def test_all_or_none(self, store, batch):
        await defer(store, a_job(queueing_lock="taken"))
        with pytest.raises(exceptions.AlreadyEnqueued):
            await defer(store, *[a_job(queueing_lock=lock) for lock in batch])
        assert len(await store.ask(jobs.ListJobs())) == 1

    async def test_jobs_that_differ_in_their_arguments_only(self, store):
        job = a_job(queue="q", priority=-3, lock="x", scheduled_at=FUTURE, task_kwargs={"left": "out"})
        arguments = [{"a": [1, None, {"é": 1.5}]}, {}, {"b": "x"}]
        assert await store.ask(jobs.DeferAlike(job=job, arguments=arguments)) == [1, 2, 3]
        assert await store.ask(jobs.ListJobs()) == [
            attrs.evolve(job, id=number, status="todo", task_kwargs=each) for number, each in enumerate(arguments, 1)
        ]
        assert [store.job(job_id)["waits_for"] for job_id in (1, 2, 3)] == ["time"] * 3

    async def test_alike_with_a_queueing_lock(self, store):
        job = a_job(queueing_lock="one")
        with pytest.raises(exceptions.AlreadyEnqueued, match="one"):
            await store.ask(jobs.DeferAlike(job=job, arguments=[{}, {}]))
        assert await store.ask(jobs.ListJobs()) == []
        assert len(await store.ask(jobs.DeferAlike(job=job, arguments=[{}]))) == 1
        with pytest.raises(exceptions.AlreadyEnqueued, match="one"):
            await store.ask(jobs.DeferAlike(job=job, arguments=[{}]))

    async def test_an_empty_batch(self, store):
        assert await store.ask(jobs.DeferJobs(jobs=[])) == []


class TestFetch:
    async def test_by_priority_then_by_id(self, store):
        worker_id = await store.worker()
        await defer(store, a_job(), a_job(priority=5), a_job(), a_job(priority=-5))
        assert ids(await fetch(store, worker_id, limit=3)) == [2, 1, 3]
        assert ids(await fetch(store, worker_id)) == [4]

    async def test_who_was_taken_back_is_claimed_only_for_a_free_slot(self, store):
        worker_id = await store.worker()
        await defer(store, *[a_job()] * 6)
        for job_id in (2, 3, 5):
            store.change_job(job_id, rescues=1)
        first = await store.ask(jobs.FetchJobs(queues=None, worker_id=worker_id, limit=10, slots=2))
        assert ids(first) == [1, 2, 4, 6]
        assert [claim.rescues for claim in first.claims] == [0, 1, 0, 0]
        none = await store.ask(jobs.FetchJobs(queues=["default"], worker_id=worker_id, limit=10, slots=0))
        assert (ids(none), none.parked_locks) == ([], [])
        assert ids(await fetch(store, worker_id)) == [3, 5]

    async def test_no_more_than_wanted_is_claimed_of_what_is_looked_at(self, store):
        worker_id = await store.worker()
        await defer(store, *[a_job(lock=lock) for lock in ("x", "x", None, None, "x")])
        found = await store.ask(jobs.FetchJobs(queues=None, worker_id=worker_id, limit=5, most=2))
        assert (ids(found), found.parked_locks, found.scanned) == ([1, 3], ["x", "x"], 4)
        assert ids(await fetch(store, worker_id)) == [4]

    async def test_a_suspect_is_claimed_all_alone(self, store):
        worker_id = await store.worker()
        await defer(store, *[a_job(lock="x" if number else None) for number in range(4)])
        store.change_job(2, rescues=SUSPECT)
        for expected in ([1], [2]):
            claimed = await store.ask(jobs.FetchJobs(queues=None, worker_id=worker_id, limit=10, slots=5))
            assert ids(claimed) == expected
        assert [claim.is_suspect for claim in claimed.claims] == [True]

    @pytest.mark.parametrize("queues", [None, ["q", "default"]])
    async def test_floors_are_by_priority(self, store, queues):
        worker_id = await store.worker()
        top, bottom = PRIORITIES[-1], PRIORITIES[0]
        await defer(store, *[a_job(priority=each) for each in (top, 1, 0, 0, bottom) * 2])
        floors = {top: 1, 0: 4, bottom: 5, 7: 100}
        fetched = await store.ask(jobs.FetchJobs(queues=queues, worker_id=worker_id, limit=20, floors=floors))
        assert ids(fetched) == [6, 2, 7, 8, 9, 10]
        assert ids(await fetch(store, worker_id)) == [1, 3, 4, 5]

    async def test_the_claim(self, store):
        worker_id, (claimed,) = await claim(store, a_job(task_kwargs={"a": 1}))
        expected = a_job(id=1, status="doing", task_kwargs={"a": 1}, worker_id=worker_id)
        assert claimed == Claim(job=expected, token=1)
        assert store.events(1) == ["deferred", "started"]

    @pytest.mark.parametrize(
        ("queues", "expected"), [(None, [1, 2, 3]), ([], []), (["a"], [1, 3]), (["b", "a", "b"], [1, 2, 3])]
    )
    async def test_queues(self, store, queues, expected):
        worker_id = await store.worker()
        await defer(store, a_job(queue="a"), a_job(queue="b"), a_job(queue="a"))
        assert ids(await fetch(store, worker_id, queues=queues)) == expected

    async def test_nothing_for_a_worker_that_is_not_registered(self, store):
        await defer(store)
        assert await fetch(store, 99) == jobs.FetchResult(claims=[], parked_locks=[], scanned=0)

    async def test_jobs_behind_a_lock_are_parked_once(self, store):
        worker_id = await store.worker()
        await defer(store, *[a_job(lock="x")] * 3)
        first = await fetch(store, worker_id)
        assert (ids(first), first.parked_locks, first.scanned) == ([1], ["x", "x"], 3)
        assert store.job(2)["waits_for"] == "lock"
        assert (await fetch(store, worker_id)).scanned == 0

    async def test_a_scheduled_head_holds_its_line(self, store):
        worker_id = await store.worker()
        await defer(store, a_job(lock="x", scheduled_at=FUTURE), a_job(lock="x"))
        assert ids(await fetch(store, worker_id)) == []
        assert (await store.ask(locks.OpenLocks(locks=["x"]))).queues == []

    async def test_a_row_written_by_hand_is_parked_until_it_is_due(self, store):
        worker_id = await store.worker()
        await defer(store, a_job(scheduled_at=FUTURE, lock="x"))
        store.change_job(1, waits_for=None)
        assert await fetch(store, worker_id) == jobs.FetchResult(claims=[], parked_locks=[], scanned=1)
        assert store.job(1)["waits_for"] == "time"


class TestEndOfRuns:
    async def test_finish(self, store):
        worker_id, claims = await claim(store)
        assert await finish(store, worker_id, claims) == {(1, 1): "succeeded"}
        assert store.job(1)["attempts"] == 1
        assert store.events(1) == ["deferred", "started", "succeeded"]

    async def test_delete(self, store):
        worker_id, claims = await claim(store)
        verdict = jobs.Verdict(claim=claims[0], status=Status.SUCCEEDED, delete=True)
        assert await store.ask(jobs.DeleteJobs(verdicts=[verdict], worker_id=worker_id)) == {(1, 1): "doing"}
        assert store.job(1) is None

    async def test_retry(self, store):
        worker_id, claims = await claim(store)
        report = {
            "event": "deferred_for_retry",
            "started_at": "2026-01-01T00:00:00Z",
            "ended_at": "2026-01-01T00:00:01Z",
        }
        changes = {"retry_at": FUTURE, "priority": 4, "queue": "r", "lock": "x", "report": report}
        assert await retry(store, worker_id, claims, **changes) == {(1, 1): "todo"}
        row = store.job(1)
        assert (row["queue_name"], row["priority"], row["lock"], row["waits_for"]) == ("r", 4, "x", "time")
        assert (row["attempts"], row["scheduled_at"], row["attempts_log"]) == (1, FUTURE, [report])
        assert store.events(1) == ["deferred", "started", "scheduled", "deferred_for_retry"]

    async def test_a_claim_that_holds_no_longer_changes_nothing(self, store):
        worker_id, claims = await claim(store)
        other = await store.worker()
        assert await finish(store, other, claims) == {}
        await retry(store, worker_id, claims)
        assert len((await fetch(store, worker_id)).claims) == 1
        for operation in (jobs.FinishJobs, jobs.RetryJobs, jobs.DeleteJobs):
            verdict = jobs.Verdict(claim=claims[0], status=Status.FAILED)
            assert await store.ask(operation(verdicts=[verdict], worker_id=worker_id)) == {}
        assert await store.ask(jobs.ReleaseJobs(claims=claims, worker_id=worker_id)) == set()
        assert await store.ask(jobs.GetJobStatus(job_id=1)) is Status.DOING

    @pytest.mark.parametrize(
        ("operation", "status"), [(jobs.FinishJobs, "failed"), (jobs.DeleteJobs, "doing"), (jobs.RetryJobs, "todo")]
    )
    async def test_of_two_runs_of_a_job_that_end_together_the_later_counts(self, store, operation, status):
        worker_id, claims = await claim(store)
        await retry_by_hand(store, 1)
        claims += (await fetch(store, worker_id)).claims
        verdicts = [jobs.Verdict(claim=claim, status=Status.FAILED) for claim in claims]
        assert await store.ask(operation(verdicts=verdicts, worker_id=worker_id)) == {(1, 2): status}

    async def test_a_retry_that_meets_its_sibling_fails(self, store):
        worker_id, claims = await claim(store, a_job(queueing_lock="one"))
        await defer(store, a_job(queueing_lock="one"))
        assert await retry(store, worker_id, claims) == {(1, 1): "failed"}
        assert "queueing lock" in store.job(1)["attempts_log"][-1]["reason"]

    async def test_a_retry_that_was_aborted_fails(self, store):
        worker_id, claims = await claim(store)
        await cancel(store, 1, abort=True)
        assert await retry(store, worker_id, claims) == {(1, 1): "failed"}
        assert store.job(1)["abort_requested"] is False

    async def test_release(self, store):
        worker_id, claims = await claim(store)
        assert await store.ask(jobs.ReleaseJobs(claims=claims, worker_id=worker_id)) == {(1, 1)}
        assert store.events(1) == ["deferred"]
        (again,) = (await fetch(store, worker_id)).claims
        assert (again.token, again.job.attempts) == (2, 0)

    @pytest.mark.parametrize("way", ["retry", "release", "rescue"])
    async def test_one_sibling_waits_again_although_another_was_aborted(self, store, way):
        """Jobs that do not go back to wait are in nobody's way."""
        worker_id, claims = await claim(store, a_job(queueing_lock="one"))
        for _ in range(2):
            await defer(store, a_job(queueing_lock="one"))
            claims += (await fetch(store, worker_id)).claims
        await cancel(store, 1, abort=True)
        if way == "retry":
            await retry(store, worker_id, claims)
        elif way == "release":
            await store.ask(jobs.ReleaseJobs(claims=claims, worker_id=worker_id))
        else:
            store.set_heartbeat(worker_id, PAST)
            while await rescue(store):
                pass
        statuses = [store.job(job_id)["status"] for job_id in (1, 2, 3)]
        first, last = {
            "retry": ("failed", "failed"),
            "release": ("aborted", "cancelled"),
            "rescue": ("aborted", "failed"),
        }[way]
        assert statuses[0] == first
        assert sorted(statuses[1:]) == sorted(["todo", last])


class TestFromOutside:
    async def test_cancel_a_waiting_job(self, store):
        await defer(store, a_job(lock="x"))
        assert await cancel(store, 1, abort=True) == jobs.Changed(status="todo", changed=True, freed_locks=["x"])
        assert store.events(1) == ["deferred", "abort_requested", "cancelled"]
        assert store.job(1)["abort_requested"] is False

    async def test_delete_a_waiting_job(self, store):
        await defer(store)
        assert (await cancel(store, 1, delete=True)).changed
        assert store.job(1) is None

    async def test_ask_a_running_job_to_stop(self, store):
        worker_id, _ = await claim(store, a_job(queue="r", lock="x"))
        assert not (await cancel(store, 1)).changed
        asked = await cancel(store, 1, abort=True, delete=True)
        assert asked == jobs.Changed(status="doing", changed=True, freed_locks=[])
        assert await store.ask(jobs.ListJobsToAbort()) == [1]
        assert await store.ask(jobs.ListJobsToAbort(queue="q")) == []
        assert await store.ask(jobs.ListJobsToAbort(queue="r", worker_id=worker_id)) == [1]
        assert store.events(1) == ["deferred", "started", "abort_requested"]

    async def test_run_a_scheduled_job_now(self, store):
        await defer(store, a_job(scheduled_at=FUTURE), a_job())
        now = jobs.Changed(status="todo", changed=True, freed_locks=[])
        assert await store.ask(jobs.RunJobNow(job_id=1)) == now
        row = store.job(1)
        assert (row["status"], row["waits_for"], row["scheduled_at"], row["attempts"]) == ("todo", None, None, 0)
        for job_id, status in ((1, "todo"), (2, "todo"), (99, None)):
            unchanged = jobs.Changed(status=status, changed=False, freed_locks=[])
            assert await store.ask(jobs.RunJobNow(job_id=job_id)) == unchanged
        assert ids(await fetch(store, await store.worker())) == [1, 2]

    async def test_an_unknown_job(self, store):
        nothing = jobs.Changed(status=None, changed=False, freed_locks=[])
        assert await cancel(store, 9) == nothing
        assert await retry_by_hand(store, 9) == nothing
        assert await store.ask(jobs.FinishJob(job_id=9, status=Status.FAILED, delete=False)) == nothing
        with pytest.raises(exceptions.NoResult):
            await store.ask(jobs.GetJobStatus(job_id=9))

    @pytest.mark.parametrize("has_report", [True, False])
    async def test_retry_a_failed_job(self, store, has_report):
        worker_id, claims = await claim(store, a_job(lock="x"))
        started, ended = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"
        report = {"event": "failed", "started_at": started, "ended_at": ended, "final": True}
        await finish(store, worker_id, claims, Status.FAILED, report if has_report else None)
        changed = await retry_by_hand(store, 1, retry_at=PAST, priority=7, queue="r", lock="y")
        assert changed == jobs.Changed(status="failed", changed=True, freed_locks=["y"])
        row = store.job(1)
        assert (row["attempts"], row["priority"], row["queue_name"], row["lock"]) == (2, 7, "r", "y")
        assert store.events(1) == ["deferred", "started", "failed", "scheduled", "retried"]

    async def test_retry_a_running_job(self, store):
        worker_id, claims = await claim(store, a_job(lock="x"))
        assert (await retry_by_hand(store, 1, retry_at=FUTURE)).freed_locks == ["x"]
        assert store.job(1)["waits_for"] == "time"
        assert await finish(store, worker_id, claims) == {}

    async def test_retry_is_refused(self, store):
        worker_id, claims = await claim(store, a_job(queueing_lock="one"))
        await defer(store, a_job(queueing_lock="one"))
        with pytest.raises(exceptions.AlreadyEnqueued):
            await retry_by_hand(store, 1)
        assert await retry_by_hand(store, 2) == jobs.Changed(status="todo", changed=False, freed_locks=[])
        await finish(store, worker_id, claims)
        assert not (await retry_by_hand(store, 1)).changed

    @pytest.mark.parametrize("abort", [True, False])
    async def test_retry_only_a_failed_job(self, store, abort):
        worker_id, claims = await claim(store, a_job())
        await cancel(store, 1, abort=abort)
        only_failed = jobs.RetryJob(job_id=1, retry_at=PAST, priority=None, queue=None, lock=None, only_failed=True)
        assert await store.ask(only_failed) == jobs.Changed(status="doing", changed=False, freed_locks=[])
        await finish(store, worker_id, claims, Status.FAILED)
        assert (await store.ask(only_failed)).changed
        assert store.job(1)["status"] == "todo"

    @pytest.mark.parametrize("is_running", [True, False])
    @pytest.mark.parametrize("delete", [True, False])
    async def test_finish(self, store, is_running, delete):
        worker_id = await store.worker()
        await defer(store, a_job(lock="x"))
        if is_running:
            await fetch(store, worker_id)
        changed = await store.ask(jobs.FinishJob(job_id=1, status=Status.FAILED, delete=delete))
        assert changed == jobs.Changed(status="doing" if is_running else "todo", changed=True, freed_locks=["x"])
        row = store.job(1)
        assert row is None if delete else (row["status"], row["attempts"]) == ("failed", int(is_running))
        assert not (await store.ask(jobs.FinishJob(job_id=1, status=Status.FAILED, delete=delete))).changed


class TestLocks:
    async def test_the_head_of_the_line_is_opened(self, store):
        worker_id, claims = await claim(store, *[a_job(lock="x", priority=priority) for priority in (9, 1, 2)])
        assert (await store.ask(locks.OpenLocks(locks=["x", "unknown"]))).queues == []
        await finish(store, worker_id, claims)
        assert await store.ask(locks.FindSleepingLocks(limit=5)) == ["x"]
        opened = await store.ask(locks.OpenLocks(locks=["x"]))
        assert opened == locks.Opened(queues=["q"], still_parked=[])
        assert await store.ask(locks.FindSleepingLocks(limit=5)) == []
        assert ids(await fetch(store, worker_id)) == [3]

    async def test_sleeping_locks_up_to_a_limit(self, store):
        worker_id, claims = await claim(store, *[a_job(lock=lock) for lock in "zyxzyx"])
        await finish(store, worker_id, claims)
        assert await store.ask(locks.FindSleepingLocks(limit=2)) == ["x", "y"]


class TestTime:
    async def test_stage_what_is_due(self, store):
        await defer(store, a_job(scheduled_at=FUTURE, queue="a"), a_job(scheduled_at=FUTURE, queue="b"))
        early = await store.ask(schedule.StageJobs(limit=5))
        assert (early.count, early.queues) == (0, [])
        assert early.next_due_in > 3600
        store.change_job(2, scheduled_at=PAST)
        assert (await store.ask(schedule.StageJobs(limit=5))).queues == ["b"]
        store.change_job(1, scheduled_at=PAST)
        staged = await store.ask(schedule.StageJobs(limit=5))
        assert staged == schedule.Staged(queues=["a"], count=1, next_due_in=None)

    async def test_stage_up_to_a_limit_and_the_earliest_first(self, store):
        await defer(store, a_job(scheduled_at=FUTURE), a_job(scheduled_at=FUTURE))
        store.change_job(1, scheduled_at=PAST + datetime.timedelta(days=1))
        store.change_job(2, scheduled_at=PAST)
        assert (await store.ask(schedule.StageJobs(limit=1))).count == 1
        assert [store.job(1)["waits_for"], store.job(2)["waits_for"]] == ["time", None]

    async def test_a_tick_is_deferred_once(self, store):
        async def tick(at, **values):
            job = a_job(**values)
            return await store.ask(schedule.DeferPeriodicJob(job=job, periodic_id="p", defer_timestamp=at))

        assert [await tick(at) for at in (10, 10, 5, 20, 10)] == [1, None, None, 2, None]
        assert await tick(30, task_name="other", scheduled_at=FUTURE) == 3
        assert store.job(3)["scheduled_at"] is None

    async def test_a_tick_whose_queueing_lock_is_taken_stays_open(self, store):
        operation = schedule.DeferPeriodicJob(job=a_job(queueing_lock="one"), periodic_id="", defer_timestamp=1)
        await defer(store, a_job(queueing_lock="one"))
        with pytest.raises(exceptions.AlreadyEnqueued):
            await store.ask(operation)
        await cancel(store, 1, delete=True)
        assert await store.ask(operation) is not None

    async def test_a_chore_is_taken_once_in_an_interval(self, store):
        async def take(**intervals):
            return await store.ask(schedule.TakeChores(intervals=intervals))

        assert await take(sweep=60) == {"sweep"}
        assert await take(sweep=60) == set()
        assert await take(sweep=60, prune=60) == {"prune"}
        assert await take(prune=60, rescue=60, sweep=-1) == {"rescue", "sweep"}
        assert await take() == set()


class TestWorkers:
    async def test_ids_grow(self, store):
        assert [await store.worker(), await store.worker()] == [1, 2]

    async def test_a_job_loses_a_worker_that_leaves(self, store):
        worker_id, _ = await claim(store)
        await store.ask(workers.UnregisterWorker(worker_id=worker_id))
        (stalled,) = await store.ask(jobs.GetStalledJobs(queue=None, task_name=None, seconds_since_heartbeat=60))
        assert stalled.worker_id is None

    async def test_prune_and_revive(self, store):
        silent, alive = await store.worker(), await store.worker()
        store.set_heartbeat(silent, PAST)
        assert await store.ask(workers.PruneStalledWorkers(seconds_since_heartbeat=60)) == [silent]
        assert (await store.ask(workers.UpdateHeartbeat(worker_id=alive))).was_known
        assert not (await store.ask(workers.UpdateHeartbeat(worker_id=silent))).was_known
        assert not (await store.ask(workers.UpdateHeartbeat(worker_id=silent, revive=True))).was_known
        assert (await store.ask(workers.UpdateHeartbeat(worker_id=silent))).was_known

    async def test_a_beat_tells_the_place_among_those_who_serve_a_queue_of_its_own(self, store):
        async def register(*queues: str) -> int:
            return await store.ask(workers.RegisterWorker(queues=queues or None))

        mails, both, other, all_queues = (
            await register("mails"),
            await register("mails", "bills"),
            await register("other"),
            await register(),
        )

        async def beat(worker_id: int, *queues: str) -> tuple[int, int]:
            answer = await store.ask(workers.UpdateHeartbeat(worker_id=worker_id, queues=queues or None))
            return answer.place, answer.workers

        assert await beat(mails, "mails") == (0, 3)
        assert await beat(both, "mails", "bills") == (1, 3)
        assert await beat(other, "other") == (0, 2)
        assert await beat(all_queues) == (3, 4)

    async def test_a_beat_counts(self, store):
        worker_id = await store.worker()
        store.set_heartbeat(worker_id, PAST)
        await store.ask(workers.UpdateHeartbeat(worker_id=worker_id))
        assert await store.ask(workers.PruneStalledWorkers(seconds_since_heartbeat=60)) == []

    async def test_rescue(self, store):
        worker_id, claims = await claim(store, a_job(lock="x"))
        assert await rescue(store) == []
        store.set_heartbeat(worker_id, PAST)
        expected = workers.Rescued(job_id=1, task_name="t", queue="q", status="todo", lock="x", worker_id=worker_id)
        assert await rescue(store) == [expected]
        assert store.job(1)["attempts"] == 0
        assert await finish(store, worker_id, claims) == {}
        assert store.events(1) == ["deferred", "started", "deferred_for_retry"]

    async def test_a_job_that_kills_its_workers_fails(self, store):
        worker_id = await store.worker()
        await defer(store)
        for status in ("todo", "failed"):
            await store.ask(workers.UpdateHeartbeat(worker_id=worker_id))
            await fetch(store, worker_id)
            store.set_heartbeat(worker_id, PAST)
            assert [rescued.status for rescued in await rescue(store, max_rescues=1)] == [status]
        assert store.events(1) == ["deferred", "started", "deferred_for_retry", "started", "failed"]

    async def test_a_rescued_job_does_not_run_again_if_it_was_aborted(self, store):
        worker_id, _ = await claim(store)
        await cancel(store, 1, abort=True)
        store.set_heartbeat(worker_id, PAST)
        assert [rescued.status for rescued in await rescue(store)] == ["aborted"]

    async def test_stalled_by_the_time_of_the_run(self, store):
        await claim(store, a_job(), a_job(queue="r"), a_job(task_name="u"))
        store.change_job(2, attempted_at=PAST)
        conditions = {"queue": None, "task_name": None, "seconds_since_heartbeat": 0, "nb_seconds": 60}
        assert [job.id for job in await store.ask(jobs.GetStalledJobs(**conditions))] == [2]
        assert await store.ask(jobs.GetStalledJobs(**{**conditions, "queue": "q"})) == []


class TestReading:
    async def test_list(self, store):
        await defer(store, a_job(), a_job(queue="r", lock="x"), a_job(queue="r", task_name="u", queueing_lock="y"))

        async def found(**conditions):
            return [job.id for job in await store.ask(jobs.ListJobs(**conditions))]

        assert await found() == [1, 2, 3]
        assert await found(queue="r") == [2, 3]
        assert await found(queue="r", task="u", status="todo") == [3]
        assert [await found(lock="x"), await found(queueing_lock="y"), await found(id=1)] == [[2], [3], [1]]
        assert await found(worker_id=1) == []

    async def test_an_unknown_status_is_refused(self, store):
        with pytest.raises(exceptions.InvalidData):
            await store.ask(jobs.ListJobs(status="unheard of"))

    async def test_count(self, store):
        await claim(store, a_job(lock="x"), a_job(lock="x"), a_job(queue="B"))
        zero = {"todo": 0, "doing": 0, "succeeded": 0, "failed": 0, "cancelled": 0, "aborted": 0}
        assert await store.ask(jobs.CountJobs(by="queue")) == [
            {"name": "B", "jobs_count": 1, **zero, "doing": 1},
            {"name": "q", "jobs_count": 2, **zero, "todo": 1, "doing": 1},
        ]
        by_lock = await store.ask(jobs.CountJobs(by="lock", status="todo"))
        assert by_lock == [{"name": "x", "jobs_count": 1, **zero, "todo": 1}]
        assert [line["name"] for line in await store.ask(jobs.CountJobs(by="task", queue="B"))] == ["t"]

    async def test_delete_old_jobs_window_by_window(self, store):
        worker_id, claims = await claim(store, a_job(), a_job(queue="r"), a_job(), a_job())
        await finish(store, worker_id, claims[:3])
        for job_id in (1, 2):
            store.change_job(job_id, finalized_at=PAST)

        async def delete(after, window, queue=None):
            return await store.ask(
                jobs.DeleteOldJobs(nb_hours=1, queue=queue, statuses=["succeeded"], after=after, window=window)
            )

        assert await delete(0, 3, queue="r") == jobs.OldJobsDeleted(count=1, last_id=3)
        assert await delete(0, 2) == jobs.OldJobsDeleted(count=1, last_id=3)
        assert await delete(3, 2) == jobs.OldJobsDeleted(count=0, last_id=4)
        assert await delete(4, 2) == jobs.OldJobsDeleted(count=0, last_id=None)

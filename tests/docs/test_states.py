"""The table of states tells the truth: what random operations do to jobs is what it says, and all of it."""

import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from model.test_model import COMMON, FUTURE, JOBS, PAST, Stores, outcome
from procrastinate.jobs import Status
from procrastinate.states import ENDED, TRANSITIONS, WAITING, State
from procrastinate.store import jobs

FINAL_STATUSES = [Status.SUCCEEDED, Status.FAILED, Status.ABORTED]


class Observed(Stores):
    """Notes every change of a job's state, and the operation that made it."""

    seen: set[tuple[str, State, State]]

    def ask(self, operation):
        before = self.states()
        answer = outcome(lambda: self.memory.answer(operation))
        after = self.states()
        for job_id in before.keys() | after.keys():
            way = before.get(job_id, State.ABSENT), after.get(job_id, State.ABSENT)
            if way[0] is not way[1]:
                assert way in TRANSITIONS[operation.name], (operation, way)
                self.seen.add((operation.name, *way))
        return answer

    # The changes by hand, spread over all states: random ids hit the rare ones too seldom.

    @rule(state=st.sampled_from(State), statuses=st.permutations([*FINAL_STATUSES, None]))
    def finish_in(self, state, statuses):
        for job_id, status in zip(self.all_in(state), statuses, strict=False):
            changes = {"status": status or Status.FAILED, "delete": status is None}
            self.ask(jobs.FinishJob(job_id=job_id, **changes))

    @rule(state=st.sampled_from(State), ways=st.permutations([True, False]))
    def cancel_in(self, state, ways):
        for job_id, delete in zip(self.all_in(state), ways, strict=False):
            self.ask(jobs.CancelJob(job_id=job_id, abort=True, delete=delete))

    @rule(state=st.sampled_from(State), times=st.permutations([PAST, FUTURE]))
    def retry_in(self, state, times):
        for job_id, retry_at in zip(self.all_in(state), times, strict=False):
            self.ask(jobs.RetryJob(job_id=job_id, retry_at=retry_at, priority=None, queue=None, lock=None))

    @rule(state=st.sampled_from(State))
    def run_now_in(self, state):
        for job_id in self.all_in(state)[:1]:
            self.ask(jobs.RunJobNow(job_id=job_id))

    @rule(state=st.sampled_from(ENDED))
    def delete_old_in(self, state):
        self.ask(jobs.DeleteOldJobs(nb_hours=-1, queue=None, statuses=[state.status.value], after=0, window=1000))

    @rule(retry_at=st.sampled_from([PAST, FUTURE]))
    def retry_what_runs(self, retry_at):
        for claim, worker_id in self.claims[-3:]:
            verdict = jobs.Verdict(claim=claim, status=Status.TODO, retry_at=retry_at)
            self.ask(jobs.RetryJobs(verdicts=[verdict], worker_id=worker_id))

    @rule(job=JOBS)
    def form_a_line(self, job):
        self.ask(jobs.DeferJobs(jobs=[job.evolve(lock="x", queueing_lock=None, scheduled_at=None)] * 5))
        self.fetch([job.queue], 0, 6, 1)

    def all_in(self, state):
        return [job_id for job_id, each in self.states().items() if each is state]

    def states(self):
        return {job_id: State.of(row) for job_id, row in self.memory.jobs.items()}


@pytest.mark.timeout(300)  # Seconds on a machine of its own.
def test_the_table_says_what_happens_and_nothing_else():
    Observed.seen = set()
    expected = {(operation, *way) for operation, ways in TRANSITIONS.items() for way in ways}
    rare = settings(**COMMON | {"derandomize": False}, max_examples=100, stateful_step_count=60)
    for number in range(30):  # A few do; how many is Hypothesis' affair.
        run_state_machine_as_test(seed(number)(Observed), settings=rare)
        if expected == Observed.seen:
            break
    assert Observed.seen == expected


def test_every_state_is_one_of_waiting_running_ended_or_absent():
    assert {*WAITING, State.DOING, *ENDED, State.ABSENT} == set(State)

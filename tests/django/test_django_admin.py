"""The admin, as a browser without scripts sees it."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from sample_site.shop import tasks

from procrastinate import jobs
from procrastinate.contrib.django import admin as our_admin
from procrastinate.contrib.django import admin_actions, admin_display
from procrastinate.contrib.django.models import ProcrastinateJob

LIST = "admin:procrastinate_procrastinatejob_changelist"


@pytest.fixture
def superuser(db):
    return User.objects.create_superuser("root")


@pytest.fixture
def client(superuser):
    client = Client()
    client.force_login(superuser)
    return client


def staff(*permissions):
    """A client that may look at jobs, and do what the permissions say."""
    user = User.objects.create_user("clerk", is_staff=True)
    names = [f"{name}_procrastinatejob" for name in ("view", *permissions)]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(user)
    return client


def listed(client, **query):
    """The ids of the jobs on the list."""
    page = client.get(reverse(LIST, query=query))
    assert page.status_code == 200, page
    return [int(job_id) for job_id in re.findall(r'name="_selected_action" value="(\d+)"', page.text)]


def act(client, name, *job_ids, **more):
    """Choose an action for jobs; return the messages that follow."""
    data = {"action": name, "_selected_action": job_ids, **more}
    page = client.post(reverse(LIST), data, follow=True)
    assert page.status_code == 200
    return messages(page)


def messages(page):
    return [
        re.sub(r"\s+", " ", text).strip()
        for text in re.findall(r'<li class="(?:success|warning)">(.*?)</li>', page.text, re.DOTALL)
    ]


def status(job_id):
    return ProcrastinateJob.objects.get(id=job_id).status


@pytest.fixture
def some_jobs(db, app, work):
    """A job of each kind, by what it is."""
    found = {
        "failed": tasks.divide.defer(a=1, b=0),
        "succeeded": tasks.divide.defer(a=1, b=2),
        "aborted": tasks.abort_itself.defer(),
    }
    work()
    found |= {
        "ready": tasks.ship.configure(lock="the lock").defer(name="ready"),
        "scheduled": tasks.ship.configure(schedule_in={"hours": 2}, priority=4, queueing_lock="one").defer(
            name="later"
        ),
        "doing": tasks.ship.defer(name="doing"),
    }
    worker = app.connector.execute_query_one("insert into procrastinate_workers (name) values ('w') returning id")["id"]
    app.connector.execute_query(
        "update procrastinate_jobs set status = 'doing', worker_id = %(w)s, attempted_at = now() where id = %(id)s",
        w=worker,
        id=found["doing"],
    )
    found["worker"] = worker
    return found


def test_the_list(client, some_jobs):
    page = client.get(reverse(LIST)).text
    assert "<span title='sample_site.shop.tasks.divide'>s.s.t.divide</span>" in page
    assert "❌ Failed" in page
    assert "ZeroDivisionError: division by zero" in page
    assert "priority 4" in page
    assert "scheduled <time" in page
    assert "the lock" in page
    assert sorted((job_id for kind, job_id in some_jobs.items() if kind != "worker"), reverse=True) == listed(client)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("ready", {"ready"}),
        ("scheduled", {"scheduled"}),
        ("blocked", set()),
        ("todo", {"ready", "scheduled"}),
        ("doing", {"doing"}),
        ("failed", {"failed"}),
        ("nonsense", {"failed", "succeeded", "aborted", "ready", "scheduled", "doing"}),
    ],
)
def test_filter_by_state(client, some_jobs, state, expected):
    assert set(listed(client, state=state)) == {some_jobs[name] for name in expected}


def test_other_filters(client, some_jobs):
    assert set(listed(client, queue_name="sums")) == {some_jobs["failed"], some_jobs["succeeded"]}
    assert set(listed(client, task_name="sample_site.shop.tasks.abort_itself")) == {some_jobs["aborted"]}
    assert listed(client, priority=4) == [some_jobs["scheduled"]]
    assert listed(client, worker_id=some_jobs["worker"]) == [some_jobs["doing"]]
    assert listed(client, lock="the lock") == [some_jobs["ready"]]
    assert listed(client, queueing_lock="one") == [some_jobs["scheduled"]]
    page = client.get(reverse(LIST)).text
    for query in ("queue_name=sums", "task_name=sample_site.shop.tasks.ship", "priority=4", "created_at__gte="):
        assert query in page


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("divide", {"failed", "succeeded"}),
        ("DIVIDE b=0", {"failed"}),
        ("b=0", {"failed"}),
        ('{"a": 1, "b": 2}', {"succeeded"}),
        ("the", {"ready"}),
        ('"the lock"', {"ready"}),
        ("one", {"scheduled"}),
        ("name=later", {"scheduled"}),
        ("later", {"scheduled"}),
        ("name=x.y=z", set()),
        ("nothing-fits", set()),
        ("99999999999999999999999", set()),
        ("a=1 abort", set()),
    ],
)
def test_search(client, some_jobs, text, expected):
    assert set(listed(client, q=text)) == {some_jobs[name] for name in expected}


def test_search_by_id(client, some_jobs):
    assert some_jobs["ready"] in listed(client, q=str(some_jobs["ready"]))
    assert listed(client, q=f"#{some_jobs['ready']}") == [some_jobs["ready"]]
    assert listed(client, q="#99999999999999999999999") == []


def test_search_in_nested_arguments(client, app):
    app.configure_task("t", task_kwargs={"address": {"city": "Köln"}}).defer()
    app.configure_task("t", task_kwargs={"address": {"city": "Bonn"}}).defer()
    assert len(listed(client, q="address.city=Köln")) == 1


def test_the_page_of_a_failed_job(client, some_jobs):
    page = client.get(reverse("admin:procrastinate_procrastinatejob_change", args=[some_jobs["failed"]])).text
    assert "Attempt 1: deferred for retry" in page
    assert "Attempt 2: failed" in page
    assert "return a / b" in page
    assert 'id="procrastinate-retry"' in page
    assert 'id="procrastinate-cancel"' not in page


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("succeeded", "Attempt 1: succeeded"),
        ("aborted", "Attempt 1: aborted"),
        ("doing", "Attempt 1: running"),
        ("ready", "Ready to run"),
        ("scheduled", "Scheduled"),
    ],
)
def test_the_pages_of_other_jobs(client, some_jobs, kind, text):
    page = client.get(reverse("admin:procrastinate_procrastinatejob_change", args=[some_jobs[kind]])).text
    assert f"<strong>{text}</strong>" in page


def test_retry(client, some_jobs):
    assert act(client, "retry", some_jobs["failed"], some_jobs["succeeded"], some_jobs["doing"]) == [
        "1 job was put back to wait.",
        "2 jobs were left as they were: only failed jobs can be retried; abort first what still runs.",
    ]
    job = ProcrastinateJob.objects.get(id=some_jobs["failed"])
    assert (job.status, job.priority, job.queue_name) == ("todo", 3, "sums")
    assert status(some_jobs["doing"]) == "doing"
    assert LogEntry.objects.get().object_id == str(some_jobs["failed"])


def test_retry_of_a_job_whose_queueing_lock_is_taken(client, work):
    job_id = tasks.divide.configure(queueing_lock="q").defer(a=1, b=0)
    work()
    tasks.divide.configure(queueing_lock="q").defer(a=1, b=1)
    assert act(client, "retry", job_id) == [
        "1 job was left as it was: another job with the same queueing lock is waiting."
    ]


def test_cancel(client, some_jobs):
    assert act(client, "cancel", some_jobs["ready"], some_jobs["scheduled"], some_jobs["doing"]) == [
        "2 jobs were cancelled.",
        "1 job was left as it was: only waiting jobs can be cancelled.",
    ]
    assert status(some_jobs["ready"]) == "cancelled"


def test_abort(client, some_jobs):
    assert act(client, "abort", some_jobs["ready"], some_jobs["doing"]) == [
        "2 jobs were cancelled, or asked to stop if running."
    ]
    assert status(some_jobs["ready"]) == "cancelled"
    assert ProcrastinateJob.objects.get(id=some_jobs["doing"]).abort_requested


def test_run_now(client, some_jobs, work):
    assert act(client, "run_now", some_jobs["scheduled"], some_jobs["ready"]) == [
        "1 job was made ready to run.",
        "1 job was left as it was: only jobs that are scheduled for later can be run now.",
    ]
    work()
    assert status(some_jobs["scheduled"]) == "succeeded"


def test_all_that_were_found(client, some_jobs, monkeypatch):
    monkeypatch.setattr(admin_actions, "MOST", 1)
    found = act(client, "cancel", some_jobs["ready"], select_across=1)
    assert found[0] == "1 job was cancelled."
    assert found[-1] == "These were the first 1: do it again for the rest."
    assert found[1].startswith("More than 1 job")


@pytest.mark.parametrize("name", [action.name for action in admin_actions.ACTIONS])
def test_each_action_has_a_permission_of_its_own(some_jobs, name):
    client = staff(name)
    page = client.get(reverse(LIST)).text
    offered = set(re.findall(r'<option value="(\w+)">', page))
    assert offered & {action.name for action in admin_actions.ACTIONS} == {name}
    for other in admin_actions.ACTIONS:
        before = status(some_jobs["failed"])
        code = client.post(reverse(f"admin:procrastinate_{other.name}", args=[some_jobs["failed"]])).status_code
        assert code == (302 if other.name == name else 403)
        if other.name != name:
            assert status(some_jobs["failed"]) == before


def test_looking_is_all_that_a_viewer_may_do(some_jobs):
    client = staff()
    assert 'name="action"' not in client.get(reverse(LIST)).text
    page = client.get(reverse("admin:procrastinate_procrastinatejob_change", args=[some_jobs["failed"]])).text
    assert "procrastinate-action" not in page
    assert client.get(reverse("admin:procrastinate_procrastinatejob_add")).status_code == 403
    assert client.get(reverse("admin:procrastinate_procrastinateworker_changelist")).status_code == 403


def test_who_may_see_nothing(some_jobs):
    User.objects.create_user("clerk", is_staff=True)
    client = Client()
    client.force_login(User.objects.get(username="clerk"))
    for url in (reverse(LIST), reverse("admin:procrastinate_queues")):
        assert client.get(url).status_code == 403


def test_the_buttons_of_a_page(client, some_jobs):
    url = reverse("admin:procrastinate_retry", args=[some_jobs["failed"]])
    assert client.get(url).status_code == 302
    assert status(some_jobs["failed"]) == "failed"
    page = client.post(url, follow=True)
    assert messages(page) == ["1 job was put back to wait."]
    assert page.redirect_chain[0][0] == reverse(
        "admin:procrastinate_procrastinatejob_change", args=[some_jobs["failed"]]
    )
    assert client.post(reverse("admin:procrastinate_retry", args=[987654])).status_code == 404


def test_queues(client, some_jobs):
    page = client.get(reverse("admin:procrastinate_queues")).text
    assert '?queue_name=sums&amp;state=failed">1</a>' in page
    assert '?queue_name=default&amp;state=ready">1</a>' in page
    assert '?queue_name=default&amp;state=doing">1</a>' in page


def test_workers(client, some_jobs, app):
    url = reverse("admin:procrastinate_procrastinateworker_changelist")
    page = client.get(url).text
    assert "💚 Alive" in page
    assert f'worker_id={some_jobs["worker"]}&amp;state=doing">1</a>' in page
    app.connector.execute_query("update procrastinate_workers set last_heartbeat = now() - interval '5 minutes'")
    assert "💀 Silent" in client.get(url).text
    page = client.get(reverse("admin:procrastinate_procrastinateworker_change", args=[some_jobs["worker"]]))
    assert page.status_code == 200


def test_an_admin_site_of_ones_own(client, some_jobs):
    jobs = "/office/procrastinate/procrastinatejob/"
    workers = "/office/procrastinate/procrastinateworker/"
    for url in (jobs, f"{jobs}{some_jobs['ready']}/change/", f"{jobs}queues/", workers):
        page = client.get(url).text
        assert jobs in page
        assert '"/admin/' not in page
    answer = client.post(f"{jobs}{some_jobs['ready']}/cancel/")
    assert answer.url == f"{jobs}{some_jobs['ready']}/change/"


def test_nothing_counts_or_sorts_the_whole_table(client, app, monkeypatch):
    app.connector.execute_query(
        "insert into procrastinate_jobs (queue_name, task_name) select 'q', 't' from generate_series(1, 12000);"
        "analyze procrastinate_jobs"
    )
    with CaptureQueriesContext(
        connection,
    ) as queries:
        page = client.get(reverse(LIST)).text
    assert "There are about 12000 jobs: these are the 10000 newest" in page
    reading = [query["sql"] for query in queries if '"procrastinate_jobs"' in query["sql"]]
    assert reading
    assert all(" LIMIT " in text for text in reading)
    assert client.get(reverse(LIST, query={"p": 200})).status_code == 200


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("a.bc.task", "a.b.task"),
        ("nodot", "nodot"),
        ("a..b", "a..b"),
        (".x", ".x"),
        ("a:b.c", "a.c"),
        ("<i>.f", "&lt;.f"),
    ],
)
def test_short_names(name, short):
    assert f">{short}</span>" in admin_display.task_name(name)


def test_arguments():
    assert admin_display.arguments({"a": 1}) == '<pre class="procrastinate-args">{&quot;a&quot;: 1}</pre>'
    assert "\n" in admin_display.arguments({"a": 1, "b": 2})
    assert "\n" in admin_display.arguments({"a": "x" * 30})
    assert admin_display.arguments({"a": "x" * 3000}).endswith("...</pre>")
    assert "x" * 3000 in admin_display.arguments({"a": "x" * 3000}, longest=None)
    assert "&lt;script&gt;" in admin_display.arguments({"a": "<script>"})
    assert admin_display.arguments([1, None]) == '<pre class="procrastinate-args">[1, null]</pre>'


def test_every_status_has_an_emoji():
    assert set(our_admin.JOB_STATUS_EMOJI_MAPPING) == {status.value for status in jobs.Status}

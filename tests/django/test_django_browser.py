"""The admin in a real browser. `PROCRASTINATE_SCREENSHOTS` names a folder for pictures of its pages."""

import os
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.test import Client
from django.test.testcases import LiveServerThread
from headless_browser import Browser, find_browser
from sample_site.shop import tasks

from procrastinate.contrib.django.models import ProcrastinateJob

BROWSER = find_browser()
SCREENSHOTS = os.environ.get("PROCRASTINATE_SCREENSHOTS")

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: apt install chromium-headless-shell")


class Handler(StaticFilesHandler):
    """Serves the pages and, without DEBUG, their style."""

    def __init__(self):
        super().__init__(WSGIHandler())

    def serve(self, request):
        from django.contrib.staticfiles.views import serve  # noqa: PLC0415  needs the apps

        return serve(request, self.file_path(request.path), insecure=True)


class Server(LiveServerThread):
    """Serves in a thread, whose connections it closes at the end."""

    def run(self):
        try:
            super().run()
        finally:
            connections.close_all()


@pytest.fixture
def site(db):
    """The address of the running site."""
    server = Server("127.0.0.1", lambda _: Handler())
    server.daemon = True
    server.start()
    server.is_ready.wait()
    assert server.error is None
    yield f"http://127.0.0.1:{server.port}"
    server.terminate()


@pytest.fixture
def browser(site, tmp_path):
    """A browser in which a superuser is logged in."""
    browser = Browser(BROWSER, tmp_path)
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    browser.call("Network.setCookie", name="sessionid", value=client.cookies["sessionid"].value, url=site)
    yield browser
    browser.close()


def picture(browser, name):
    if SCREENSHOTS:
        browser.screenshot(Path(SCREENSHOTS) / f"{name}.png")


def test_jobs_are_retried_and_cancelled_by_clicking(site, browser, work, app):
    failed = tasks.divide.defer(a=1, b=0)
    tasks.divide.defer(a=1, b=2)
    tasks.abort_itself.configure(lock="shop", priority=3).defer()
    work()
    waiting = tasks.ship.configure(lock="customer/12").defer(name="a long name for an order of many things")
    later = tasks.ship.configure(schedule_in={"hours": 3}, queueing_lock="nightly").defer(name="later")
    jobs = f"{site}/admin/procrastinate/procrastinatejob/"

    browser.open(jobs)
    assert "ZeroDivisionError: division by zero" in browser.text()
    picture(browser, "list")
    browser.open(f"{jobs}{failed}/change/")
    assert "Attempt 2: failed" in browser.text()
    picture(browser, "failed")
    browser.click("#procrastinate-retry", opens_page=True)
    assert "1 job was put back to wait." in browser.text(".messagelist")
    assert ProcrastinateJob.objects.get(id=failed).status == "todo"
    picture(browser, "retried")

    browser.open(f"{jobs}{waiting}/change/")
    browser.click("#procrastinate-cancel", opens_page=True)
    assert "1 job was cancelled." in browser.text(".messagelist")
    assert ProcrastinateJob.objects.get(id=waiting).status == "cancelled"

    # The same from the list, with the check boxes.
    browser.open(jobs)
    browser.click(f"input[name=_selected_action][value='{later}']")
    browser.evaluate("document.querySelector('select[name=action]').value = 'run_now'")
    browser.click(".actions button[name=index]", opens_page=True)
    assert "1 job was made ready to run." in browser.text(".messagelist")
    assert ProcrastinateJob.objects.get(id=later).waits_for is None
    picture(browser, "hastened")

    app.connector.execute_query("insert into procrastinate_workers (name) values ('a'), ('b')")
    app.connector.execute_query(
        "update procrastinate_workers set last_heartbeat = now() - interval '4 minutes' where name = 'b'"
    )
    browser.open(f"{jobs}queues/")
    assert "sums" in browser.text()
    picture(browser, "queues")
    browser.open(f"{site}/admin/procrastinate/procrastinateworker/")
    assert "Silent" in browser.text()
    picture(browser, "workers")

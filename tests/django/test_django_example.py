"""The example project: its own tests, and the whole of it, started by its one command."""

import http.cookiejar
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from procrastinate.fresh_databases import new_database

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "django"


def environment(**values):
    return {**{name: text for name, text in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}, **values}


def test_its_own_tests(postgres_server):
    with new_database(postgres_server) as conninfo:
        done = subprocess.run(
            [sys.executable, "manage.py", "test", "--verbosity", "0"],
            cwd=EXAMPLE,
            env=environment(DATABASE_URL=conninfo),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stderr


@pytest.fixture
def shop(postgres_server):
    """The address of the running shop, and its process."""
    with new_database(postgres_server) as conninfo:
        yield from running_shop(conninfo)


def running_shop(conninfo):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "start.py", "--port", port],
        cwd=EXAMPLE,
        env=environment(DATABASE_URL=conninfo),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield f"http://127.0.0.1:{port}/", process
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_an_order_is_confirmed(shop):
    address, process = shop
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def page(**form):
        data = urllib.parse.urlencode(form).encode() if form else None
        with opener.open(address, data, timeout=10) as answer:
            return answer.read().decode()

    while True:
        try:
            token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page())[1]
            break
        except urllib.error.URLError:
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
    page(csrfmiddlewaretoken=token, book="The Cloud of Unknowing", customer="Ada")
    while "succeeded" not in (text := page()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    assert "<td>The Cloud of Unknowing</td>" in text
    with opener.open(f"{address}admin/login/", timeout=10) as answer:
        assert answer.status == 200

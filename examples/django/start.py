#!/usr/bin/env python
"""Start everything: the tables, a worker and the site, on a private PostgreSQL that is gone at the end.

Where DATABASE_URL names a database, that one is used, and kept. Ctrl-C ends all.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from django.core.management import CommandError, call_command

import django
from procrastinate.embedded import FAST_SETTINGS, PostgresServer

HERE = Path(__file__).parent


def main() -> None:
    """Run until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", default="8000", help="where the site is served")
    port = parser.parse_args().port
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), database():
        prepare()
        with started("procrastinate", "worker", "--name", "bookshop", "--concurrency", "4"):
            sys.stdout.write(
                f"\nThe shop is at http://127.0.0.1:{port}/ and the admin (user admin, password admin) at "
                f"http://127.0.0.1:{port}/admin/. Ctrl-C ends it.\n\n"
            )
            sys.stdout.flush()
            with started("runserver", "--noreload", port) as site:
                site.wait()


@contextlib.contextmanager
def database() -> Iterator[None]:
    """Have a database until the end of the block."""
    if "DATABASE_URL" in os.environ:
        yield
        return
    with PostgresServer(settings=FAST_SETTINGS) as server:
        os.environ["DATABASE_URL"] = server.conninfo
        yield


def prepare() -> None:
    """Make the tables, and a user for the admin."""
    os.environ |= {"DJANGO_SETTINGS_MODULE": "bookshop.settings", "DJANGO_SUPERUSER_PASSWORD": "admin"}
    django.setup()
    call_command("migrate", verbosity=0)
    with contextlib.suppress(CommandError):  # the user is there already
        call_command("createsuperuser", interactive=False, username="admin", email="admin@example.org", verbosity=0)


@contextlib.contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of Django's until the end of the block."""
    # In a group of its own: Ctrl-C reaches this process only, which ends the others in order.
    process = subprocess.Popen([sys.executable, str(HERE / "manage.py"), *words], start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()

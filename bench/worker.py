"""One worker process that drains the queue and says how long its operations took, as JSON on standard output."""

from __future__ import annotations

import cProfile
import json
import logging
import os
import resource
import sys

import attrs

os.environ.setdefault("BENCH_CALLS", os.devnull)

from bench import app as application


def main(concurrency: str, path: str = "") -> None:
    """Drain the queue, under a profile if there is a path for it."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    profile = cProfile.Profile() if path else None
    if profile is not None:
        profile.enable()
    application.app.run_worker(wait=False, concurrency=int(concurrency), name="bench")
    if profile is not None:
        profile.disable()
        profile.dump_stats(path)
    connector = application.connector
    assert isinstance(connector, application.TimedConnector)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result = {
        "seconds": connector.last_end - connector.first_fetch,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "calls": {name: attrs.asdict(calls) for name, calls in connector.calls.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])

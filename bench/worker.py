"""One worker process that drains the queue and says how long it took, as JSON on standard output."""

from __future__ import annotations

import argparse
import cProfile
import json
import logging
import resource
import sys

import attrs

from bench import app as application


def main() -> None:
    """Drain the queue."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--delete-jobs", choices=["never", "always"], required=True)
    parser.add_argument("--profile")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    profile = cProfile.Profile() if arguments.profile else None
    if profile is not None:
        profile.enable()
    application.app.run_worker(
        wait=False, concurrency=arguments.concurrency, delete_jobs=arguments.delete_jobs, name="bench"
    )
    if profile is not None:
        profile.disable()
        profile.dump_stats(arguments.profile)
    connector = application.connector
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result = {
        "seconds": connector.last_end - connector.first_fetch,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "calls": {name: attrs.asdict(calls) for name, calls in connector.calls.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

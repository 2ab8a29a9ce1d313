"""Starts the shop: `python -m examples.flask`."""

from __future__ import annotations

import argparse
import sys

from examples import launcher

parser = argparse.ArgumentParser(prog="python -m examples.flask", description="A shop with jobs, on Flask.")
parser.add_argument("--port", default="5000", help="where the page is (default: %(default)s; 0 for any that is free)")
arguments = parser.parse_args()

flask = ["flask", "--app", "examples.flask.shop"]
worker = ["procrastinate", "--app", "examples.flask.shop.jobs", "worker"]

sys.exit(launcher.launch([*flask, "create-tables"], [*flask, "run", "--port", arguments.port], worker))

"""Starts the shop: `python -m examples.fastapi`, or with `--separate-worker`."""

from __future__ import annotations

import argparse
import os
import sys

from examples import launcher

parser = argparse.ArgumentParser(prog="python -m examples.fastapi", description="A shop with jobs, on FastAPI.")
parser.add_argument("--port", default="8000", help="where the page is (default: %(default)s; 0 for any that is free)")
parser.add_argument("--separate-worker", action="store_true", help="run the worker as a process of its own")
arguments = parser.parse_args()

services = [["uvicorn", "examples.fastapi.shop:app", "--port", arguments.port, "--no-access-log"]]
if arguments.separate_worker:
    os.environ["SHOP_WORKER"] = "separate"
    services.append(["procrastinate", "--app", "examples.fastapi.shop.jobs", "worker"])

sys.exit(launcher.launch(["examples.fastapi.create_tables"], *services))

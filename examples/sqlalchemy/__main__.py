"""Runs the shop on a database: `python -m examples.sqlalchemy`."""

from __future__ import annotations

import sys

from examples import launcher

sys.exit(launcher.launch(["examples.sqlalchemy.script"]))

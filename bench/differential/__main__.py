"""The differential check: one program of tasks under version 3.10.0 of the other project, and under ours.

`python -m bench.differential` installs the other implementation from the package index into an environment of its own
(below .cache, kept for the next time), gives each of both a fresh database of one embedded PostgreSQL, lets both run
`program.py`, and compares what they saw and what the tables say at the end. It is only run, never read.

Exit code 0: they agree but for the differences in `intended.py`. 1: they do not. 2: the other implementation cannot be
installed here, so nothing was compared. `--all` also prints the intended differences, `--raw` the whole of both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.differential.intended import INTENDED
from procrastinate.fresh_databases import new_database, running_server

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OTHER = "procrastinate==3.10.0"
ENVIRONMENT = ROOT / ".cache" / f"differential-{OTHER.replace('==', '-')}"
MISSING = object()


def other_python() -> Path | None:
    """Return the interpreter that has the other implementation; None, and say why, if there is none."""
    python = ENVIRONMENT / "bin" / "python"
    mark = ENVIRONMENT / "installed"
    if not mark.exists():
        print(f"Installing {OTHER} into {ENVIRONMENT} …", file=sys.stderr)
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", OTHER, "psycopg[binary]"]
        result = subprocess.run(install, capture_output=True, text=True, check=False)
        if result.returncode:
            print(f"{OTHER} cannot be installed here; nothing was compared.\n{result.stderr}", file=sys.stderr)
            return None
        mark.touch()
    return python


def run_program(python: Path | str, conninfo: str) -> dict[str, Any]:
    """Run the program, with the implementation that this interpreter has."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    command = [python, HERE / "program.py", conninfo]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=HERE, env=environment, timeout=600
    )
    if result.returncode:
        sys.exit(f"The program failed under {python}:\n{result.stderr}")
    return json.loads(result.stdout)


def flat(report: dict[str, Any]) -> dict[str, Any]:
    """Return what can be compared, by path; jobs by their labels.

    The order of runs is compared within a job. Among jobs only the step `priorities` promises one: a retried job comes
    after those that a worker holds already, and how many it holds is not for others to know.
    """
    facts: dict[str, Any] = {}
    for name, step in report["steps"].items():
        runs = [line[1:] for line in step["seen"] if line[0] == "ran"]
        facts[f"seen/{name}"] = [line for line in step["seen"] if line[0] != "ran"]
        for label, *details in runs:
            facts.setdefault(f"runs/{label}", []).append(details)
        if name == "priorities":
            facts["order"] = [label for label, *_ in runs]
    for row in report["rows"]:
        for column, value in row.items():
            facts[f"rows/{row['label']}/{column}"] = value
    for label, events in report["events"].items():
        facts[f"events/{label}"] = events
    facts["periodic_defers"] = report["periodic_defers"]
    for flags, labels in report["kept"].items():
        facts[f"kept/{flags}"] = labels
    return facts


def differences(theirs: dict[str, Any], ours: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Give what differs: the path, what they say, what we say."""
    for path in sorted(theirs.keys() | ours.keys()):
        pair = theirs.get(path, MISSING), ours.get(path, MISSING)
        if pair[0] == pair[1]:
            continue
        if isinstance(pair[0], list) and isinstance(pair[1], list) and path.startswith("seen/"):
            # Line by line, as far as both go.
            for number in range(max(map(len, pair))):
                lines = [side[number] if number < len(side) else MISSING for side in pair]
                if lines[0] != lines[1]:
                    yield f"{path}/{number}", *lines
        else:
            yield path, *pair


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.differential", description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="print the intended differences too")
    parser.add_argument("--raw", action="store_true", help="print all that both said, as JSON")
    arguments = parser.parse_args()
    python = other_python()
    if python is None:
        return 2
    with running_server() as server:
        with new_database(server) as conninfo:
            theirs = run_program(python, conninfo)
        with new_database(server) as conninfo:
            ours = run_program(sys.executable, conninfo)
    if arguments.raw:
        print(json.dumps({"theirs": theirs, "ours": ours}, indent=2))
    facts = flat(theirs), flat(ours)
    found = list(differences(*facts))
    reasons = [next((rule for rule in INTENDED if rule.covers(*difference)), None) for difference in found]
    for (path, their, our), rule in zip(found, reasons, strict=True):
        if rule is None or arguments.all:
            print(
                f"{'DIFFERENCE' if rule is None else 'intended'} {path}\n  theirs: {show(their)}\n  ours:   {show(our)}"
            )
        if rule is not None and arguments.all:
            print(f"  {rule.reason}")
    needless = [rule for rule in INTENDED if rule not in reasons]
    for rule in needless:
        print(f"NO LONGER {rule.pattern}: it does not differ like this any more; take it out of intended.py")
    unintended = reasons.count(None)
    print(
        f"{len(facts[1])} facts on {len(ours['rows'])} jobs compared: {len(found) - unintended} intended differences, "
        f"{unintended} others."
    )
    return int(bool(unintended or needless))


def show(value: Any) -> str:
    return "nothing" if value is MISSING else json.dumps(value)


if __name__ == "__main__":
    sys.exit(main())

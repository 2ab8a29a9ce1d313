"""The tables of the documentation are complete, and name nothing that is not there."""

import inspect
import re
from pathlib import Path

import attrs
import click
from page_runner import ROOT

from procrastinate.cli import cli
from procrastinate.tasks import ConfigureTaskOptions, Task
from procrastinate.worker.settings import WorkerSettings

GUIDES = ROOT / "docs" / "guides"
SOURCES = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
# How the source names an action.
ACTION = re.compile(
    r'"action": "(\w+)"|\baction = "(\w+)"|log_extra\("(\w+)"|_log_jobs\(logging\.\w+, "(\w+)"|return "(job_\w+)", '
)


def first_column(page: Path, heading: str) -> list[str]:
    """Return the names in code style in the first column of the table that follows a heading."""
    text = page.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    rows = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert rows
    return [name for row in rows[0].splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def test_log_actions() -> None:
    documented = first_column(GUIDES / "logging.md", "Actions")
    used = {name for match in ACTION.finditer(SOURCES) for name in match.groups() if name}
    assert len(used) > 30
    assert used <= set(documented)
    assert [name for name in documented if f'"{name}"' not in SOURCES] == []
    assert len(documented) == len(set(documented))


def test_worker_options() -> None:
    assert set(first_column(GUIDES / "workers.md", "Options")) == set(attrs.fields_dict(WorkerSettings))


def test_task_options() -> None:
    documented = set(first_column(GUIDES / "tasks.md", "Options"))
    taken = set(inspect.signature(Task.__init__).parameters) - {"self", "func", "blueprint"}
    assert documented == taken


def test_settings_of_jobs() -> None:
    documented = first_column(GUIDES / "deferring.md", "Settings for some jobs")
    assert set(documented) == set(ConfigureTaskOptions.__annotations__)


def test_variables_of_the_command_line() -> None:
    text = (GUIDES / "command-line.md").read_text(encoding="utf-8")
    documented: set[str] = set()
    for row in re.findall(r"^\| (`PROCRASTINATE_.*?) \|", text, re.MULTILINE):
        prefix = ""
        for name in re.findall(r"`(\S+)`", row):
            # `…_NAME` shortens the beginning of the name before it.
            prefix = prefix or re.sub(r"(PROCRASTINATE_(WORKER_|DEFER_)?).*", r"\1", name)
            documented.add(name.replace("…_", prefix))
    commands = {name: cli.get_command(click.Context(cli), name) for name in ("worker", "defer")}
    for name, command in {"": cli, **commands}.items():
        assert command is not None
        variables = {each for option in command.params for each in _variables(option)}
        assert variables <= documented, name


def _variables(option: click.Parameter) -> list[str]:
    return [option.envvar] if isinstance(option.envvar, str) else list(option.envvar or [])

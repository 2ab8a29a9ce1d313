"""Runs the code blocks of a page: in order, in one module, on one database, in one folder."""

from __future__ import annotations

import ast
import asyncio
import builtins
import configparser
import contextlib
import inspect
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
import tomllib
import types
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode

import click.testing
import psycopg
import pytest
import yaml
from blocks import Block, Command, check_shown, commands_of
from psycopg.conninfo import conninfo_to_dict

from procrastinate import App, exceptions
from procrastinate.cli import cli

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
LIMIT = 60
# The module that the samples of a page make up, and what stands in it before the first one.
MODULE = "shop.tasks"
PREAMBLE = """
import asyncio
import datetime
import os

import procrastinate
from procrastinate import exceptions

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ["DATABASE_URL"], min_size=1, max_size=3)
)
"""
SIGNALS = {"": signal.SIGTERM, "-9": signal.SIGKILL, "-INT": signal.SIGINT}
DOCKER_INSTRUCTIONS = {"FROM", "RUN", "COPY", "WORKDIR", "ENV", "USER", "CMD", "ENTRYPOINT", "EXPOSE", "STOPSIGNAL"}


class PageRunner:
    """One page."""

    def __init__(self, page: Path, folder: Path, dsn: str, patch: pytest.MonkeyPatch) -> None:
        self.page, self.folder, self.dsn, self.patch = page, folder, url(dsn), patch
        self.module = types.ModuleType(MODULE)
        self.names = self.module.__dict__
        self.processes: list[Background] = []
        self.opened: list[App] = []
        # What the block before wrote, for a block that shows it.
        self.output = ""
        package = types.ModuleType(MODULE.split(".", maxsplit=1)[0])
        package.__path__ = []
        patch.setitem(sys.modules, package.__name__, package)
        patch.setitem(sys.modules, MODULE, self.module)
        patch.setenv("DATABASE_URL", self.dsn)
        patch.setenv("PROCRASTINATE_APP", f"{MODULE}.app")
        patch.setenv("PATH", f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("COLUMNS", "200")
        patch.chdir(folder)
        exec(PREAMBLE, self.names)

    def run(self, block: Block) -> None:
        """Run a block. Raises AssertionError, or the block's own error."""
        if block.file is not None:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        try:
            runner = RUNNERS[block.language]
        except KeyError:
            raise AssertionError(f"nothing runs blocks of the language {block.language!r}") from None
        if block.raises is None:
            runner(self, block)
            return
        expected = getattr(exceptions, block.raises, None) or getattr(builtins, block.raises)
        with pytest.raises(expected):
            runner(self, block)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        for app in [*self.opened, *(value for value in self.names.values() if isinstance(value, App))]:
            app.close()

    # One method for each language.

    def python(self, block: Block) -> None:
        if block.file is not None:
            compile(block.text, block.file, "exec")
            return
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile("\n" * (block.line - 1) + block.text, str(self.page), "exec", flags, dont_inherit=True)
        app = self.names["app"]
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            if code.co_flags & inspect.CO_COROUTINE:
                asyncio.run(self._in_open_app(app, code))
            else:
                self.opened.append(app.open())
                exec(code, self.names)
        self.output = stdout.getvalue()

    async def _in_open_app(self, app: App, code: types.CodeType) -> None:
        is_sync_only = contextlib.suppress(exceptions.SyncConnectorConfigurationError)
        with is_sync_only:
            await app.open_async()
        try:
            await eval(code, self.names)
        finally:
            with is_sync_only:
                await app.close_async()

    def sql(self, block: Block) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(block.text.encode())

    def console(self, block: Block) -> None:
        for command in commands_of(block):
            self._run_command(command)

    def text(self, block: Block) -> None:
        """Compare with what the block before wrote; if that wrote nothing, the text is just a text."""
        if self.output:
            check_shown(block.text.splitlines(), self.output)
            self.output = ""

    def dockerfile(self, block: Block) -> None:
        for line in block.text.replace("\\\n", "").splitlines():
            assert not line or line.startswith("#") or line.split()[0] in DOCKER_INSTRUCTIONS, line

    def ini(self, block: Block) -> None:
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment]
        parser.read_string(block.text)
        assert parser.sections()

    # Commands.

    def _run_command(self, command: Command) -> None:
        text = command.text.replace("$(procrastinate postgres start)", self.dsn)
        words = shlex.split(re.sub(r"\$\{?(\w+)\}?", lambda match: os.environ[match[1]], text))
        match words:
            case ["export", assignment]:
                name, _, value = assignment.partition("=")
                self.patch.setenv(name, value)
            case ["pip", "install", *packages]:
                self._check_install(packages)
            case ["kill", *options, job]:
                self._job(job).process.send_signal(SIGNALS[" ".join(options)])
            case ["wait", job]:
                check_shown(command.shown, self._job(job).end())
            case [*words, "&"]:
                process = Background(words, self.folder)
                self.processes.append(process)
                process.wait_for([line for line in command.shown if not re.match(r"\[\d+\] ", line)])
            case ["procrastinate", *arguments] if not (self.folder / "tasks.py").exists():
                self._invoke(arguments, command.shown)
            case _:
                self._run_process(words, command.shown)

    def _job(self, name: str) -> Background:
        return self.processes[int(name.removeprefix("%")) - 1]

    def _invoke(self, arguments: list[str], shown: list[str]) -> None:
        """Run `procrastinate …` in this process, which is much faster; workers end when there is nothing left."""
        variables = {"PROCRASTINATE_WORKER_WAIT": "0"}
        result = click.testing.CliRunner().invoke(cli, arguments, env=variables, prog_name="procrastinate")
        assert result.exit_code == 0, (arguments, result.output, result.exception)
        check_shown(shown, result.output)

    def _run_process(self, words: list[str], shown: list[str]) -> None:
        done = subprocess.run(
            words,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}"
        check_shown(shown, done.stdout)

    def _check_install(self, packages: list[str]) -> None:
        for package in packages:
            name, _, extras = package.rstrip("]").partition("[")
            assert name in {".", "procrastinate"}, package
            assert set(filter(None, extras.split(","))) <= set(EXTRAS), package


def url(conninfo: str) -> str:
    """Return the same database as a URL, which every driver reads."""
    settings = conninfo_to_dict(conninfo)
    user, name = settings.pop("user", ""), settings.pop("dbname", "")
    return f"postgresql://{quote(str(user))}@/{quote(str(name))}?{urlencode(settings)}"


class Background:
    """A process that goes on while the page does."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self.path = folder / f"output-{time.monotonic_ns()}"
        with self.path.open("w") as output:
            self.process = subprocess.Popen(
                words, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True
            )

    def wait_for(self, shown: list[str]) -> None:
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                check_shown(shown, self.path.read_text())
            except AssertionError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)
            else:
                return

    def end(self) -> str:
        self.process.wait(LIMIT)
        return self.path.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


RUNNERS: dict[str, Callable[[PageRunner, Block], object]] = {
    "python": PageRunner.python,
    "console": PageRunner.console,
    "sql": PageRunner.sql,
    "plpgsql": PageRunner.sql,
    "text": PageRunner.text,
    "dockerfile": PageRunner.dockerfile,
    "ini": PageRunner.ini,
    "toml": lambda _, block: tomllib.loads(block.text),
    "json": lambda _, block: json.loads(block.text),
    "yaml": lambda _, block: list(yaml.safe_load_all(block.text)),
    "rst": lambda _, block: None,  # a file that a command reads
}

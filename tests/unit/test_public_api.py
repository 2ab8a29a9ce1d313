"""What `import procrastinate` gives."""

import importlib
import subprocess
import sys

import pytest

import procrastinate
from procrastinate import exceptions

MODULES = [
    "app",
    "blueprints",
    "builtin_tasks",
    "cli",
    "connector",
    "exceptions",
    "job_context",
    "jobs",
    "manager",
    "middleware",
    "periodic",
    "psycopg_connector",
    "retry",
    "schema",
    "signals",
    "sync_psycopg_connector",
    "tasks",
    "testing",
    "types",
    "worker",
]


def test_public_names():
    assert set(procrastinate.__all__) == {
        "App",
        "BaseConnector",
        "BaseRetryStrategy",
        "Blueprint",
        "Job",
        "JobContext",
        "PsycopgConnector",
        "RetryDecision",
        "RetryStrategy",
        "SyncPsycopgConnector",
    }
    for name in procrastinate.__all__:
        assert getattr(procrastinate, name).__name__ == name
        assert name in dir(procrastinate)


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_there_without_an_import_of_their_own(name):
    assert getattr(procrastinate, name) is importlib.import_module(f"procrastinate.{name}")


@pytest.mark.parametrize("name", ["nothing", "_nothing", "__nothing__"])
def test_unknown_name(name):
    with pytest.raises(AttributeError, match=name):
        getattr(procrastinate, name)


def test_metadata():
    assert procrastinate.__version__[0].isdigit()
    for name in ("__author__", "__author_email__", "__license__", "__url__"):
        assert isinstance(getattr(procrastinate, name), str)


@pytest.fixture
def without_drivers(monkeypatch):
    """An installation without the extras of the contrib connectors."""
    for name in ("aiopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, f"procrastinate.contrib.{name}", None)
    for name in ("AiopgConnector", "Psycopg2Connector"):
        monkeypatch.delitem(vars(procrastinate), name, raising=False)
    yield
    for name in ("AiopgConnector", "Psycopg2Connector"):
        vars(procrastinate).pop(name, None)


CONTRIB = [("AiopgConnector", "aiopg"), ("Psycopg2Connector", "psycopg2")]


@pytest.mark.parametrize(("name", "module"), CONTRIB)
def test_moved_names(without_drivers, name, module):
    text = f"procrastinate.{name} has been moved to procrastinate.contrib.{module}.{name}"
    placeholder = getattr(procrastinate, name)
    with pytest.raises(exceptions.MovedElsewhere) as raised:
        placeholder(dsn="")
    assert str(raised.value) == text
    with pytest.raises(exceptions.MovedElsewhere, match=text):
        placeholder.anything  # noqa: B018  the access is the point


@pytest.mark.parametrize(("name", "module"), CONTRIB)
def test_moved_names_with_their_drivers(name, module):
    contrib = pytest.importorskip(f"procrastinate.contrib.{module}")
    assert getattr(procrastinate, name) is getattr(contrib, name)


def test_importing_loads_no_driver():
    code = "import sys, procrastinate, procrastinate.app; print([name for name in sys.modules if 'psycopg' in name])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_errors_have_one_root_and_a_text():
    found = [each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert len(found) > 20
    for each in found:
        assert issubclass(each, exceptions.ProcrastinateException)
        assert each.__doc__
    assert str(exceptions.AppNotOpen()).startswith("The app is not open")
    assert issubclass(exceptions.LoadFromPathError, ImportError)
    assert not issubclass(exceptions.AlreadyEnqueued, exceptions.ConnectorException)

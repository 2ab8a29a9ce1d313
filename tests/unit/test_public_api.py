"""What `import procrastinate` gives."""

import enum
import importlib
import inspect
import subprocess
import sys
import types
import typing

import attrs
import pytest
from public_api import ATTRIBUTES, PUBLIC_API

import procrastinate
from procrastinate import exceptions

MODULES = [name.removeprefix("procrastinate.") for name in PUBLIC_API if name.count(".") == 1]


def found(module, name):
    """Return what a name in a module leads to; a property as itself."""
    value = importlib.import_module(module)
    for part in name.split("."):
        static = inspect.getattr_static(value, part) if isinstance(value, type) else None
        value = static if isinstance(static, property) else getattr(value, part)
    return value


def description(value):
    """Return what the table of the public API says of a value."""
    if isinstance(value, property):
        return "property"
    if typing.is_typeddict(value) or hasattr(value, "__total__"):
        return f"keys {', '.join(value.__annotations__)}"
    if isinstance(value, type) and value is not typing.Any and not isinstance(value, types.GenericAlias):
        return description_of_class(value)
    if inspect.isroutine(value):
        return ("async " if inspect.iscoroutinefunction(value) else "") + signature(value)
    if isinstance(value, str | int | float):
        return repr(value)
    is_type = value is typing.Any or typing.get_origin(value) is not None or isinstance(value, types.UnionType)
    return "type" if is_type else type(value).__name__.removeprefix("Posix")


def description_of_class(value):
    if issubclass(value, enum.Enum):
        return f"enum {', '.join(each.value for each in value)}"
    if getattr(value, "_is_protocol", False):
        return f"protocol {signature(value.__call__)}"
    if issubclass(value, Exception):
        return f"error {', '.join(base.__name__ for base in value.__bases__)} {signature(value)}"
    return f"class {signature(value)}"


def signature(function):
    parameters = []
    for each in inspect.signature(function).parameters.values():
        default = each.default
        if default is attrs.NOTHING:
            default = {}
        elif inspect.isroutine(default) or (isinstance(default, type) and default is not each.empty):
            default = _Word(default.__name__)
        parameters.append(each.replace(annotation=each.empty, default=default))
    if parameters and parameters[0].name == "self":
        del parameters[0]
    return str(inspect.Signature(parameters))


class _Word(str):
    __slots__ = ()
    __repr__ = str.__str__


@pytest.mark.parametrize("module", PUBLIC_API)
def test_public_api(module):
    values = {name: found(module, name) for name in PUBLIC_API[module]}
    assert {
        name: type(value).__name__ if PUBLIC_API[module][name] == "str" else description(value)
        for name, value in values.items()
    } == PUBLIC_API[module]


@pytest.mark.parametrize("module", PUBLIC_API)
def test_public_api_is_explained(module):
    values = {name: found(module, name) for name in PUBLIC_API[module]}
    assert importlib.import_module(module).__doc__
    assert [
        name
        for name, value in values.items()
        if isinstance(value, type | property) or inspect.isroutine(value)
        if not inspect.getdoc(value)
    ] == []


@pytest.fixture
def samples(app):
    task = app.task(name="t")(lambda: None)
    deferrer = task.configure()
    decision = procrastinate.RetryDecision()
    each = [
        app,
        procrastinate.Blueprint(),
        task,
        deferrer,
        deferrer.job,
        procrastinate.JobContext(app=app, job=deferrer.job, start_timestamp=0, abort_reason=lambda: None),
        procrastinate.job_context.JobResult(start_timestamp=0),
        app.job_manager,
        decision,
        procrastinate.RetryStrategy(),
        app.periodic_registry,
        procrastinate.periodic.PeriodicTask(task, "* * * * *", "", {}),
        procrastinate.BaseConnector(),
        exceptions.JobRetry(decision),
        exceptions.UniqueViolation(constraint_name=None, queueing_lock=None),
        app.schema_manager,
        app.connector,
    ]
    return {type(sample).__name__: sample for sample in each}


def test_attributes(samples):
    assert samples.keys() == ATTRIBUTES.keys()
    for name, attributes in ATTRIBUTES.items():
        missing = [attribute for attribute in attributes.split() if not hasattr(samples[name], attribute)]
        assert not missing, name


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


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        ("procrastinate.app", ["psycopg", "psycopg_pool", "croniter", "dateutil", "click"]),
        ("procrastinate.cli", ["psycopg", "psycopg_pool", "croniter", "dateutil", "asyncio", "rich"]),
    ],
)
def test_importing_loads_nothing_heavy_that_may_not_be_needed(program, unwanted):
    code = f"import sys, {program}; print(set({unwanted}) & sys.modules.keys() or 'nothing')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "nothing"


def test_errors_have_one_root_and_a_text():
    found = [each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert len(found) > 20
    for each in found:
        assert issubclass(each, exceptions.ProcrastinateException)
        assert each.__doc__
    assert str(exceptions.AppNotOpen()).startswith("The app is not open")
    assert issubclass(exceptions.LoadFromPathError, ImportError)
    assert not issubclass(exceptions.AlreadyEnqueued, exceptions.ConnectorException)

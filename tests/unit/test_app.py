"""The app: loading, tasks by name, connectors, builtin tasks."""

import asyncio
import contextlib
import gc
import logging

import pytest

from procrastinate import App, JobContext, PsycopgConnector, SyncPsycopgConnector, builtin_tasks, exceptions
from procrastinate.jobs import Status
from procrastinate.testing import InMemoryConnector

CLEANUP = "builtin:procrastinate.builtin_tasks.remove_old_jobs"


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Write modules that can be imported."""

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)

    monkeypatch.syspath_prepend(tmp_path)
    return write


def test_connector_is_required():
    with pytest.raises(TypeError, match="connector"):
        App()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"connector": InMemoryConnector}, r"connector=InMemoryConnector\(…\)"),
        ({"import_paths": "tasks"}, r"import_paths=\['tasks'\]"),
        ({"worker_default": {}}, "worker_default"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(TypeError, match=message):
        App(**{"connector": InMemoryConnector(), **settings})


def test_settings_are_kept_by_reference():
    workers, periodic = {"concurrency": 1}, {"max_delay": 1.0}
    app = App(connector=InMemoryConnector(), worker_defaults=workers, periodic_defaults=periodic)
    assert app.worker_defaults is workers
    assert app.periodic_defaults is periodic


def test_settings_without_anything(app):
    assert (app.import_paths, app.worker_defaults, app.periodic_defaults) == ([], {}, {})


# Loading


def test_from_path(modules):
    modules(
        "good_app",
        "import procrastinate, procrastinate.testing\n"
        "app = procrastinate.App(connector=procrastinate.testing.InMemoryConnector())",
    )
    assert isinstance(App.from_path("good_app.app"), App)
    with pytest.raises(exceptions.LoadFromPathError, match=r"good_app\.other was not found"):
        App.from_path("good_app.other")
    with pytest.raises(exceptions.LoadFromPathError, match=r"good_app\.__doc__ is not of type App but NoneType"):
        App.from_path("good_app.__doc__")


@pytest.mark.parametrize(("path", "message"), [("app", "app is not a valid path"), ("no_module.app", "no_module")])
def test_from_path_that_leads_nowhere(path, message):
    with pytest.raises(exceptions.LoadFromPathError, match=message):
        App.from_path(path)


@pytest.mark.parametrize(
    ("text", "error"), [("import no_such_module", ImportError), ("{}['SETTING']", KeyError), ("a.b", NameError)]
)
def test_from_path_of_a_broken_module(modules, request, text, error):
    name = f"broken_{error.__name__}"
    modules(name, text)
    with pytest.raises(exceptions.LoadFromPathError, match=f"{name} could not be imported") as raised:
        App.from_path(f"{name}.app")
    assert isinstance(raised.value.__cause__, error)
    assert str(raised.value.__cause__) in str(raised.value)


def test_import_paths_are_imported_once_and_again_after_a_failure(modules):
    app = App(connector=InMemoryConnector(), import_paths=["tasks_for_import"])
    with pytest.raises(ModuleNotFoundError):
        app.perform_import_paths()
    modules("tasks_for_import", "")
    app.perform_import_paths()
    app.import_paths.append("no_such_module")
    app.perform_import_paths()


def test_log_records_of_imports(modules, caplog):
    caplog.set_level(logging.DEBUG, "procrastinate")
    modules("tasks_to_log", "")
    app = App(connector=InMemoryConnector(), import_paths=["tasks_to_log"])
    app.perform_import_paths()
    records = {record.action: record for record in caplog.records if hasattr(record, "action")}
    assert records["import_module"].module_name == "tasks_to_log"
    assert records["imported_tasks"].tasks == list(app.tasks)


def test_paths_are_imported_before_a_task_is_looked_up(modules):
    modules("tasks_by_name", "from app_by_name import app\n@app.task(name='late', queue='q')\ndef late(): pass\n")
    modules(
        "app_by_name",
        "import procrastinate, procrastinate.testing\n"
        "app = procrastinate.App(\n"
        "    connector=procrastinate.testing.InMemoryConnector(), import_paths=['tasks_by_name']\n"
        ")\n",
    )
    assert App.from_path("app_by_name.app").configure_task("late", allow_unknown=False).job.queue == "q"


# Tasks by name


def test_known_task_by_name(app):
    app.task(name="run", aliases=["walk"], queue="q")(lambda: None)
    job = app.configure_task("walk", priority=1).make_new_job()
    assert (job.task_name, job.queue, job.priority) == ("run", "q", 1)


def test_unknown_task_by_name(app):
    job = app.configure_task("elsewhere").make_new_job(a=1)
    assert (job.task_name, job.queue, job.task_kwargs) == ("elsewhere", "default", {"a": 1})
    app.task(name="run")(lambda: None)
    with pytest.raises(exceptions.TaskNotFound, match=r"'rum'.*did you mean 'run'") as raised:
        app.configure_task("rum", allow_unknown=False)
    assert isinstance(raised.value.__cause__, KeyError)


# Connectors


@pytest.mark.parametrize("connector", [PsycopgConnector, SyncPsycopgConnector])
def test_deferring_before_the_app_is_open(connector):
    with pytest.raises(exceptions.AppNotOpen, match=r"with app\.open"):
        App(connector=connector()).task(name="run")(lambda: None).defer()


def test_opening(app):
    connector = app.connector
    with app.open() as opened:
        assert opened is app

    async def use():
        async with app.open_async() as opened:
            assert opened is app
        assert await app.open_async() is app
        await app.close_async()

    asyncio.run(use())
    assert connector.states == ["open", "closed", "open_async", "closed_async", "open_async", "closed_async"]


def test_nothing_is_opened_until_it_is_awaited(app):
    app.open_async()
    assert app.connector.states == []


def test_replacing_the_connector(app):
    before, other = app.connector, InMemoryConnector()
    with contextlib.suppress(ZeroDivisionError), app.replace_connector(other) as same:
        assert same is app
        assert app.connector is app.job_manager.connector is other
        raise ZeroDivisionError
    assert app.connector is app.job_manager.connector is before


def test_replacing_the_connector_again(app):
    before, first, second = app.connector, InMemoryConnector(), InMemoryConnector()
    task = app.task(name="run")(lambda: None)
    with app.replace_connector(first):
        task.defer()
        with app.replace_connector(second):
            task.defer()
            task.defer()
        assert app.connector is app.job_manager.connector is first
        task.defer()
    assert app.connector is app.job_manager.connector is before
    assert (len(before.jobs), len(first.jobs), len(second.jobs)) == (0, 2, 2)


def test_context_manager_does_not_open(app):
    with app as same:
        assert same is app
    assert app.connector.states == ["closed"]


def test_managers(app):
    assert app.job_manager.connector is app.connector
    assert app.schema_manager is not app.schema_manager
    assert app.schema_manager.connector is app.connector


async def test_worker_of_its_own_loop_on_a_running_loop(app):
    with pytest.raises(RuntimeError, match=r"await app\.run_worker_async"):
        app.run_worker()
    assert app.connector.states == []


@pytest.mark.parametrize(("given", "used"), [({}, ["default"]), ({"queues": ["other"]}, ["other"])])
def test_options_of_the_call_win(app, given, used):
    app.worker_defaults.update(queues=["default"], wait=False, install_signal_handlers=False)
    ran = []
    for queue in ("default", "other"):
        app.task(name=queue, queue=queue)(lambda queue=queue: ran.append(queue)).defer()
    app.run_worker(**given)
    assert ran == used
    assert app.connector.states == ["open_async", "closed_async"]


def test_another_app_with_the_same_tasks(app):
    task = app.task(name="run")(lambda: None)
    latest = builtin_tasks.remove_old_jobs.blueprint
    other = app.with_connector(InMemoryConnector())
    assert other.tasks is app.tasks
    assert other.periodic_registry is app.periodic_registry
    assert builtin_tasks.remove_old_jobs.blueprint is latest
    other.configure_task("run").defer()
    assert (len(other.connector.jobs), len(app.connector.jobs)) == (1, 0)
    task.defer()
    assert (len(other.connector.jobs), len(app.connector.jobs)) == (1, 1)


def test_check_connection(app):
    assert app.check_connection()
    assert asyncio.run(app.check_connection_async())
    app.connector.table_exists = False
    assert not app.check_connection()


def test_unknown_worker_option(app):
    with pytest.raises(TypeError, match="concurency"):
        app.run_worker(concurency=1)


# Builtin tasks


@pytest.mark.parametrize(
    "name",
    [
        CLEANUP,
        "procrastinate.builtin_tasks.remove_old_jobs",
        "procrastinate_builtin_tasks.remove_old_jobs",
        "builtin:procrastinate.builtin.remove_old_jobs",
    ],
)
def test_names_of_the_cleanup(app, name):
    job = app.configure_task(name, allow_unknown=False).make_new_job(max_hours=1)
    assert (job.task_name, job.queue) == (CLEANUP, "builtin")


def test_each_app_keeps_its_builtin_tasks(app):
    other = App(connector=InMemoryConnector())
    for each in (app, other):
        assert each.tasks[CLEANUP].blueprint is each
        each.tasks[CLEANUP].defer(max_hours=1)
        assert [row["task_name"] for row in each.connector.jobs.values()] == [CLEANUP]


def test_the_modules_task_defers_through_the_latest_app(app):
    other = App(connector=InMemoryConnector())
    builtin_tasks.remove_old_jobs.defer(max_hours=72)
    builtin_tasks.remove_old_jobs.configure(queueing_lock="cleanup").defer(max_hours=72)
    assert (len(other.connector.jobs), len(app.connector.jobs)) == (2, 0)
    assert other.connector.jobs[2]["task_name"] == CLEANUP


def test_earlier_apps_are_let_go():
    def count():
        gc.collect()
        return sum(isinstance(each, App) for each in gc.get_objects())

    before = count()
    for _ in range(3):
        App(connector=InMemoryConnector())
    assert count() <= before + 1


def test_the_cleanup_needs_its_age(app):
    with pytest.raises(TypeError, match="max_hours"):
        builtin_tasks.remove_old_jobs.defer()


def test_the_cleanup_may_be_made_periodic(app):
    @app.periodic(cron="0 4 * * *")
    @app.task(name="nightly", pass_context=True)
    async def nightly(context, timestamp):
        await builtin_tasks.remove_old_jobs(context, max_hours=0, remove_failed=True)

    done = app.task(name="done")(lambda: None)
    done.defer()
    done.defer()
    done.defer()
    App(connector=InMemoryConnector())  # the context's app counts, not the latest one
    jobs = app.job_manager
    asyncio.run(jobs.finish_job_by_id_async(1, Status.SUCCEEDED, delete_job=False))
    asyncio.run(jobs.finish_job_by_id_async(2, Status.FAILED, delete_job=False))
    context = JobContext(app=app, job=jobs.list_jobs(id=3)[0], start_timestamp=0, abort_reason=lambda: None)
    asyncio.run(nightly(context, timestamp=0))
    assert [job.id for job in jobs.list_jobs()] == [3]

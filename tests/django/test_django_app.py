"""The app, before and after Django is ready; its settings and its workers."""

import asyncio

import pytest
from django.apps import apps as django_apps
from django.core.exceptions import ImproperlyConfigured
from sample_site import ready
from sample_site.shop import tasks
from sample_site.shop.models import Order

import procrastinate
import procrastinate.contrib.django
from procrastinate import testing
from procrastinate.contrib.django import apps, db_cleanup, exceptions, procrastinate_app, utils
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.contrib.django.settings import settings as our_settings


@pytest.fixture
def future():
    return procrastinate_app.FutureApp()


@pytest.mark.parametrize(
    "name",
    [
        "check_connection",
        "check_connection_async",
        "close",
        "close_async",
        "configure_task",
        "open",
        "open_async",
        "perform_import_paths",
        "run_worker",
        "run_worker_async",
        "with_connector",
        "replace_connector",
        "will_configure_task",
    ],
)
def test_what_needs_django_says_so(future, name):
    with pytest.raises(exceptions.DjangoNotReady, match=rf"^Cannot call procrastinate.contrib.app.{name}\(\) before"):
        getattr(future, name)()


def test_values_and_blocks_say_so_too(future):
    for name in ("job_manager", "schema_manager", "connector", "worker_defaults"):
        with pytest.raises(exceptions.DjangoNotReady, match=name):
            getattr(future, name)
    with pytest.raises(exceptions.DjangoNotReady), future:
        pass
    with pytest.raises(AttributeError):
        future.nonsense  # noqa: B018


def test_tasks_are_taken_from_the_start(future):
    @future.periodic(cron="* * * * *")
    @future.task(aliases=["another"])
    def task(timestamp):
        return timestamp

    future.add_task_alias(task, "third")
    assert task(timestamp=1) == 1
    with pytest.raises(exceptions.DjangoNotReady):
        task.defer(timestamp=1)

    app = procrastinate_app.create_app(future)
    assert {task.name, "another", "third"} <= app.tasks.keys()
    with app.replace_connector(testing.InMemoryConnector()):
        task.defer(timestamp=1)


def test_the_real_app_has_what_was_discovered(app):
    assert isinstance(app, procrastinate_app.DjangoApp)
    assert {"sample_site.shop.tasks.ship", "sample_site.shop.tasks.divide"} <= app.tasks.keys()
    assert ("sample_site.shop.tasks.yearly", "") in app.periodic_registry.periodic_tasks
    assert app.import_paths == ["sample_site.more_tasks"]
    app.perform_import_paths()
    assert "sample_site.more_tasks.listed" in app.tasks
    assert ready.apps_seen[0] is app


def test_the_proxy_stands_for_the_app(app):
    proxy = procrastinate.contrib.django.app
    assert not isinstance(proxy, procrastinate.App)
    assert repr(proxy) == repr(app)
    assert proxy.tasks is app.tasks
    assert tasks.ship.blueprint is app
    before = app.periodic_defaults
    proxy.periodic_defaults = {"max_delay": 1}
    assert app.periodic_defaults == {"max_delay": 1}
    proxy.periodic_defaults = before


def test_the_config_gives_the_app(app):
    config = django_apps.get_app_config("procrastinate")
    assert isinstance(config, apps.ProcrastinateConfig)
    assert repr(config.app) == repr(app)
    config.ready()
    assert procrastinate_app.current_app is app


def test_settings_are_read_at_each_access(settings):
    assert our_settings.DATABASE_ALIAS == "default"
    settings(
        PROCRASTINATE_DATABASE_ALIAS="other",
        PROCRASTINATE_WORKER_DEFAULTS={"concurrency": 3},
        PROCRASTINATE_LOG_ARGS=False,
    )
    assert our_settings.DATABASE_ALIAS == "other"
    app = procrastinate_app.create_app(procrastinate.Blueprint())
    assert isinstance(app.connector, DjangoConnector)
    assert (app.connector.alias, app.worker_defaults["concurrency"]) == ("other", 3)
    assert not app.logs_args_of("any")


def test_discovery_can_be_turned_off(settings):
    settings(PROCRASTINATE_AUTODISCOVER_MODULE_NAME=None, PROCRASTINATE_IMPORT_PATHS=["a.b"])
    assert list(procrastinate_app.get_import_paths()) == ["a.b"]


def test_clean_up_comes_first_and_the_given_options_stay_as_they_are():
    def own(call_next, context, worker):
        return call_next()

    given = {"task_middleware": [own], "concurrency": 2}
    app = procrastinate_app.DjangoApp(connector=testing.InMemoryConnector(), worker_defaults=given)
    assert app.worker_defaults == {
        "task_middleware": [db_cleanup.close_db_connections, db_cleanup.close_db_connections_async, own],
        "concurrency": 2,
    }
    assert given == {"task_middleware": [own], "concurrency": 2}
    assert db_cleanup.with_db_cleanup(app.worker_defaults) == app.worker_defaults


@pytest.mark.parametrize("passes_own", [False, True])
@pytest.mark.parametrize("task", [tasks.ship, tasks.ship_async])
def test_connections_are_closed_after_each_task(db, work, task, passes_own):
    seen = []

    def own(call_next, context, worker):
        seen.append(context.job.id)
        return call_next()

    async def own_async(call_next, context, worker):
        seen.append(context.job.id)
        return await call_next()

    tasks.connections_seen.clear()
    job_id = task.defer(name="x")
    work(**({"task_middleware": [own, own_async]} if passes_own else {}))
    assert Order.objects.get().name == "x"
    [connection] = tasks.connections_seen
    assert connection.closed
    assert seen == ([job_id] if passes_own else [])


def test_a_worker_runs_on_a_connector_of_its_own(db, app, work):
    tasks.divide.defer(a=1, b=0)
    own = app.connector
    work()
    assert app.connector is own
    job = ProcrastinateJob.objects.get()
    assert (job.status, job.attempts) == ("failed", 2)


def test_a_worker_runs_where_the_connector_was_replaced_by_hand(db, app):
    tasks.ship.defer(name="x")
    with app.replace_connector(app.connector.get_worker_connector()):
        tasks.ship.defer(name="y")
        app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False)
    assert Order.objects.count() == 2


def test_a_worker_that_listens_hears_of_jobs(db, app):
    async def hear():
        worker = asyncio.create_task(app.run_worker_async(install_signal_handlers=False))
        async with asyncio.timeout(20):
            for name in ("a", "b"):
                await tasks.ship_async.defer_async(name=name)
                while not await Order.objects.filter(name=name).aexists():
                    await asyncio.sleep(0.02)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    asyncio.run(hear())


def test_what_a_task_defers_joins_its_transaction(db, work):
    tasks.defer_and_roll_back.defer()
    work()
    assert ProcrastinateJob.objects.values_list("status", flat=True).get() == "succeeded"


def test_a_plain_app_on_djangos_connection_says_what_it_needs(db, app):
    plain = procrastinate.App(connector=app.connector)
    with pytest.raises(exceptions.NoWorkerConnector, match="get_worker_connector"):
        plain.run_worker(wait=True, install_signal_handlers=False)


def test_unit_tests_need_no_database(app):
    memory = testing.InMemoryConnector()
    with app.replace_connector(memory):
        tasks.divide.defer(a=1, b=2)
        app.run_worker(wait=False, install_signal_handlers=False)
    assert memory.jobs[1]["status"] == "succeeded"


def test_what_is_installed():
    assert utils.package_is_installed("psycopg")
    assert not utils.package_is_installed("no_such_package")
    assert utils.package_is_version("psycopg", 3)
    assert not utils.package_is_version("psycopg", 2)
    assert not utils.package_is_version("no-such-distribution", 1)


def test_neither_driver_for_workers(monkeypatch, app):
    monkeypatch.setattr("procrastinate.contrib.django.django_connector.package_is_installed", lambda name: False)
    with pytest.raises(ImproperlyConfigured, match=r"psycopg 3 .* or aiopg"):
        app.connector.get_worker_connector()

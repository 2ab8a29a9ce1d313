"""Blueprints: registration, namespaces, and what happens when one is added again."""

import logging

import pytest

from procrastinate import App, Blueprint, exceptions, testing


def run(**arguments):
    return arguments


@pytest.fixture
def blueprint():
    blueprint = Blueprint()
    blueprint.periodic(cron="0 0 * * *", periodic_id="night")(blueprint.task(name="run", aliases=["walk"])(run))
    return blueprint


def names(app):
    return {name for name in app.tasks if "remove_old_jobs" not in name}


def test_names_and_aliases_lead_to_the_task(app):
    task = app.task(name="run", aliases=["walk"])(run)
    assert app.tasks["run"] is app.tasks["walk"] is task
    app.configure_task("walk").defer()
    assert app.connector.jobs[1]["task_name"] == "run"


@pytest.mark.parametrize("options", [{"name": "walk"}, {"name": "new", "aliases": ["run"]}])
def test_taken_names_change_nothing(app, options):
    app.task(name="run", aliases=["walk"])(run)
    with pytest.raises(exceptions.TaskAlreadyRegistered, match="was already registered"):
        app.task(**options)(run)
    assert names(app) == {"run", "walk"}


def test_alias_may_be_the_own_name(app):
    app.task(name="run", aliases=["run"])(run)
    assert names(app) == {"run"}


def test_further_alias(app):
    task = app.task(name="run")(run)
    app.add_task_alias(task, "other:run")
    assert app.tasks["other:run"] is task
    assert task.aliases == []
    with pytest.raises(exceptions.TaskAlreadyRegistered):
        app.add_task_alias(task, "run")


def test_further_alias_that_does_not_fit(app):
    task = app.task(name="run")(run)
    with pytest.raises(ValueError, match="128"):
        app.add_task_alias(task, "n" * 129)
    assert names(app) == {"run"}


def test_alias_of_another_task(app):
    app.task(name="run", aliases=["walk"])(run)
    with pytest.raises(exceptions.TaskAlreadyRegistered, match="A task named walk was already registered"):
        app.task(name="new", aliases=["newer", "walk"])(run)
    assert names(app) == {"run", "walk"}


def test_unknown_decorator_option(app):
    with pytest.raises(TypeError, match=r"task\(\) got an unknown option 'qeue': did you mean 'queue'\?"):
        app.task(qeue="x")


def test_bare_and_called(app):
    assert app.task(run).func is run
    assert app.task()(lambda: None).queue == "default"
    assert app.task(run, name="both", queue="q").queue == "q"


def test_decorators_in_the_wrong_order(app):
    with pytest.raises(TypeError, match=r"above @app\.task"):
        app.periodic(cron="* * * * *")(run)


@pytest.mark.parametrize(("options", "prefix"), [({}, ""), ({"namespace": ""}, ""), ({"namespace": "ns"}, "ns:")])
def test_add(app, blueprint, options, prefix):
    task = blueprint.tasks["run"]
    app.add_tasks_from(blueprint, **options)
    assert names(app) == set(blueprint.tasks) == {f"{prefix}run", f"{prefix}walk"}
    assert (task.name, task.aliases, task.blueprint) == (f"{prefix}run", [f"{prefix}walk"], app)
    assert (f"{prefix}run", "night") in app.periodic_registry.periodic_tasks
    assert task.defer() == 1
    assert app.connector.jobs[1]["task_name"] == f"{prefix}run"


def test_blueprints_nest(app, blueprint):
    middle = Blueprint()
    middle.add_tasks_from(blueprint, namespace="b")
    app.add_tasks_from(middle, namespace="a")
    assert names(app) == {"a:b:run", "a:b:walk"}
    assert blueprint.tasks.keys() == {"b:run", "b:walk"}
    assert ("a:b:run", "night") in app.periodic_registry.periodic_tasks


@pytest.mark.parametrize("namespace", ["ns", "other"])
def test_added_twice_to_one_app(app, blueprint, namespace):
    app.add_tasks_from(blueprint, namespace="ns")
    with pytest.raises(exceptions.TaskAlreadyRegistered, match="added before"):
        app.add_tasks_from(blueprint, namespace=namespace)
    assert names(app) == {"ns:run", "ns:walk"}
    assert app.tasks["ns:run"].name == "ns:run"


def test_added_to_two_apps(app, blueprint):
    other = App(connector=testing.InMemoryConnector())
    task = blueprint.tasks["run"]
    app.add_tasks_from(blueprint, namespace="first")
    other.add_tasks_from(blueprint, namespace="second")
    assert names(app) == {"first:run", "first:walk"}
    assert names(other) == {"second:run", "second:walk"}
    assert app.tasks["first:run"] is app.tasks["first:walk"]
    assert app.tasks["first:run"].name == "first:run"
    assert app.tasks["first:run"].blueprint is app
    assert task is other.tasks["second:run"]
    # What the module's own object defers goes to the app that has it last …
    task.defer()
    assert [row["task_name"] for row in other.connector.jobs.values()] == ["second:run"]
    assert not app.connector.jobs
    # … while the first one goes on as before, schedules included.
    app.configure_task("first:walk").defer()
    assert [row["task_name"] for row in app.connector.jobs.values()] == ["first:run"]
    for each, name in [(app, "first:run"), (other, "second:run")]:
        registered = each.periodic_registry.periodic_tasks
        assert registered.keys() == {(name, "night")}
        assert registered[name, "night"].task is each.tasks[name]


def test_taken_namespace_changes_nothing(app, blueprint):
    app.task(name="ns:walk")(run)
    with pytest.raises(exceptions.TaskAlreadyRegistered, match="namespace named ns"):
        app.add_tasks_from(blueprint, namespace="ns")
    assert names(app) == {"ns:walk"}
    assert blueprint.tasks.keys() == {"run", "walk"}
    assert blueprint.tasks["run"].blueprint is blueprint


def test_namespace_that_makes_names_too_long(app, blueprint):
    with pytest.raises(ValueError, match="128"):
        app.add_tasks_from(blueprint, namespace="n" * 125)
    assert blueprint.tasks["run"].name == "run"


def test_taken_name_without_a_namespace(app, blueprint):
    app.task(name="walk")(run)
    with pytest.raises(exceptions.TaskAlreadyRegistered, match="A task named walk was already registered"):
        app.add_tasks_from(blueprint)
    assert names(app) == {"walk"}


def test_log_record_of_the_addition(app, blueprint, caplog):
    caplog.set_level(logging.INFO, "procrastinate.blueprints")
    app.add_tasks_from(blueprint, namespace="ns")
    (record,) = [record for record in caplog.records if record.name == "procrastinate.blueprints"]
    assert (record.action, record.namespace, record.tasks) == ("loading_blueprint", "ns", ["ns:run", "ns:walk"])


def test_tasks_of_a_lonely_blueprint(blueprint):
    assert blueprint.tasks["run"](a=1) == {"a": 1}
    with pytest.raises(exceptions.UnboundTaskError, match="add_tasks_from"):
        blueprint.tasks["run"].configure()
    with pytest.raises(exceptions.UnboundTaskError):
        blueprint.will_configure_task()


def test_taken_schedule_changes_nothing(app, blueprint):
    app.periodic(cron="* * * * *", periodic_id="night")(blueprint.tasks["run"])
    with pytest.raises(exceptions.TaskAlreadyRegistered, match="night"):
        app.add_tasks_from(blueprint)
    assert names(app) == set()


def test_warning_in_the_main_module(caplog):
    exec("import procrastinate\nprocrastinate.Blueprint()", {"__name__": "__main__"})
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.action == "app_defined_in___main__"
    assert record.getMessage().startswith("Blueprint is instantiated in the main Python module (")


def test_warning_where_the_module_has_no_name(caplog):
    exec("import procrastinate\nprocrastinate.Blueprint()", {"__name__": ""})
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.action == "app_location_unknown"
    assert record.exc_info[0] is exceptions.CallerModuleUnknown


def test_no_warning_elsewhere(caplog):
    Blueprint()
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]

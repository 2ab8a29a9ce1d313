"""Every name that users import, with its signature: what may not change without a reason.

A signature is written without its types and without `self`; tests/typing has those. Values stand as Python writes
them, and what has no signature is named by what it is; of a `str` only that it is there.
"""

PUBLIC_API: dict[str, dict[str, str]] = {
    "procrastinate": {
        "App": "class (*, connector, import_paths=None, worker_defaults=None, periodic_defaults=None, log_args=True)",
        "BaseConnector": "class ()",
        "BaseRetryStrategy": "class ()",
        "Blueprint": "class ()",
        "Job": (
            "class (*, id=None, status=None, queue, priority=0, lock, queueing_lock, task_name, task_kwargs={}, "
            "scheduled_at=None, attempts=0, abort_requested=False, worker_id=None, log_args=True)"
        ),
        "JobContext": (
            "class (*, app, worker_name=None, worker_queues=None, job, start_timestamp, additional_context={}, "
            "abort_reason)"
        ),
        "PsycopgConnector": (
            "class (*, json_dumps=None, json_loads=None, schema=None, pool_factory=AsyncConnectionPool, **kwargs)"
        ),
        "RetryDecision": (
            "class (*, retry_at=None, retry_in=None, priority=None, queue=None, lock=None, should_retry=True)"
        ),
        "RetryStrategy": (
            "class (*, max_attempts=None, wait=0, linear_wait=0, exponential_wait=0, retry_exceptions=None)"
        ),
        "SyncPsycopgConnector": "class (*, json_dumps=None, json_loads=None, schema=None, **kwargs)",
        "__version__": "str",
        "__author__": "str",
        "__author_email__": "str",
        "__license__": "str",
        "__url__": "str",
    },
    "procrastinate.app": {
        "App": "class (*, connector, import_paths=None, worker_defaults=None, periodic_defaults=None, log_args=True)",
        "App.from_path": "(dotted_path)",
        "App.with_connector": "(connector)",
        "App.replace_connector": "(connector)",
        "App.configure_task": "(name, *, allow_unknown=True, **options)",
        "App.logs_args_of": "(task_name)",
        "App.perform_import_paths": "()",
        "App.run_worker_async": "async (**kwargs)",
        "App.run_worker": "(**kwargs)",
        "App.check_connection": "()",
        "App.check_connection_async": "async ()",
        "App.job_manager": "property",
        "App.schema_manager": "property",
        "App.open": "(pool_or_engine=None)",
        "App.close": "()",
        "App.open_async": "(pool=None)",
        "App.close_async": "async ()",
        "App.task": "(_func=None, *, pass_context=False, **options)",
        "App.periodic": "(*, cron, periodic_id='', **configure_kwargs)",
        "App.add_task_alias": "(task, alias)",
        "App.add_tasks_from": "(blueprint, *, namespace='')",
        "App.will_configure_task": "()",
        "WorkerOptions": (
            "keys queues, name, concurrency, wait, fetch_job_polling_interval, abort_job_polling_interval, "
            "shutdown_graceful_timeout, listen_notify, delete_jobs, additional_context, install_signal_handlers, "
            "update_heartbeat_interval, stalled_worker_timeout, max_rescues, database_timeout, task_middleware, "
            "worker_middleware, observers, health_port, health_host"
        ),
    },
    "procrastinate.blueprints": {
        "Blueprint": "class ()",
        "Blueprint.task": "(_func=None, *, pass_context=False, **options)",
        "Blueprint.periodic": "(*, cron, periodic_id='', **configure_kwargs)",
        "Blueprint.add_task_alias": "(task, alias)",
        "Blueprint.add_tasks_from": "(blueprint, *, namespace='')",
        "Blueprint.will_configure_task": "()",
    },
    "procrastinate.tasks": {
        "ConfigureTaskOptions": (
            "keys lock, queueing_lock, schedule_at, schedule_in, queue, priority, connection, task_kwargs"
        ),
        "configure_task": "(*, name, job_manager, **options)",
        "Task": (
            "class (func, *, blueprint, queue, name=None, aliases=None, retry=False, pass_context=False, "
            "priority=0, lock=None, queueing_lock=None, task_middleware=None, check_arguments=True, log_args=True)"
        ),
        "Task.full_path": "property",
        "Task.retry": "property",
        "Task.__call__": "(*args, **kwargs)",
        "Task.defer": "(*args, **task_kwargs)",
        "Task.defer_async": "async (*args, **task_kwargs)",
        "Task.batch_defer": "(*task_kwargs)",
        "Task.batch_defer_async": "async (*task_kwargs)",
        "Task.defer_many": "(task_kwargs, *, batch_size=5000)",
        "Task.defer_many_async": "async (task_kwargs, *, batch_size=5000)",
        "Task.configure": "(**options)",
        "Task.add_namespace": "(namespace)",
        "Task.get_retry_exception": "(exception, job)",
    },
    "procrastinate.jobs": {
        "DEFAULT_QUEUE": "'default'",
        "DEFAULT_PRIORITY": "0",
        "Status": "enum todo, doing, succeeded, failed, cancelled, aborting, aborted",
        "DeleteJobCondition": "enum never, successful, always",
        "JobInserted": "keys type, job_id",
        "AbortJobRequested": "keys type, job_id",
        "Notification": "type",
        "Job": (
            "class (*, id=None, status=None, queue, priority=0, lock, queueing_lock, task_name, task_kwargs={}, "
            "scheduled_at=None, attempts=0, abort_requested=False, worker_id=None, log_args=True)"
        ),
        "Job.from_row": "(row)",
        "Job.asdict": "()",
        "Job.evolve": "(**changes)",
        "Job.log_context": "()",
        "Job.call_string": "property",
        "JobDeferrer": "class (job_manager, job, connection=None, check_arguments=_accept_anything)",
        "JobDeferrer.make_new_job": "(*args, **task_kwargs)",
        "JobDeferrer.defer": "(*args, **task_kwargs)",
        "JobDeferrer.defer_async": "async (*args, **task_kwargs)",
        "JobDeferrer.batch_defer": "(*task_kwargs)",
        "JobDeferrer.batch_defer_async": "async (*task_kwargs)",
        "JobDeferrer.defer_many": "(task_kwargs, *, batch_size=5000)",
        "JobDeferrer.defer_many_async": "async (task_kwargs, *, batch_size=5000)",
    },
    "procrastinate.job_context": {
        "AbortReason": "enum user_request, shutdown",
        "JobContext": (
            "class (*, app, worker_name=None, worker_queues=None, job, start_timestamp, additional_context={}, "
            "abort_reason)"
        ),
        "JobContext.should_abort": "()",
        "JobContext.evolve": "(**changes)",
        "JobContext.task": "property",
        "JobContext.queues_display": "property",
        "JobResult": "class (*, start_timestamp, end_timestamp=None, result=None)",
        "JobResult.duration": "(current_timestamp)",
        "JobResult.as_dict": "()",
    },
    "procrastinate.retry": {
        "RetryValue": "type",
        "get_retry_strategy": "(retry)",
        "RetryDecision": (
            "class (*, retry_at=None, retry_in=None, priority=None, queue=None, lock=None, should_retry=True)"
        ),
        "BaseRetryStrategy": "class ()",
        "BaseRetryStrategy.get_retry_decision": "(*, exception, job)",
        "BaseRetryStrategy.get_schedule_in": "(*, exception, attempts)",
        "BaseRetryStrategy.get_retry_exception": "(exception, job)",
        "RetryStrategy": (
            "class (*, max_attempts=None, wait=0, linear_wait=0, exponential_wait=0, retry_exceptions=None)"
        ),
        "RetryStrategy.get_retry_decision": "(*, exception, job)",
    },
    "procrastinate.exceptions": {
        "ProcrastinateException": "error Exception (message=None)",
        "TaskNotFound": "error ProcrastinateException (message=None)",
        "UnboundTaskError": "error ProcrastinateException (message=None)",
        "TaskAlreadyRegistered": "error ProcrastinateException (message=None)",
        "MiddlewareKindMismatch": "error ProcrastinateException (message=None)",
        "LoadFromPathError": "error ImportError, ProcrastinateException (message=None)",
        "JobRetry": "error ProcrastinateException (retry_decision)",
        "JobAborted": "error ProcrastinateException (message=None)",
        "AppNotOpen": "error ProcrastinateException (message=None)",
        "ConnectorException": "error ProcrastinateException (message=None)",
        "AlreadyEnqueued": "error ProcrastinateException (message=None)",
        "UniqueViolation": "error ConnectorException (*args, constraint_name, queueing_lock)",
        "NoResult": "error ConnectorException (message=None)",
        "MissingApp": "error ProcrastinateException (message=None)",
        "SyncConnectorConfigurationError": "error ProcrastinateException (message=None)",
        "CallerModuleUnknown": "error ProcrastinateException (message=None)",
        "RunTaskError": "error ProcrastinateException (message=None)",
        "InvalidTimestamp": "error ProcrastinateException (message=None)",
        "FunctionPathError": "error ProcrastinateException (message=None)",
        "MovedElsewhere": "error ProcrastinateException (message=None)",
        "WorkerStopped": "error ProcrastinateException (message=None)",
        "ConnectionLost": "error ConnectorException (message=None)",
        "LockNotAvailable": "error ConnectorException (message=None)",
        "InvalidData": "error ConnectorException (message=None)",
        "SchemaNotApplied": "error ConnectorException (message=None)",
        "EmbeddedPostgresError": "error ProcrastinateException (message=None)",
    },
    "procrastinate.connector": {
        "Pool": "type",
        "Engine": "type",
        "LISTEN_TIMEOUT": "30.0",
        "Notify": "protocol (*, channel, payload)",
        "BaseConnector": "class ()",
        "BaseConnector.get_sync_connector": "()",
        "BaseConnector.open": "(pool=None)",
        "BaseConnector.close": "()",
        "BaseConnector.execute_query": "(query, **arguments)",
        "BaseConnector.execute_query_one": "(query, **arguments)",
        "BaseConnector.execute_query_all": "(query, **arguments)",
        "BaseConnector.open_async": "async (pool=None)",
        "BaseConnector.close_async": "async ()",
        "BaseConnector.execute_query_async": "async (query, **arguments)",
        "BaseConnector.execute_query_one_async": "async (query, **arguments)",
        "BaseConnector.execute_query_all_async": "async (query, **arguments)",
        "BaseConnector.listen_notify": "async (on_notification, channels, on_listening=None)",
        "BaseAsyncConnector": "class ()",
    },
    "procrastinate.psycopg_connector": {
        "PsycopgConnector": (
            "class (*, json_dumps=None, json_loads=None, schema=None, pool_factory=AsyncConnectionPool, **kwargs)"
        ),
        "PsycopgConnector.pool": "property",
    },
    "procrastinate.sync_psycopg_connector": {
        "SyncPsycopgConnector": "class (*, json_dumps=None, json_loads=None, schema=None, **kwargs)",
        "SyncPsycopgConnector.pool": "property",
    },
    "procrastinate.periodic": {
        "MAX_DELAY": "600.0",
        "MARGIN": "0.5",
        "PeriodicTask": "class (task, cron, periodic_id, configure_kwargs)",
        "PeriodicRegistry": "class ()",
        "PeriodicRegistry.periodic_decorator": "(cron, periodic_id, **configure_kwargs)",
        "PeriodicRegistry.register_task": "(task, cron, periodic_id, configure_kwargs)",
    },
    "procrastinate.manager": {
        "QUEUEING_LOCK_CONSTRAINT": "'procrastinate_jobs_queueing_lock_idx_v1'",
        "get_channel_for_queues": "(queues=None)",
        "NotificationCallback": "protocol (*, channel, notification)",
        "JobManager": "class (connector)",
        "JobManager.defer_job": "(job, connection=None)",
        "JobManager.defer_job_async": "async (job, connection=None)",
        "JobManager.batch_defer_jobs": "(jobs, connection=None)",
        "JobManager.batch_defer_jobs_async": "async (jobs, connection=None)",
        "JobManager.defer_alike": "(job, arguments, connection=None)",
        "JobManager.defer_alike_async": "async (job, arguments, connection=None)",
        "JobManager.defer_periodic_job": "async (job, periodic_id, defer_timestamp)",
        "JobManager.fetch_job": "async (queues, worker_id)",
        "JobManager.get_stalled_jobs": (
            "async (nb_seconds=None, queue=None, task_name=None, seconds_since_heartbeat=30, connection=None)"
        ),
        "JobManager.delete_old_jobs": (
            "async (nb_hours, queue=None, include_failed=False, include_cancelled=False, include_aborted=False)"
        ),
        "JobManager.finish_job": "async (job, status, delete_job, connection=None)",
        "JobManager.finish_job_by_id_async": "async (job_id, status, delete_job, connection=None)",
        "JobManager.cancel_job_by_id": "(job_id, abort=False, delete_job=False, connection=None)",
        "JobManager.cancel_job_by_id_async": "async (job_id, abort=False, delete_job=False, connection=None)",
        "JobManager.run_job_now_by_id": "(job_id, connection=None)",
        "JobManager.run_job_now_by_id_async": "async (job_id, connection=None)",
        "JobManager.get_job_status": "(job_id, connection=None)",
        "JobManager.get_job_status_async": "async (job_id, connection=None)",
        "JobManager.retry_job": "async (job, retry_at=None, priority=None, queue=None, lock=None, connection=None)",
        "JobManager.retry_job_by_id": "(job_id, retry_at, priority=None, queue=None, lock=None, connection=None)",
        "JobManager.retry_job_by_id_async": (
            "async (job_id, retry_at, priority=None, queue=None, lock=None, connection=None)"
        ),
        "JobManager.listen_for_jobs": "async (*, on_notification, queues=None)",
        "JobManager.check_connection": "()",
        "JobManager.check_connection_async": "async ()",
        "JobManager.list_jobs": (
            "(id=None, queue=None, task=None, status=None, lock=None, queueing_lock=None, worker_id=None, "
            "connection=None)"
        ),
        "JobManager.list_jobs_async": (
            "async (id=None, queue=None, task=None, status=None, lock=None, queueing_lock=None, worker_id=None, "
            "connection=None)"
        ),
        "JobManager.list_queues": "(queue=None, task=None, status=None, lock=None, connection=None)",
        "JobManager.list_queues_async": "async (queue=None, task=None, status=None, lock=None, connection=None)",
        "JobManager.list_tasks": "(queue=None, task=None, status=None, lock=None, connection=None)",
        "JobManager.list_tasks_async": "async (queue=None, task=None, status=None, lock=None, connection=None)",
        "JobManager.list_locks": "(queue=None, task=None, status=None, lock=None, connection=None)",
        "JobManager.list_locks_async": "async (queue=None, task=None, status=None, lock=None, connection=None)",
        "JobManager.list_jobs_to_abort_async": "async (queue=None, connection=None)",
        "JobManager.register_worker": "async ()",
        "JobManager.unregister_worker": "async (worker_id)",
        "JobManager.update_heartbeat": "async (worker_id)",
        "JobManager.prune_stalled_workers": "async (seconds_since_heartbeat)",
    },
    "procrastinate.worker": {
        "WORKER_NAME": "'worker'",
        "WORKER_CONCURRENCY": "1",
        "FETCH_JOB_POLLING_INTERVAL": "5.0",
        "ABORT_JOB_POLLING_INTERVAL": "5.0",
        "Worker": "class (app, queues=None, **options)",
        "Worker.run": "async ()",
        "Worker.stop": "()",
        "Worker.find_task": "(task_name)",
        "WorkerOptions": (
            "keys queues, name, concurrency, wait, fetch_job_polling_interval, abort_job_polling_interval, "
            "shutdown_graceful_timeout, listen_notify, delete_jobs, additional_context, install_signal_handlers, "
            "update_heartbeat_interval, stalled_worker_timeout, max_rescues, database_timeout, task_middleware, "
            "worker_middleware, observers, health_port, health_host"
        ),
    },
    "procrastinate.middleware": {
        "SyncCallNext": "type",
        "AsyncCallNext": "type",
        "SyncTaskMiddleware": "type",
        "AsyncTaskMiddleware": "type",
        "TaskMiddleware": "type",
        "WorkerMiddleware": "type",
        "is_async_middleware": "(function)",
        "compose": "(middlewares, run_task, context, worker)",
    },
    "procrastinate.observers": {
        "Event": "type",
        "Observer": "type",
        "JobStarted": "class (*, job)",
        "JobEnded": "class (*, job, status, seconds, error)",
        "OutcomeRefused": "class (*, job, status)",
        "JobRescued": "class (*, job_id, task_name, queue, status, worker_id)",
        "ServiceFailed": "class (*, service, error, failures)",
        "ServiceRecovered": "class (*, service)",
        "WorkerRevived": "class (*, worker_id)",
        "WatchdogFired": "class (*, seconds)",
    },
    "procrastinate.signals": {
        "on_stop": "(callback)",
        "install": "(loop, handler)",
        "uninstall": "(loop, sigint_handler, sigterm_handler)",
    },
    "procrastinate.schema": {
        "migrations_path": "Path",
        "SchemaManager": "class (connector)",
        "SchemaManager.get_schema": "(schema=None)",
        "SchemaManager.get_migrations_path": "()",
        "SchemaManager.apply_schema": "()",
        "SchemaManager.apply_schema_async": "async ()",
    },
    "procrastinate.types": {
        "JSONValue": "str",
        "JSONDict": "type",
        "TimeDeltaParams": "keys weeks, days, hours, minutes, seconds, milliseconds, microseconds",
        "JobToDefer": "class (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)",
    },
    "procrastinate.utils": {
        "utcnow": "()",
        "utcmax": "()",
        "parse_datetime": "(text)",
        "datetime_from_timedelta_params": "(params)",
        "add_namespace": "(name, namespace)",
        "queues_display": "(queues)",
        "load_from_path": "(path, allowed_type=None)",
        "import_all": "(paths)",
        "caller_module_name": "(prefix='procrastinate')",
        "get_full_path": "(func)",
        "async_to_sync": "(awaitable, *args, **kwargs)",
        "sync_to_async": "async (func, *args, **kwargs)",
        "causes": "(exc)",
        "AwaitableContext": "class (open_coro, close_coro, return_value)",
        "MovedElsewhere": "class (name, new_location)",
        "gen_with_timeout": "(aiterable, timeout, raise_timeout)",
        "wait_any": "async (*coros_or_futures)",
        "cancel_and_capture_errors": "async (tasks)",
        "import_or_wrapper": "(*names)",
        "async_context_decorator": "(func)",
    },
    "procrastinate.metadata": {
        "extract_metadata": "()",
    },
    "procrastinate.shell": {
        "ProcrastinateShell": "class (job_manager, logs_args_of=_show_all)",
        "parse_argument": "(arg)",
        "print_job": "(job, details=False)",
    },
    "procrastinate.cli": {
        "main": "(arguments=None)",
        "get_log_level": "(verbosity=None, log_level=None)",
        "configure_logging": (
            "(verbosity=None, log_level=None, format='%(levelname)s:%(name)s:%(message)s', style='%')"
        ),
    },
    "procrastinate.testing": {
        "InMemoryConnector": "class (*, json_dumps=None, json_loads=None, now=utcnow)",
        "InMemoryConnector.reset": "()",
        "InMemoryConnector.jobs": "property",
        "InMemoryConnector.events": "property",
        "InMemoryConnector.workers": "property",
        "InMemoryConnector.periodic_defers": "property",
        "InMemoryConnector.notify_channels": "property",
        "InMemoryConnector.on_notification": "property",
        "InMemoryConnector.table_exists": "property",
        "InMemoryConnector.current_locks": "property",
        "InMemoryConnector.finished_jobs": "property",
        "InMemoryConnector.advance": "(**time)",
        "assert_deferred": "(where, task, arguments=None, /, *, count=1, options=None, **more_arguments)",
        "assert_deferred_async": "async (where, task, arguments=None, /, *, count=1, options=None, **more_arguments)",
        "deferred_jobs": "(where, task=None, arguments=None, /, *, options=None, **more_arguments)",
        "deferred_jobs_async": "async (where, task=None, arguments=None, /, *, options=None, **more_arguments)",
        "defer_periodic_jobs": "(app, at=None)",
    },
    "procrastinate.contrib.aiopg": {
        "AiopgConnector": "class (*, json_dumps=None, json_loads=None, schema=None, **kwargs)",
        "AiopgConnector.pool": "property",
    },
    "procrastinate.contrib.asyncpg": {
        "AsyncpgConnector": (
            "class (dsn=None, *, json_dumps=None, json_loads=None, schema=None, pool_factory=create_pool, **kwargs)"
        ),
        "AsyncpgConnector.pool": "property",
    },
    "procrastinate.contrib.psycopg2": {
        "Psycopg2Connector": "class (*, json_dumps=None, json_loads=None, schema=None, **kwargs)",
        "Psycopg2Connector.pool": "property",
    },
    "procrastinate.contrib.sqlalchemy": {
        "SQLAlchemyPsycopg2Connector": (
            "class (dsn='postgresql://', *, json_dumps=None, json_loads=None, schema=None, **kwargs)"
        ),
        "SQLAlchemyConnector": (
            "class (dsn='postgresql://', *, json_dumps=None, json_loads=None, schema=None, **kwargs)"
        ),
        "SQLAlchemyAsyncConnector": (
            "class (dsn='postgresql://', *, json_dumps=None, json_loads=None, schema=None, **kwargs)"
        ),
    },
    "procrastinate.builtin_tasks": {
        "builtin": "Blueprint",
        "remove_old_jobs": "Task",
    },
}

# What objects of these classes have beyond methods and properties.
ATTRIBUTES: dict[str, str] = {
    "App": "connector import_paths worker_defaults periodic_defaults job_manager tasks periodic_registry",
    "Blueprint": "tasks periodic_registry",
    "Task": "func blueprint name aliases retry_strategy pass_context queue priority lock queueing_lock task_middleware",
    "Job": (
        "id status queue priority lock queueing_lock task_name task_kwargs scheduled_at attempts abort_requested "
        "worker_id"
    ),
    "JobDeferrer": "job_manager job connection",
    "JobContext": "app worker_name worker_queues job start_timestamp additional_context abort_reason",
    "JobResult": "start_timestamp end_timestamp result",
    "JobManager": "connector",
    "RetryDecision": "retry_at priority queue lock",
    "RetryStrategy": "max_attempts wait linear_wait exponential_wait retry_exceptions",
    "PeriodicRegistry": "periodic_tasks",
    "PeriodicTask": "task cron periodic_id configure_kwargs",
    "BaseConnector": "json_dumps json_loads",
    "JobRetry": "retry_decision",
    "UniqueViolation": "constraint_name queueing_lock",
    "SchemaManager": "connector",
    "InMemoryConnector": "queries states",
}

"""The whole schema, for projects that start here.

It replaces the 41 migrations that a project has which used version 3 of the other project: to Django they are this one.
What such a database lacks comes with the next migration.
"""

# Django has no types.
# pyright: basic, reportArgumentType=false

# ruff: noqa: RUF012  migrations are declared like that

from __future__ import annotations

import django.db.models.deletion
import django.utils.timezone
from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models

from procrastinate.contrib.django.migrations_utils import RunProcrastinateSQL
from procrastinate.contrib.django.models import EnumField


class Migration(migrations.Migration):
    """Creates the tables, and the state of the models."""

    initial = True

    replaces = [
        ("procrastinate", name)
        for name in (
            "0001_initial",
            "0002_drop_started_at_column",
            "0003_drop_started_at_column",
            "0004_drop_procrastinate_version_table",
            "0005_fix_procrastinate_fetch_job",
            "0006_fix_trigger_status_events_insert",
            "0007_add_queueing_lock_column",
            "0008_close_fetch_job_race_condition",
            "0009_add_defer_job_function",
            "0010_add_procrastinate_periodic_defers",
            "0011_add_foreign_key_index",
            "0012_add_locks_to_periodic_defer",
            "0013_fix_procrastinate_defer_periodic_job",
            "0014_add_finish_job_and_retry_job_functions",
            "0015_add_trigger_on_job_deletion",
            "0016_delete_finished_jobs",
            "0017_add_checks_to_finish_job",
            "0018_add_checks_to_retry_job",
            "0019_fix_finish_job_compat_issue",
            "0020_add_index_on_procrastinate_jobs",
            "0021_add_kwargs_to_defer_periodic_job",
            "0022_null_locks_excluded",
            "0023_remove_old_finish_job_function",
            "0024_job_id_bigint",
            "0025_add_models",
            "0026_add_job_priority",
            "0027_add_periodic_job_priority",
            "0028_add_cancel_states",
            "0029_add_additional_params_to_retry_job",
            "0030_alter_procrastinateevent_options",
            "0031_add_indexes_for_fetch_job",
            "0032_pre_cancel_notification",
            "0033_post_cancel_notification",
            "0034_pre_add_heartbeat",
            "0035_post_add_heartbeat",
            "0036_add_worker_model",
            "0037_pre_batch_defer_jobs",
            "0038_post_batch_defer_jobs",
            "0039_pre_priority_lock_fetch_job",
            "0040_pre_retry_failed_job",
            "0041_post_retry_failed_job",
        )
    ]

    operations = [
        RunProcrastinateSQL(name="04.00.00_01_pre_initial_schema.sql"),
        migrations.CreateModel(
            name="ProcrastinateWorker",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("last_heartbeat", models.DateTimeField(default=django.utils.timezone.now)),
                ("name", models.TextField(blank=True, null=True)),
                ("started_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("queues", ArrayField(base_field=models.TextField(), blank=True, null=True)),
            ],
            options={"db_table": "procrastinate_workers", "managed": False, "base_manager_name": "objects"},
        ),
        migrations.CreateModel(
            name="ProcrastinateJob",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("queue_name", models.CharField(max_length=128)),
                ("task_name", models.CharField(max_length=128)),
                ("priority", models.IntegerField(default=0)),
                ("lock", models.TextField(blank=True, null=True)),
                ("queueing_lock", models.TextField(blank=True, null=True)),
                ("args", models.JSONField(default=dict)),
                ("status", EnumField(default="todo", enum="procrastinate_job_status", max_length=32)),
                ("scheduled_at", models.DateTimeField(blank=True, null=True)),
                ("attempts", models.IntegerField(default=0)),
                ("abort_requested", models.BooleanField(default=False)),
                (
                    "worker",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        to="procrastinate.procrastinateworker",
                    ),
                ),
                ("waits_for", models.TextField(blank=True, null=True)),
                ("claims", models.IntegerField(default=0)),
                ("rescues", models.IntegerField(default=0)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("attempted_at", models.DateTimeField(blank=True, null=True)),
                ("abort_requested_at", models.DateTimeField(blank=True, null=True)),
                ("finalized_at", models.DateTimeField(blank=True, null=True)),
                ("attempts_log", models.JSONField(blank=True, null=True)),
            ],
            options={
                "db_table": "procrastinate_jobs",
                "managed": False,
                "base_manager_name": "objects",
                "permissions": (
                    ("retry_procrastinatejob", "Can retry jobs"),
                    ("cancel_procrastinatejob", "Can cancel jobs that wait"),
                    ("abort_procrastinatejob", "Can abort jobs that run"),
                    ("run_now_procrastinatejob", "Can run scheduled jobs now"),
                ),
            },
        ),
        migrations.CreateModel(
            name="ProcrastinateEvent",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "job",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        to="procrastinate.procrastinatejob",
                    ),
                ),
                ("type", EnumField(enum="procrastinate_job_event_type", max_length=32)),
                ("at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "db_table": "procrastinate_events",
                "managed": False,
                "base_manager_name": "objects",
                "get_latest_by": "at",
            },
        ),
        migrations.CreateModel(
            name="ProcrastinatePeriodicDefer",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("task_name", models.CharField(max_length=128)),
                ("defer_timestamp", models.BigIntegerField(blank=True, null=True)),
                (
                    "job",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        to="procrastinate.procrastinatejob",
                    ),
                ),
                ("periodic_id", models.CharField(blank=True, default="", max_length=128)),
            ],
            options={
                "db_table": "procrastinate_periodic_defers",
                "managed": False,
                "base_manager_name": "objects",
                "unique_together": {("task_name", "periodic_id", "defer_timestamp")},
            },
        ),
    ]

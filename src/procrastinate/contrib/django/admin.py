"""The admin: jobs, workers and queues, to look at, and to retry, cancel, abort and hasten jobs."""

from __future__ import annotations

# Django has no types.
# pyright: basic, reportReturnType=false, reportAttributeAccessIssue=false
import functools
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import Count, F, Func, IntegerField, JSONField, Min, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html
from typing_extensions import override

from procrastinate.contrib.django import admin_display, admin_search, procrastinate_app
from procrastinate.contrib.django.admin_actions import ABORT, ACTIONS, CANCEL, RETRY, RUN_NOW, JobAction
from procrastinate.contrib.django.admin_display import JOB_STATUS_EMOJI_MAPPING
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker
from procrastinate.worker.settings import WorkerSettings

__all__ = ["JOB_STATUS_EMOJI_MAPPING", "ProcrastinateJobAdmin", "ProcrastinateWorkerAdmin"]

# Pages beyond these jobs would count rows for seconds, and nobody turns so many.
MOST_LISTED = 10_000
# The latest jobs, from which values and outcomes are taken where looking at all would take too long.
LATEST = 10_000
JOBS = "procrastinate_procrastinatejob_changelist"


class BoundedPaginator(Paginator):
    """Counts no further than it lists."""

    @cached_property
    def count(self) -> int:
        """The number of rows, or MOST_LISTED if there are more."""
        return self.object_list.order_by().values("pk")[:MOST_LISTED].count()


class KnownValuesFilter(admin.SimpleListFilter):
    """Offers the values of a column that the database's statistics and the latest jobs know.

    To look for all of them would read the whole table.
    """

    column: ClassVar[str]

    @override
    def lookups(self, request: Any, model_admin: Any) -> Any:
        table = ProcrastinateJob._meta.db_table  # noqa: SLF001  Django's public way to it
        with connections[model_admin.get_queryset(request).db].cursor() as cursor:
            cursor.execute(
                "select unnest(most_common_vals::text::text[]) from pg_stats"
                " where schemaname = any (current_schemas(false)) and tablename = %s and attname = %s",
                [table, self.column],
            )
            values = {value for (value,) in cursor.fetchall()}
        latest = ProcrastinateJob.objects.order_by("-id")[: LATEST // 10].values_list(self.column, flat=True)
        values |= set(map(str, latest)) | set(self.known())
        if self.value() is not None:
            values.add(self.value())
        return [(value, self.label(value)) for value in sorted(values)]

    def known(self) -> set[str]:
        """Return the values that the app knows."""
        return set()

    def label(self, value: str) -> str:
        """Return how a value is shown."""
        return value

    @override
    def queryset(self, request: Any, queryset: Any) -> Any:
        return queryset if self.value() is None else queryset.filter(**{self.column: self.value()})


class QueueFilter(KnownValuesFilter):
    """The queue."""

    title = "queue"
    parameter_name = column = "queue_name"

    @override
    def known(self) -> set[str]:
        return {task.queue for task in procrastinate_app.current_app.tasks.values()}


class TaskFilter(KnownValuesFilter):
    """The task."""

    title = "task"
    parameter_name = column = "task_name"

    @override
    def known(self) -> set[str]:
        return {task.name for task in procrastinate_app.current_app.tasks.values()}

    @override
    def label(self, value: str) -> str:
        return admin_display.task_name(value)


class PriorityFilter(KnownValuesFilter):
    """The priority."""

    title = "priority"
    parameter_name = column = "priority"

    @override
    def lookups(self, request: Any, model_admin: Any) -> Any:
        return sorted(super().lookups(request, model_admin), key=lambda pair: int(pair[0]))


class StateFilter(admin.SimpleListFilter):
    """The status, and of waiting jobs what they wait for."""

    title = "status"
    parameter_name = "state"

    STATES: ClassVar[dict[str, tuple[str, Q]]] = {
        "ready": ("Ready to run", Q(status="todo", waits_for=None)),
        "scheduled": ("Scheduled", Q(status="todo", waits_for="time")),
        "blocked": ("Waits for its lock", Q(status="todo", waits_for="lock")),
        **{status: (status.title(), Q(status=status)) for status in ProcrastinateJob.STATUSES},
    }

    @override
    def lookups(self, request: Any, model_admin: Any) -> Any:
        return [(name, label) for name, (label, _) in self.STATES.items()]

    @override
    def queryset(self, request: Any, queryset: Any) -> Any:
        value = self.value()
        return queryset.filter(self.STATES[value][1]) if value in self.STATES else queryset


class ReadOnlyAdmin(admin.ModelAdmin):
    """Shows, and changes nothing."""

    class Media:
        """The pages' style."""

        css: ClassVar[dict[str, list[str]]] = {"all": ["procrastinate/admin.css"]}

    def url(self, name: str, *args: Any, **query: Any) -> str:
        """Return the address of a page of the same admin site."""
        return reverse(f"admin:{name}", args=args, query=query or None, current_app=self.admin_site.name)

    @override
    def has_add_permission(self, request: Any) -> bool:
        return False

    @override
    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    @override
    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        return False


def _entry(position: int) -> Func:
    """An entry of the log of attempts, counted from its end, without its traceback, which may be long."""
    return Func(F("attempts_log"), template=f"(%(expressions)s -> {position}) - 'traceback'", output_field=JSONField())


def _as_action(action: JobAction) -> Any:
    def act(_model_admin: Any, request: Any, queryset: Any) -> None:
        action.apply(request, queryset)

    act.__name__ = action.name
    return admin.action(description=action.description, permissions=[action.name])(act)


def _permission_for(action: JobAction) -> Any:
    def has_permission(_self: Any, request: Any) -> bool:
        return action.is_allowed(request)

    return has_permission


@admin.register(ProcrastinateJob)
class ProcrastinateJobAdmin(ReadOnlyAdmin):
    """The jobs."""

    list_display = ("id", "show_status", "show_task", "show_queue", "age", "last_error", "show_args", "summary")
    list_display_links = ("id", "show_status")
    list_filter = (StateFilter, QueueFilter, TaskFilter, "created_at", PriorityFilter)
    # Any other order would sort the whole table.
    sortable_by = ("id",)
    ordering = ("-id",)
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_max_show_all = 0
    list_per_page = 50
    search_fields = ("id",)  # there is a search box; see get_search_results
    search_help_text = admin_search.HELP
    actions = tuple(_as_action(action) for action in ACTIONS)
    # Under the names by which Django asks for the permissions of actions.
    has_retry_permission = _permission_for(RETRY)
    has_cancel_permission = _permission_for(CANCEL)
    has_abort_permission = _permission_for(ABORT)
    has_run_now_permission = _permission_for(RUN_NOW)
    fieldsets = (
        (None, {"fields": ("show_status", "task_name", "show_all_args", "show_queue", "priority", "summary")}),
        ("History", {"fields": ("timeline",)}),
        (
            "Details",
            {
                "classes": ("collapse",),
                "fields": (
                    "id",
                    "lock",
                    "queueing_lock",
                    "scheduled_at",
                    "attempts",
                    "claims",
                    "rescues",
                    "abort_requested",
                    "show_worker",
                    "created_at",
                    "attempted_at",
                    "abort_requested_at",
                    "finalized_at",
                ),
            },
        ),
    )

    @override
    def get_readonly_fields(self, request: Any, obj: Any = None) -> Any:
        return [name for _, options in self.fieldsets for name in options["fields"]]

    @override
    def get_queryset(self, request: Any) -> Any:
        jobs = super().get_queryset(request).defer("attempts_log")
        return jobs.annotate(latest_entry=_entry(-1), entry_before=_entry(-2))

    @override
    def get_search_results(self, request: Any, queryset: Any, search_term: str) -> Any:
        return admin_search.search(queryset, search_term) if search_term else queryset, False

    # Columns and fields

    @admin.display(description="Status")
    def show_status(self, job: Any) -> str:
        """The status."""
        return admin_display.status(job)

    @admin.display(description="Task Name")
    def show_task(self, job: Any) -> str:
        """The task, for the list."""
        return admin_display.task_name(job.task_name)

    @admin.display(description="Queue")
    def show_queue(self, job: Any) -> str:
        """The queue, as a link to its jobs."""
        url = self.url(JOBS, queue_name=job.queue_name)
        return format_html('<a href="{}">{}</a>', url, job.queue_name)

    @admin.display(description="Args")
    def show_args(self, job: Any) -> str:
        """The arguments, cut if they are long."""
        return admin_display.arguments(job.args)

    @admin.display(description="Args")
    def show_all_args(self, job: Any) -> str:
        """The arguments."""
        return admin_display.arguments(job.args, longest=None)

    @admin.display(description="Age")
    def age(self, job: Any) -> str:
        """How long ago it was deferred."""
        return admin_display.moment(job.created_at)

    @admin.display(description="Summary")
    def summary(self, job: Any) -> str:
        """What is notable besides."""
        moments = {
            "scheduled": job.scheduled_at if job.waits_for == "time" else None,
            "started": job.attempted_at if job.status == "doing" else None,
            "ended": job.finalized_at,
        }
        shown = {name: admin_display.moment(at) for name, at in moments.items() if at is not None}
        links = {
            name: self.url(JOBS, **{name: getattr(job, name)})
            for name in ("lock", "queueing_lock")
            if getattr(job, name) is not None
        }
        return render_to_string("procrastinate/admin/summary.html", {"job": job, "moments": shown, "links": links})

    @admin.display(description="Last error")
    def last_error(self, job: Any) -> str:
        """The latest error, on one line."""
        return admin_display.error([job.latest_entry, job.entry_before])

    @admin.display(description="Attempts")
    def timeline(self, job: Any) -> str:
        """What happened to the job."""
        return render_to_string(
            "procrastinate/admin/timeline.html", {"job": job, "attempts": admin_display.history(job)}
        )

    @admin.display(description="Worker")
    def show_worker(self, job: Any) -> str:
        """The worker that runs or ran it."""
        return "-" if job.worker_id is None else f"Worker {job.worker_id}"

    # Pages

    @override
    def get_urls(self) -> Any:
        view = self.admin_site.admin_view
        own = [path("queues/", view(self.queues_view), name="procrastinate_queues")]
        own += [
            path(
                f"<int:job_id>/{action.name}/",
                view(functools.partial(self.action_view, action)),
                name=f"procrastinate_{action.name}",
            )
            for action in ACTIONS
        ]
        return own + super().get_urls()

    @override
    def changelist_view(self, request: Any, extra_context: Any = None) -> Any:
        context = {"most_listed": MOST_LISTED, "estimate": self._estimate(request), **(extra_context or {})}
        return super().changelist_view(request, context)

    def _estimate(self, request: Any) -> int:
        """Return about how many jobs there are, as the database's statistics have it."""
        with connections[self.get_queryset(request).db].cursor() as cursor:
            cursor.execute(
                "select greatest(reltuples, 0)::bigint from pg_class where oid = to_regclass(%s)",
                [self.model._meta.db_table],  # noqa: SLF001  as above
            )
            row = cursor.fetchone()
        return row[0] if row else 0

    @override
    def render_change_form(self, request: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
        job = kwargs.get("obj")
        here = self.model.objects.filter(id=job.id) if job is not None else self.model.objects.none()
        offered = [action for action in ACTIONS if action.is_allowed(request) and here.filter(action.fits).exists()]
        return super().render_change_form(request, {**context, "job_actions": offered}, *args, **kwargs)

    def action_view(self, action: JobAction, request: Any, job_id: int) -> Any:
        """Do something to one job, and show it again."""
        if request.method == "POST":
            if not action.is_allowed(request) or not self.has_view_permission(request):
                raise PermissionDenied
            get_object_or_404(self.get_queryset(request), id=job_id)
            action.apply(request, self.get_queryset(request).filter(id=job_id))
        return HttpResponseRedirect(self.url("procrastinate_procrastinatejob_change", job_id))

    def queues_view(self, request: Any) -> Any:
        """Show what waits and runs in each queue, and how the latest jobs ended."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        # As Django's own pages do, so that links lead to the same site.
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": "Queues",
            "opts": self.model._meta,  # noqa: SLF001  as above
            "media": self.media,
            "queues": queues(),
            "latest": LATEST,
        }
        return TemplateResponse(request, "procrastinate/admin/queues.html", context)


def queues() -> list[dict[str, Any]]:
    """Return for each queue how many jobs wait and run, and how its jobs among the latest ended."""
    jobs = ProcrastinateJob.objects.order_by()

    def count(**condition: Any) -> Count:
        return Count("id", filter=Q(**condition))

    live = jobs.filter(status__in=("todo", "doing")).values("queue_name")
    lines = live.annotate(
        ready=count(status="todo", waits_for=None),
        scheduled=count(status="todo", waits_for="time"),
        blocked=count(status="todo", waits_for="lock"),
        doing=count(status="doing"),
        oldest=Min(Coalesce("scheduled_at", "created_at"), filter=Q(status="todo", waits_for=None)),
    )
    found = {line["queue_name"]: line for line in lines}
    latest = jobs.order_by("-id")[:LATEST].values("queue_name", "status")
    for line in latest:
        entry = found.setdefault(line["queue_name"], {"queue_name": line["queue_name"]})
        entry[line["status"]] = entry.get(line["status"], 0) + (line["status"] not in ("todo", "doing"))
    for entry in found.values():
        entry["waits_since"] = admin_display.moment(entry.get("oldest"))
    return [found[name] for name in sorted(found)]


@admin.register(ProcrastinateWorker)
class ProcrastinateWorkerAdmin(ReadOnlyAdmin):
    """The workers."""

    list_display = ("id", "name", "show_queues", "state", "running", "show_heartbeat", "show_start")
    fields = readonly_fields = ("id", "name", "queues", "state", "running", "last_heartbeat", "started_at")
    ordering = ("-id",)
    sortable_by = ("id",)
    search_fields = ("name",)

    @override
    def get_queryset(self, request: Any) -> Any:
        running = (
            ProcrastinateJob.objects.filter(status="doing", worker_id=OuterRef("pk"))
            .order_by()
            .values("worker_id")
            .annotate(count=Count("pk"))
            .values("count")
        )
        number = Coalesce(Subquery(running, output_field=IntegerField()), 0)
        return super().get_queryset(request).annotate(running_jobs=number)

    @admin.display(description="State")
    def state(self, worker: Any) -> str:
        """Whether it gives signs of life."""
        defaults: Any = procrastinate_app.current_app.worker_defaults
        limit = defaults.get("stalled_worker_timeout", WorkerSettings().stalled_worker_timeout)
        silence = (timezone.now() - worker.last_heartbeat).total_seconds()
        name, emoji = ("alive", "💚") if silence < limit else ("silent", "💀")
        return format_html('<span class="procrastinate-status {}">{} {}</span>', name, emoji, name.title())

    @admin.display(description="Running jobs")
    def running(self, worker: Any) -> str:
        """How many jobs it runs, as a link to them."""
        url = self.url(JOBS, worker_id=worker.pk, state="doing")
        return format_html('<a href="{}">{}</a>', url, worker.running_jobs)

    @admin.display(description="Queues")
    def show_queues(self, worker: Any) -> str:
        """Which queues it serves."""
        return "all" if worker.queues is None else ", ".join(worker.queues)

    @admin.display(description="Last heartbeat")
    def show_heartbeat(self, worker: Any) -> str:
        """How long ago it gave a sign of life."""
        return admin_display.moment(worker.last_heartbeat)

    @admin.display(description="Started")
    def show_start(self, worker: Any) -> str:
        """How long ago it started."""
        return admin_display.moment(worker.started_at)

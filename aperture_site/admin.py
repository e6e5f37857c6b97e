"""The admin's pages of the background: jobs, their runs, and the schedules that an operator may change.

Imports of Celery's application stay inside functions: the web process needs it for a button alone.
"""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import allauth.account.admin
import allauth.mfa.admin
import allauth.usersessions.admin  # noqa: F401
from cron_descriptor import FormatException, MissingFieldException, Options, WrongArgumentException, get_description
from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminSelectWidget

from accounts.admin.key import confirmation
from accounts.read_only import ReadOnly
from aperture_site import submission
from aperture_site.operator_sign_in import OperatorSignIn
from gateway.models import Heartbeat, Job, JobRun
from gateway.punctuality import AWAY_AFTER_S, is_late

logger = logging.getLogger("aperture.jobs")

RUNS_SHOWN = 20
OUTCOME_LABELS = {Job.OK: "success", Job.FAILED: "danger", Job.TIMED_OUT: "danger", Job.SKIPPED: "info"}

admin.site.login_form = OperatorSignIn

# People keep these themselves, on pages of their own; the imports above have registered them.
for own in [model for model in admin.site._registry if model._meta.app_label in ("account", "mfa", "usersessions")]:
    admin.site.unregister(own)

for unused in (PeriodicTask, CrontabSchedule, IntervalSchedule, ClockedSchedule, SolarSchedule):
    admin.site.unregister(unused)


def duration(length: timedelta) -> str:
    """Return a length of time in a few characters."""
    seconds = length.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for limit, unit_s, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def when(moment: datetime | None, empty: str = "never") -> str:
    """Return a cell: how far away a moment is, and on which date behind the pointer."""
    if moment is None:
        return empty
    away = moment - timezone.now()
    words = f"in {duration(away)}" if away > timedelta() else f"{duration(-away)} ago"
    exact = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<span class="whitespace-nowrap" title="{}">{}</span>', exact, words)


def in_words(row: PeriodicTask | None) -> str:
    """Return a schedule as a person would say it."""
    if row is None:
        return "on demand"
    if row.interval:
        return f"every {duration(row.interval.schedule.run_every)}"
    if row.crontab:
        fields = (row.crontab.minute, row.crontab.hour, row.crontab.day_of_month, row.crontab.month_of_year)
        expression = " ".join([*fields, row.crontab.day_of_week]).replace(", ", ",")
        options = Options()
        options.use_24hour_time_format = True
        try:
            words = get_description(expression, options)
            return words if row.crontab.hour == "*" else f"{words} {row.crontab.timezone}"
        except (FormatException, MissingFieldException, WrongArgumentException):
            return f"{expression} {row.crontab.timezone}"
    return str(row.scheduler or "never")


def attach(jobs: Iterable[Any]) -> None:
    """Give each job its row of the schedule, as `row`."""
    rows = {row.task: row for row in PeriodicTask.objects.select_related("interval", "crontab", "solar", "clocked")}
    for job in jobs:
        job.row = rows.get(job.task)


class JobList(ChangeList):
    """The jobs of a page, each with its schedule."""

    def get_results(self, request: HttpRequest) -> None:
        """Read them."""
        super().get_results(request)
        jobs = list(self.result_list)
        attach(jobs)
        self.result_list: Any = jobs


@admin.register(Job)
class JobAdmin(ReadOnly, ModelAdmin):
    list_display = ("title", "schedule", "last_run", "took", "outcome", "next_run", "state")
    list_display_links = ("title",)
    list_fullwidth = True
    list_per_page = 200
    search_fields = ("name", "task")
    ordering = ("name", "task")
    sortable_by = ()
    actions_row = ("run_now",)
    actions_detail = ("run_now", "change_schedule")
    fieldsets = (
        (None, {"fields": ("about", "task", "schedule", "state", "next_run")}),
        ("Last run", {"fields": ("last_run", "took", "outcome", "last_error")}),
        ("All runs", {"fields": ("counts", "history_table")}),
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return JobList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        job = super().get_object(request, object_id, from_field)
        if job is not None:
            attach([job])
        return job

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if request.method == "GET":
            for line in absences():
                messages.warning(request, line)
        return super().changelist_view(request, extra_context)

    @display(description="Job")
    def title(self, job: Job) -> str:
        # A card of a narrow page has one line for it.
        about = '<span class="hidden lg:block font-normal text-font-subtle-light dark:text-font-subtle-dark">{}</span>'
        return format_html("{}" + about, str(job), job.about)

    @display(description="Schedule")
    def schedule(self, job: Any) -> str:
        return in_words(job.row)

    @display(description="Last run")
    def last_run(self, job: Job) -> str:
        return when(job.last_started_at)

    @display(description="Took")
    def took(self, job: Job) -> str:
        if job.last_started_at is None or job.last_finished_at is None or job.last_finished_at < job.last_started_at:
            return ""
        return format_html(
            '<span class="whitespace-nowrap">{}</span>', duration(job.last_finished_at - job.last_started_at)
        )

    @display(description="Outcome", label=OUTCOME_LABELS)
    def outcome(self, job: Job) -> str:
        return job.last_outcome

    @display(description="Next run")
    def next_run(self, job: Any) -> str:
        return when(job.due_at, empty="") if job.row and job.row.enabled else ""

    @display(
        description="State",
        label={"on": "success", "running": "info", "late": "danger", "off": "warning", "on demand": "info"},
    )
    def state(self, job: Any) -> str:
        if job.running_since:
            return "running"
        if job.row is None:
            return "on demand"
        if not job.row.enabled:
            return "off"
        return "late" if is_late(timezone.now(), job.due_at, job.sent_at, job.last_started_at) else "on"

    @display(description="Runs")
    def counts(self, job: Job) -> str:
        return f"{job.runs}, of which {job.failures} did not end well"

    @display(description="Newest")
    def history_table(self, job: Job) -> str:
        runs = job.history.order_by("-id")[:RUNS_SHOWN]
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            (tuple(map(cell, columns(run))) for run in runs),
        )
        more = reverse("admin:gateway_jobrun_changelist") + f"?job__id__exact={job.pk}"
        return format_html(
            '<table class="text-left">{}</table><a class="hover:underline" href="{}">All runs</a>',
            rows,
            more,
        )

    def has_run_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return bool(request.user.has_perm("gateway.run_job"))

    def has_schedule_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return bool(request.user.has_perm("django_celery_beat.change_periodictask"))

    @action(
        description="Run now",
        icon="play_arrow",
        permissions=["run"],
        dialog=confirmation("Run this job now?", "It runs once, beside its schedule, unless it is running.", "Run now"),
    )
    def run_now(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        job = self.get_object(request, object_id)
        if job is None:
            messages.error(request, f"There is no job {object_id}.")
        else:
            try:
                submission.send(job.task)
            except submission.QueueAway as error:
                messages.error(request, str(error))
            else:
                self.log_change(request, job, "Run now.")
                logger.info("%s is run by hand, by user %s", job.task, request.user.pk)
                messages.success(request, f"“{job}” is queued.")
        return HttpResponse(headers={"HX-Redirect": reverse("admin:gateway_job_changelist")})

    @action(description="Change schedule", icon="event", permissions=["schedule"])
    def change_schedule(self, request: HttpRequest, object_id: str) -> HttpResponse:
        job = self.get_object(request, object_id)
        if job is None or job.row is None:
            messages.error(request, "This job has no schedule; add one.")
            return HttpResponse(status=302, headers={"Location": reverse("admin:django_celery_beat_periodictask_add")})
        address = reverse("admin:django_celery_beat_periodictask_change", args=[job.row.pk])
        return HttpResponse(status=302, headers={"Location": address})


def absences() -> list[str]:
    """Return what an operator should know of machines that are not heard of."""
    found = []
    for kind, effect in ((Heartbeat.WORKER, "no job runs"), (Heartbeat.BEAT, "no schedule is followed")):
        newest = Heartbeat.objects.filter(kind=kind).order_by("-seen_at").first()
        if newest is None:
            found.append(f"No {kind} has been seen yet: {effect}. It starts with `manage.py serve`.")
        elif (timezone.now() - newest.seen_at).total_seconds() > AWAY_AFTER_S:
            ago = duration(timezone.now() - newest.seen_at)
            found.append(f"No {kind} has been seen for {ago}: {effect} until one is back, and requests are unaffected.")
    return found


def columns(run: JobRun) -> tuple[str, ...]:
    """Return a run's cells: when, how long, how it ended, why."""
    times = f" ({run.repeats} times in a row)" if run.repeats > 1 else ""
    return (
        f"{run.started_at:%Y-%m-%d %H:%M:%S}",
        duration(max(run.finished_at - run.started_at, timedelta())) if run.repeats == 1 else "",
        run.outcome + times + (", by hand" if run.by_hand else ""),
        run.error,
    )


def cell(text: str) -> SafeString:
    """Return a padded cell."""
    return format_html('<span class="inline-block pr-6">{}</span>', text)


@admin.register(JobRun)
class JobRunAdmin(ReadOnly, ModelAdmin):
    list_display = ("began", "job", "took", "outcome_shown", "error", "repeats", "asked", "node")
    list_display_links = ("began",)
    list_filter = ("outcome", "by_hand", "job")
    list_select_related = ("job",)
    list_fullwidth = True
    search_fields = ("error",)
    ordering = ("-id",)
    sortable_by = ()
    fields = ("job", "began", "finished_at", "took", "outcome_shown", "error", "repeats", "asked", "node")

    @display(description="Began")
    def began(self, run: JobRun) -> str:
        return format_html('<span class="whitespace-nowrap">{}</span>', f"{run.started_at:%Y-%m-%d %H:%M:%S}")

    @display(description="Took")
    def took(self, run: JobRun) -> str:
        return columns(run)[1]

    @display(description="By")
    def asked(self, run: JobRun) -> str:
        return "hand" if run.by_hand else "schedule or event"

    @display(description="Outcome", label=OUTCOME_LABELS)
    def outcome_shown(self, run: JobRun) -> str:
        return run.outcome


def task_choices() -> list[tuple[str, str]]:
    """Return the tasks that a schedule may name."""
    from aperture_site.celery import app
    from aperture_site.jobs import is_ours

    app.loader.import_default_modules()
    return [("", "---------"), *((name, name) for name in sorted(app.tasks) if is_ours(name))]


def came_with_the_product(row: PeriodicTask | None) -> bool:
    """Say whether a schedule is one of ours: then its times, and whether it is on, are all that an operator decides."""
    return bool(row and row.pk and Job.objects.filter(name=row.name).exclude(shipped="").exists())


class ScheduleForm(forms.ModelForm):  # type: ignore[type-arg]
    """A schedule: what, and when."""

    task = forms.ChoiceField(choices=task_choices, widget=UnfoldAdminSelectWidget())

    class Meta:
        model = PeriodicTask
        fields = ("name", "task", "enabled", "interval", "crontab", "start_time", "kwargs")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        task: Any = self.fields["task"]
        task.disabled = came_with_the_product(self.instance)
        if task.disabled:
            # Another version's too, while both run.
            task.choices = [(self.instance.task, self.instance.task)]


@admin.register(PeriodicTask)
class ScheduleAdmin(ModelAdmin):
    form = ScheduleForm
    list_display = ("name", "task", "words", "on", "last_run_at")
    list_filter = ("enabled",)
    list_select_related = ("interval", "crontab", "solar", "clocked")
    list_fullwidth = True
    search_fields = ("name", "task")
    ordering = ("name",)
    readonly_fields = ("shipped", "last_run_at")
    fieldsets = (
        (None, {"fields": ("name", "task", "enabled")}),
        ("When", {"fields": ("interval", "crontab", "start_time", "shipped", "last_run_at")}),
        ("Arguments", {"fields": ("kwargs",), "classes": ("collapse",)}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "name") if came_with_the_product(obj) else self.readonly_fields

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False if came_with_the_product(obj) else bool(super().has_delete_permission(request, obj))

    @display(description="Schedule")
    def words(self, row: PeriodicTask) -> str:
        return in_words(row)

    @display(description="State", label={"on": "success", "off": "warning"})
    def on(self, row: PeriodicTask) -> str:
        return "on" if row.enabled else "off"

    @display(description="As shipped")
    def shipped(self, row: PeriodicTask) -> str:
        return Job.objects.filter(name=row.name).values_list("shipped", flat=True).first() or "nothing, it is your own"


class PartAdmin(ModelAdmin):
    """What schedules are made of; not in the sidebar, and reached from a schedule's page."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Several schedules may share one: a schedule is changed by choosing another.
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(IntervalSchedule)
class IntervalAdmin(PartAdmin):
    list_display = ("__str__",)


@admin.register(CrontabSchedule)
class CrontabAdmin(PartAdmin):
    list_display = ("__str__", "human_readable")
    fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone")

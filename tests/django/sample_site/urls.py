"""The pages: Django's admin, and an admin site of the project's own."""

from django.contrib import admin
from django.urls import path

from procrastinate.contrib.django.admin import ProcrastinateJobAdmin, ProcrastinateWorkerAdmin
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker

office = admin.AdminSite(name="office")
office.register(ProcrastinateJob, ProcrastinateJobAdmin)
office.register(ProcrastinateWorker, ProcrastinateWorkerAdmin)

urlpatterns = [path("admin/", admin.site.urls), path("office/", office.urls)]

"""Django's pages. API paths never come here: `asgi` routes them to the gateway first."""

from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]

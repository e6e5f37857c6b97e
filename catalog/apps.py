"""Django's name for this app."""

from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "catalog"

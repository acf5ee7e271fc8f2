"""Registration of the application."""

from django.apps import AppConfig


class NotebookConfig(AppConfig):
    """The notebook application."""

    name = "notebook"

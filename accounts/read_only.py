"""Admin pages of rows that nobody writes by hand."""

from typing import Any

from django.http import HttpRequest


class ReadOnly:
    """Put before a page's or an inline's own base: its rows are seen, and neither made, changed nor deleted there."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody may."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody may."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody may."""
        return False

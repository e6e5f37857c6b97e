"""A form field for what the database holds as an integer and people write otherwise, such as dollars."""

from collections.abc import Callable
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextInputWidget


class IntegerAsText(forms.CharField):
    """A column's integer as people write it: SHOWN makes the text, READ the integer (or a ValueError that says why)."""

    def __init__(
        self, shown: Callable[[int], str], read: Callable[[str], int], placeholder: str, **kwargs: Any
    ) -> None:
        self.shown, self.read = shown, read
        attributes = {"inputmode": "decimal", "placeholder": placeholder, "autocomplete": "off"}
        super().__init__(widget=UnfoldAdminTextInputWidget(attrs=attributes), **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return self.shown(value) if isinstance(value, int) else value

    def to_python(self, value: Any) -> Any:
        if value in self.empty_values:
            return None
        try:
            return self.read(str(value).strip())
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(data) != initial)
        except forms.ValidationError:
            return True

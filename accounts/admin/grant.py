"""The admin's page of grants: who may call what."""

from django import forms
from django.contrib import admin
from unfold.admin import ModelAdmin
from unfold.decorators import display

from accounts.admin.key import GLOBS_HELP
from accounts.lines import HeadersField, ListField
from accounts.models import Grant

SUBJECTS_HELP = (
    "One to a line: everyone, user:ada@example.com, group:research, tag:project=search (a key's label) or key:17."
)


class GrantForm(forms.ModelForm):  # type: ignore[type-arg]
    """Who (subjects) may do what (role) with which models (globs)."""

    subjects = ListField(label="Who", help_text=SUBJECTS_HELP)
    model_globs = ListField(label="Models", required=False, help_text=GLOBS_HELP)
    quotas = ListField(required=False, rows=2, help_text="Names of quotas, one to a line.")
    add_headers = HeadersField(
        label="Added headers", required=False, rows=2, help_text="Sent to the upstream. Name: value, one to a line."
    )

    class Meta:
        model = Grant
        fields = ("name", "enabled", "subjects", "role", "model_globs", "quotas", "hooks", "add_headers")


@admin.register(Grant)
class GrantAdmin(ModelAdmin):
    form = GrantForm
    list_display = ("__str__", "who", "role", "which", "enabled", "source")
    list_filter = ("enabled", "role", "source")
    search_fields = ("name", "subjects", "model_globs")
    readonly_fields = ("source",)
    ordering = ("pk",)
    fieldsets = (
        (None, {"fields": ("name", "enabled", "subjects", "role", "model_globs")}),
        ("More", {"fields": ("quotas", "add_headers", "hooks", "source"), "classes": ("collapse",)}),
    )

    @display(description="Who")
    def who(self, grant: Grant) -> str:
        return ", ".join(grant.subjects)

    @display(description="Models")
    def which(self, grant: Grant) -> str:
        return ", ".join(grant.model_globs) or "none"

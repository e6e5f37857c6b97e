"""The admin's pages of who: users, organizations, groups, keys and grants.

Invariants: a key's clear text appears once, in the message after it was made (a cookie of that browser carries it, no
row does); no page shows a digest. Users, organizations and keys are switched off, never deleted, for usage names them.
"""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group as PermissionGroup
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, BaseDialogForm, UserChangeForm, UserCreationForm

from accounts import keys, rotation
from accounts.leaks import admin as leaks_admin
from accounts.lines import HeadersField, LabelsField, ListField, NetworksField
from accounts.models import APIKey, Grant, Group, Membership, Organization, User

__all__ = ["leaks_admin"]

# Permissions are given to staff directly: two kinds of group on one page would be mixed up.
admin.site.unregister(PermissionGroup)

GLOBS_HELP = (
    "One to a line, as public ids or provider/id: * is one segment, ** is any number. "
    "Such as openai/gpt-4o, anthropic/* or **."
)
SUBJECTS_HELP = (
    "One to a line: everyone, user:ada@example.com, group:research, tag:project=search (a key's label) or key:17."
)


class NewUserForm(UserCreationForm):
    """A new user: an e-mail, and a password unless it signs in otherwise."""

    class Meta:
        model = User
        fields = ("email",)


class ChangeUserForm(UserChangeForm):
    """An existing user; the password has a page of its own."""

    class Meta:
        model = User
        exclude = ()


class MembershipInline(TabularInline):
    model = Membership
    extra = 0
    hide_title = True
    autocomplete_fields = ("user", "organization")
    fields = ("organization", "user", "role")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("organization", "role") if self.parent_model is User else ("user", "role")

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("organization",) if self.parent_model is User else ("user",)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    form = ChangeUserForm
    add_form = NewUserForm
    change_password_form = AdminPasswordChangeForm
    ordering = ("email",)
    search_fields = ("email", "name")
    list_display = ("email", "name", "is_active", "is_staff", "live_keys", "last_login", "created_at")
    list_filter = ("is_active", "is_staff", "is_superuser", "aperture_groups")
    readonly_fields = ("last_login", "created_at")
    filter_horizontal = ("user_permissions",)
    inlines: ClassVar[list[Any]] = [MembershipInline]
    fieldsets = (
        (None, {"fields": ("email", "name", "password", "is_active")}),
        ("The admin", {"fields": ("is_staff", "is_superuser", "user_permissions"), "classes": ("collapse",)}),
        ("Times", {"fields": ("last_login", "created_at")}),
    )
    add_fieldsets = (
        (
            None,
            {"fields": ("email", "usable_password", "password1", "password2")},
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        live = APIKey.objects.live(timezone.now()).values("pk")
        return super().get_queryset(request).annotate(key_count=Count("keys", filter=Q(keys__in=live)))

    @display(description="Live keys", ordering="key_count")
    def live_keys(self, user: Any) -> int:
        return int(user.key_count)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        # Whoever may edit users must not be able to make an operator, or to become one by another's password.
        powers = () if request.user.is_superuser else ("is_staff", "is_superuser", "user_permissions")
        return (*self.readonly_fields, *powers)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if isinstance(obj, User) and (obj.is_superuser or obj.is_staff) and not request.user.is_superuser:
            return bool(obj.pk == request.user.pk and super().has_change_permission(request, obj))
        return bool(super().has_change_permission(request, obj))

    def get_inlines(self, request: HttpRequest, obj: User | None) -> list[Any]:
        return self.inlines if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False


@admin.register(Organization)
class OrganizationAdmin(ModelAdmin):
    list_display = ("name", "is_personal", "is_active", "member_count", "created_at")
    list_filter = ("is_active", ("personal_user", admin.EmptyFieldListFilter))
    search_fields = ("name", "members__email")
    readonly_fields = ("personal_user", "created_at")
    fields = ("name", "is_active", "personal_user", "created_at")
    inlines: ClassVar[list[Any]] = [MembershipInline]
    ordering = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Organization]:
        return super().get_queryset(request).annotate(members_count=Count("memberships", distinct=True))

    @display(description="Personal", boolean=True)
    def is_personal(self, organization: Organization) -> bool:
        return organization.personal_user_id is not None

    @display(description="Members", ordering="members_count")
    def member_count(self, organization: Any) -> int:
        return int(organization.members_count)

    def has_delete_permission(self, request: HttpRequest, obj: Organization | None = None) -> bool:
        return False


@admin.register(Group)
class GroupAdmin(ModelAdmin):
    list_display = ("name", "subject", "member_count")
    search_fields = ("name", "members__email")
    autocomplete_fields = ("members",)
    ordering = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        return super().get_queryset(request).annotate(members_count=Count("members", distinct=True))

    @display(description="In grants")
    def subject(self, group: Group) -> str:
        return f"group:{group.name}"

    @display(description="Members", ordering="members_count")
    def member_count(self, group: Any) -> int:
        return int(group.members_count)


class KeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """A key's name and bounds. Its organization may be left out: the user's own."""

    labels = LabelsField(required=False, help_text="For cost: name=value, one to a line, such as project=search.")
    model_globs = ListField(label="Models", required=False, help_text=f"{GLOBS_HELP} Empty means all that is granted.")
    ip_allowlist = NetworksField(
        label="Addresses",
        required=False,
        help_text="One to a line, such as 203.0.113.0/24. Empty means any.",
    )
    scopes = ListField(
        required=False, rows=2, help_text="One to a line, such as billing:read. Empty means all but billing:write."
    )

    class Meta:
        model = APIKey
        fields = ("user", "organization", "name", "model_globs", "labels", "ip_allowlist", "scopes", "expires_at")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "organization" in self.fields:
            self.fields["organization"].required = False
            self.fields["organization"].help_text = "Empty means the user's own."

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        user = data.get("user")
        if user and not data.get("organization"):
            data["organization"] = user.personal_organization
        elif user and not Membership.objects.filter(user=user, organization=data["organization"]).exists():
            self.add_error("organization", f"{user} is not a member of it; add the user to the organization first.")
        return data


# Whoever has left an organization calls no more with its keys (`gateway.callers` asks the same).
OF_MEMBER = Exists(Organization.objects.filter(pk=OuterRef("organization"), personal_user=OuterRef("user"))) | Exists(
    Membership.objects.filter(user=OuterRef("user"), organization=OuterRef("organization"))
)


class KeyStateFilter(admin.SimpleListFilter):
    """Keys that are accepted, and those that are not, by the reason."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("live", "Live"), ("off", "Owner off or left"), ("expired", "Expired"), ("revoked", "Revoked")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        now = timezone.now()
        accepted = Q(user__is_active=True, organization__is_active=True, of_member=True)
        if self.value() in ("live", "off"):
            unexpired = queryset.filter(pk__in=APIKey.objects.live(now).values("pk"))
            return unexpired.filter(accepted if self.value() == "live" else ~accepted)
        if self.value() == "expired":
            return queryset.filter(revoked_at=None, expires_at__lte=now)
        return queryset.exclude(revoked_at=None) if self.value() == "revoked" else queryset


def confirmation(title: str, description: str, button: str) -> dict[str, Any]:
    """Return the dialog of an action that is confirmed first."""
    return {"title": title, "description": description, "form_class": BaseDialogForm, "form_submit_text": button}


def show_once(request: HttpRequest, clear: str) -> None:
    """Put a key's clear text into the next page that this browser sees."""
    messages.warning(
        request,
        format_html(
            "Copy this key now, it is not shown again: "
            '<code class="select-all break-all font-mono font-semibold" data-key>{}</code>',
            clear,
        ),
    )


@admin.register(APIKey)
class KeyAdmin(ModelAdmin):
    form = KeyForm
    list_display = ("masked", "name", "user", "organization", "state", "expires_at", "last_used_at", "created_at")
    list_display_links = ("masked", "name")
    list_filter = (KeyStateFilter, "created_at", "last_used_at")
    list_select_related = ("user", "organization")
    list_fullwidth = True
    search_fields = ("name", "display", "user__email", "organization__name")
    autocomplete_fields = ("user", "organization")
    ordering = ("-created_at",)
    actions_detail = ("reset", "revoke")
    actions_row = ("reset", "revoke")
    add_fieldsets = (
        (None, {"fields": ("user", "organization", "name", "expires_at")}),
        ("Bounds", {"fields": ("model_globs", "ip_allowlist", "scopes")}),
        ("Cost", {"fields": ("labels",)}),
    )
    fieldsets = (
        (None, {"fields": ("display", "state", "user", "organization", "name", "expires_at")}),
        ("Bounds", {"fields": ("model_globs", "ip_allowlist", "scopes")}),
        ("Cost", {"fields": ("labels",)}),
        ("Times", {"fields": ("created_at", "last_used_at", "revoked_at")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[APIKey]:
        return super().get_queryset(request).annotate(of_member=OF_MEMBER)

    def get_readonly_fields(self, request: HttpRequest, obj: APIKey | None = None) -> tuple[str, ...]:
        # Usage and the wallet follow the owner: a key never moves to another.
        always = ("display", "state", "created_at", "last_used_at", "revoked_at")
        return (*always, "user", "organization") if obj else always

    def has_delete_permission(self, request: HttpRequest, obj: APIKey | None = None) -> bool:
        return False

    @display(description="Key", ordering="display")
    def masked(self, key: APIKey) -> str:
        return format_html('<span class="whitespace-nowrap font-mono">{}</span>', key.display)

    @display(
        description="State",
        label={"live": "success", "expired": "warning", "revoked": "danger", "owner off": "warning", "left": "warning"},
    )
    def state(self, key: Any) -> str:
        if key._state.adding:
            return "new"
        if key.revoked_at:
            return "revoked"
        if key.expires_at and key.expires_at <= timezone.now():
            return "expired"
        if not (key.user.is_active and key.organization.is_active):
            return "owner off"
        return "live" if key.of_member else "left"

    def save_model(self, request: HttpRequest, obj: APIKey, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        show_once(request, keys.issue(obj))

    @action(
        description="Reset key",
        icon="autorenew",
        permissions=["change"],
        dialog=confirmation(
            "Reset this key?",
            "A new key takes its place, with the same name and bounds. The old one is refused everywhere in under a "
            "second.",
            "Reset",
        ),
    )
    def reset(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        key = self.get_object(request, object_id)
        if key is None:
            messages.error(request, f"There is no key {object_id}.")
        elif key.revoked_at:
            messages.error(request, f"{key} is revoked, for good; make a new key.")
        else:
            before = key.display
            show_once(request, rotation.reset(key))
            self.log_change(request, key, f"Reset: {before} is refused.")
        return HttpResponse(headers={"HX-Redirect": reverse("admin:accounts_apikey_changelist")})

    @action(
        description="Revoke",
        icon="block",
        permissions=["change"],
        dialog=confirmation(
            "Revoke this key?",
            "It is refused everywhere in under a second, for good. Running streams finish.",
            "Revoke",
        ),
    )
    def revoke(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        key = self.get_object(request, object_id)
        if key is None:
            messages.error(request, f"There is no key {object_id}.")
        elif key.revoked_at:
            messages.info(request, f"{key} was revoked before.")
        else:
            key.revoke(timezone.now())
            self.log_change(request, key, "Revoked.")
            messages.success(request, f"{key} is revoked.")
        return HttpResponse(headers={"HX-Redirect": reverse("admin:accounts_apikey_changelist")})


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

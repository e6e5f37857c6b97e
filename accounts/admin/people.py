"""The admin's pages of users, organizations and groups.

Users and organizations are switched off, never deleted, for usage names them.
"""

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group as PermissionGroup
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts.models import APIKey, Group, Membership, Organization, User

# Permissions are given to staff directly: two kinds of group on one page would be mixed up.
admin.site.unregister(PermissionGroup)


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
    fields = ("name", "is_active", "key_rotation_days", "personal_user", "created_at")
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

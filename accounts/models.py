"""Users, organizations, groups, API keys, grants, and the version row that tells every process of a change.

Invariants, kept by the database: an e-mail belongs to one user whatever its case; every user has at most one
personal organization; a key belongs to exactly one organization and its digest is unique; a change of anything that
decides who may call what bumps `Version` when its transaction commits (migration 0002, triggers).
"""

from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import IntegrityError, models, transaction
from django.db.models.functions import Lower, Now
from django.utils import timezone

from accounts import subjects

# Whoever changes a key by hand needs a day to do it.
ROTATION_DAYS_MIN = 2


class UserManager(BaseUserManager["User"]):
    """Make users by e-mail."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Make a user and its personal organization; no password means that it cannot sign in with one."""
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def ensure(self, email: str) -> "User":
        """Return the user of this e-mail, made now if there is none; two callers at once get the same one."""
        existing = self.filter(email__iexact=email.strip()).first()
        if existing:
            return existing
        try:
            with transaction.atomic():
                return self.create_user(email)
        except IntegrityError:
            return self.get(email__iexact=email.strip())

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Make an operator with every permission."""
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    """A person or a service, known by its e-mail."""

    email = models.EmailField(max_length=254, unique=True)
    name = models.CharField(max_length=150, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField("may use the admin", default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_once")]

    def __str__(self) -> str:
        return self.email

    @property
    def personal_organization(self) -> "Organization":
        """The organization that is this user's own."""
        return self.personal

    def clean(self) -> None:
        self.email = self.email.strip().lower()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, and give a new user its personal organization in the same transaction."""
        is_new = self._state.adding
        with transaction.atomic():
            super().save(*args, **kwargs)
            if is_new:
                organization = Organization.objects.create(name=self.email, personal_user=self)
                Membership.objects.create(organization=organization, user=self, role=Membership.OWNER)


class Organization(models.Model):
    """Owns the wallet, the keys and the usage."""

    name = models.CharField(max_length=254)
    personal_user = models.OneToOneField(User, null=True, blank=True, on_delete=models.PROTECT, related_name="personal")
    is_active = models.BooleanField(default=True)
    key_rotation_days = models.PositiveSmallIntegerField(
        "rotate keys after days",
        null=True,
        blank=True,
        validators=[MinValueValidator(ROTATION_DAYS_MIN)],
        help_text="The oldest that a secret of its keys may become; empty means any age.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    members = models.ManyToManyField(User, through="Membership", related_name="organizations")

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A user's place in an organization."""

    OWNER, ADMIN, MEMBER = "owner", "admin", "member"
    ROLES = [(OWNER, "owner"), (ADMIN, "admin"), (MEMBER, "member")]

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=ROLES, default=MEMBER)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "user"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization} ({self.role})"


class Group(models.Model):
    """Users that grants name together, as `group:NAME`."""

    name = models.CharField(max_length=150, unique=True)
    members = models.ManyToManyField(User, blank=True, related_name="aperture_groups")

    def __str__(self) -> str:
        return self.name


class Sourced(models.Model):
    """A row that remembers what brought it.

    An import disables only what a file brought; rows from the environment are made once and never enabled again by a
    restart. The price data brings models and targets for a provider of any source: theirs is `seed`.
    """

    FILE, ENVIRONMENT, ADMIN, DEMO, SEED = "file", "environment", "admin", "demo", "seed"

    source = models.CharField(max_length=16, default=ADMIN, editable=False)
    enabled = models.BooleanField(default=True)

    class Meta:
        abstract = True


class KeyQuerySet(models.QuerySet["APIKey"]):
    """Sets of keys."""

    def managed_by(self, user: User) -> "KeyQuerySet":
        """The keys that this user may list, reset and revoke: the own ones, and all of the organizations it owns.

        Of an organization that the user has left, or that is switched off, none. Administrators of one have their own
        keys only: a key carries its user's grants.
        """
        places = Membership.objects.filter(user=user, organization__is_active=True)
        runs = places.filter(role=Membership.OWNER).values("organization")
        personal = models.Q(organization__personal_user=user, organization__is_active=True)
        own = models.Q(user=user, organization__in=places.values("organization"))
        return self.filter(personal | own | models.Q(organization__in=runs))

    def live(self, now: datetime) -> "KeyQuerySet":
        """The keys that would be accepted at this time, their owners' state apart."""
        return self.filter(revoked_at=None).filter(models.Q(expires_at=None) | models.Q(expires_at__gt=now))


class APIKey(models.Model):
    """A caller's key: only its secret's digest is kept (`accounts.keys` makes and reads them).

    The row is the key: its limits, budgets, grants and usage are under its id, and stay when `accounts.rotation` gives
    it another secret.
    """

    LEAKED = "leaked"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="keys")
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="keys", help_text="Whose grants it carries.")
    name = models.CharField(max_length=150, default="default")
    display = models.CharField(max_length=16, editable=False)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    pepper_version = models.PositiveSmallIntegerField(default=1, editable=False)
    labels = models.JSONField(default=dict, blank=True, help_text='For cost, such as {"project": "search"}.')
    scopes = ArrayField(models.CharField(max_length=64), default=list, blank=True)
    model_globs = ArrayField(
        models.CharField(max_length=256), default=list, blank=True, help_text="Globs; empty means all that is granted."
    )
    ip_allowlist = ArrayField(
        models.CharField(max_length=64), default=list, blank=True, help_text="Networks; empty means any address."
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    rotate_after_days = models.PositiveSmallIntegerField(
        "rotate after days",
        null=True,
        blank=True,
        validators=[MinValueValidator(ROTATION_DAYS_MIN)],
        help_text="The oldest that its secret may become; empty means what its organization says.",
    )
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    issued_at = models.DateTimeField("secret made at", default=timezone.now, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_for = models.CharField(max_length=16, blank=True, default="", editable=False)
    encrypted_copy = models.BinaryField(null=True, editable=False)

    objects = KeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        verbose_name_plural = "API keys"

    def __str__(self) -> str:
        return f"{self.name} ({self.display})"

    def state(self, now: datetime) -> str:
        """Return in a word how the key itself stands; whether its owner may call is another matter."""
        if self.revoked_at is not None:
            return self.revoked_for or "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "rotating" if self.accepted_former(now) else "live"

    def accepted_former(self, now: datetime) -> "RetiredSecret | None":
        """Return the former secret that is still accepted, if one is."""
        retired = self.retired.all()
        return next((each for each in retired if each.accepted_until and each.accepted_until > now), None)

    def revoke(self, now: datetime, reason: str = "") -> None:
        """Refuse this key, and a former secret of it too, from now on, everywhere in under a second."""
        self.revoked_at = now
        self.revoked_for = reason
        self.save(update_fields=["revoked_at", "revoked_for"])


class RetiredSecret(models.Model):
    """A secret that a key once had. It is accepted until `accepted_until`, where there is one; never otherwise."""

    RESET, AGE, LEAKED = "reset", "age", "leaked"

    key = models.ForeignKey(APIKey, on_delete=models.CASCADE, related_name="retired")
    display = models.CharField(max_length=16)
    digest = models.BinaryField(max_length=32, unique=True)
    issued_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True)
    retired_at = models.DateTimeField()
    reason = models.CharField(max_length=16)
    accepted_until = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "former secret"

    def __str__(self) -> str:
        return f"{self.display}, {self.reason} at {self.retired_at:%Y-%m-%d %H:%M}"


class Handover(models.Model):
    """A new secret that waits for the key's owner (`accounts.handover`). One that was fetched or ran out is erased."""

    key = models.OneToOneField(APIKey, on_delete=models.CASCADE, related_name="handover")
    sealed = models.BinaryField(null=True)
    left_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    collected_at = models.DateTimeField(null=True)
    collected_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(collected_at=None) | models.Q(sealed=None), name="handover_erased_once_collected"
            )
        ]

    def __str__(self) -> str:
        return f"{self.key}, until {self.expires_at:%Y-%m-%d %H:%M}"


class KeyNotice(models.Model):
    """A mail about a key that was sent: once for each moment that it speaks of."""

    key = models.ForeignKey(APIKey, on_delete=models.CASCADE, related_name="notices")
    kind = models.CharField(max_length=32)
    due_at = models.DateTimeField()
    sent_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "kind", "due_at"], name="key_notice_once")]

    def __str__(self) -> str:
        return f"{self.key}: {self.kind}"


class Grant(Sourced):
    """Who may call what. Additive, and nothing is allowed without one."""

    ADMIN, USER = "admin", "user"
    ROLES = [("", "none"), (USER, "user"), (ADMIN, "admin")]

    name = models.CharField(max_length=150, blank=True)
    subjects = ArrayField(
        models.CharField(max_length=254, validators=[subjects.validate]),
        help_text="everyone, user:EMAIL, group:NAME, tag:LABEL or key:ID, separated by commas.",
    )
    role = models.CharField(max_length=16, choices=ROLES, blank=True, default="")
    model_globs = ArrayField(
        models.CharField(max_length=256),
        default=list,
        blank=True,
        help_text="Globs of public ids or provider/id: * is one segment, ** is any number.",
    )
    quotas = ArrayField(models.CharField(max_length=150), default=list, blank=True)
    hooks = models.JSONField(default=list, blank=True)
    add_headers = models.JSONField(default=dict, blank=True)

    def __str__(self) -> str:
        return self.name or f"{', '.join(self.subjects)} → {self.role or 'no role'} {', '.join(self.model_globs)}"


class Version(models.Model):
    """One row. `catalog` counts changes of what can be called, `keys` those of who calls. Triggers write it."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    catalog = models.BigIntegerField(default=0)
    keys = models.BigIntegerField(default=0)
    changed_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="version_one_row")]

    def __str__(self) -> str:
        return f"catalog {self.catalog}, keys {self.keys}"


class Leak(models.Model):
    """A key that was found where others can read it: once for each key and place, and never in clear text.

    A row without a key is a false positive: it has the form of a key, and was never issued here. What was reported
    stays as it is, by the database's own rule (migration 0004); what changes is what was done about it.
    """

    GITHUB, TRUFFLEHOG, COMMAND, ADMIN, SCAN = "github", "trufflehog", "command", "admin", "scan"
    CHANNELS = [
        (GITHUB, "GitHub"),
        (TRUFFLEHOG, "TruffleHog"),
        (COMMAND, "an operator's command"),
        (ADMIN, "an operator"),
        (SCAN, "an operator's scan"),
    ]

    # SHA-256 of the key's digest and the place.
    identity = models.BinaryField(max_length=32, unique=True, editable=False)
    key = models.ForeignKey(APIKey, verbose_name="API key", null=True, on_delete=models.PROTECT, related_name="leaks")
    display = models.CharField("key", max_length=16)
    url = models.CharField("where", max_length=2000, blank=True)
    source = models.CharField("kind of place", max_length=32, blank=True)
    channel = models.CharField("reported by", max_length=16, choices=CHANNELS)
    reporter = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    reported_at = models.DateTimeField()
    was_live = models.BooleanField("was accepted until then", default=False)
    replaced_at = models.DateTimeField(null=True)
    told_at = models.DateTimeField("owner told at", null=True)
    # When a worker acts on it next; none where nothing is left to do.
    due_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        indexes = [models.Index(fields=["due_at"], name="leak_due", condition=models.Q(due_at__isnull=False))]

    def __str__(self) -> str:
        return f"Leak of {self.display}, {self.get_channel_display()} at {self.reported_at:%Y-%m-%d %H:%M}"

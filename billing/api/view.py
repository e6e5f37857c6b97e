"""The base of every view: which organization is asked about, and whether this caller may.

A key speaks for its own organization. A browser names one by `?organization=ID`, its own by default. An organization
that the caller is no member of does not exist for it (404). What a role or a key's scopes do not cover is 403.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django.db import connection, transaction
from django.db.models import Q
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.acceptance import INVALID_KEY, Accepted
from accounts.models import Membership, Organization, User
from billing.api.authentication import KeyAuthentication, SessionAuthentication
from billing.api.bodies import BODY_BYTES_MAX
from billing.api.errors import REQUEST_ID_HEADER, Fault, new_request_id

READ, WRITE = "billing:read", "billing:write"
KEYS_READ, KEYS_WRITE = "keys:read", "keys:write"
# What a key without any scopes has not.
NAMED_ONLY = (WRITE, KEYS_WRITE)
EVERYBODY = (Membership.OWNER, Membership.ADMIN, Membership.MEMBER)
MANAGERS = (Membership.OWNER, Membership.ADMIN)
OWNERS = (Membership.OWNER,)
SAFE = ("GET", "HEAD")
READ_TIMEOUT_MS = 5_000
PK_MAX = 2**63 - 1


class View(APIView):
    """A view with a request id, in JSON, for anybody."""

    http_method_names = ["get", "head", "post", "patch"]
    request_id = ""

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        """Name the request before anything can fail."""
        self.request_id = new_request_id()
        if "HTTP_TRANSFER_ENCODING" in request.META:
            # REST framework takes a body without a length for none; the parser has its own bound.
            request.META["CONTENT_LENGTH"] = str(BODY_BYTES_MAX)
        return super().initialize_request(request, *args, **kwargs)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Name the request in its answer, which no cache keeps."""
        response[REQUEST_ID_HEADER] = self.request_id
        if not response.has_header("Cache-Control"):
            response["Cache-Control"] = "private, no-store"
        return super().finalize_response(request, response, *args, **kwargs)


class Nothing(View):
    """Every address below the API's that is none."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Raise Fault whatever the method is."""
        raise Fault("not_found", f"{request.path} is no address of the billing API; docs/billing-api.md lists them.")


class CallerView(View):
    """A view for the holder of a key or a browser's session, whose subclass names the organization that it means."""

    authentication_classes = (KeyAuthentication, SessionAuthentication)
    # What a key needs to read, and to write.
    scopes: ClassVar[tuple[str, str]] = (READ, WRITE)
    caller: User
    # None for a browser.
    key: Accepted | None
    organization: Organization

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate; raise Fault for nobody, and for a key whose scopes do not cover the method."""
        super().initial(request, *args, **kwargs)
        if not isinstance(request.user, User):
            raise Fault("invalid_api_key", f"{INVALID_KEY} Browsers sign in first.")
        self.caller = request.user
        self.key = request.auth if isinstance(request.auth, Accepted) else None
        if request.method not in self.allowed_methods:
            self.http_method_not_allowed(request)
        if self.key is not None:
            check_scope(self.key, self.scopes[request.method not in SAFE])


class OrganizationView(CallerView):
    """A view on one organization's money."""

    # Who may read here; only owners ever write.
    readers: ClassVar[tuple[str, ...]] = EVERYBODY

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate, find the organization, and raise Fault for whoever may not."""
        super().initial(request, *args, **kwargs)
        self.organization, role = find(self.caller, self.key, request.query_params.get("organization"))
        roles = self.readers if request.method in SAFE else OWNERS
        if role not in roles:
            takes = " or ".join(roles)
            raise Fault("role_required", f"This takes the role {takes} in the organization; yours is {role}.")


def find(user: User, key: Accepted | None, wanted: str | None) -> tuple[Organization, str]:
    """Return the organization that is meant and the user's role there; raise Fault 404."""
    if wanted is not None and not (wanted.isascii() and wanted.isdecimal() and int(wanted[:20]) <= PK_MAX):
        raise unknown()
    organization_id = int(wanted) if wanted is not None else None
    if key is not None:
        if organization_id not in (None, key.organization_id):
            raise unknown()
        organization_id = key.organization_id
    meant = Q(pk=organization_id) if organization_id is not None else Q(personal_user=user)
    organization = Organization.objects.filter(meant, is_active=True).first()
    if organization is None:
        raise unknown()
    if organization.personal_user_id == user.pk:
        return organization, Membership.OWNER
    membership = Membership.objects.filter(organization=organization, user=user).first()
    if membership is None:
        raise unknown()
    return organization, membership.role


def unknown() -> Fault:
    """Return the fault of an organization that does not exist, for this caller at least."""
    return Fault("not_found", "You are in no such organization.", param="organization")


def check_scope(key: Accepted, scope: str) -> None:
    """Raise Fault unless the key's scopes cover this one.

    A key without any scopes has all but the writing ones: what moves money or changes keys must be named.
    """
    if scope not in key.scopes and (key.scopes or scope in NAMED_ONLY):
        raise Fault("scope_required", f"This key lacks the scope {scope}; use one that has it.")


@contextmanager
def bounded() -> Iterator[None]:
    """Let no statement of a read run for longer than five seconds; `errors` says what to do then."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {READ_TIMEOUT_MS}")
        yield

"""Who reads a page, of which organization: the own one, or one that the address names and the reader is a member of."""

from dataclasses import dataclass

from django.http import Http404, HttpRequest

from accounts.models import Membership, Organization, User
from billing.api import view
from billing.api.errors import Fault


@dataclass(frozen=True)
class Reader:
    """A person, and the organization that the page is about."""

    user: User
    organization: Organization
    role: str
    organizations: list[Organization]

    @property
    def oversees(self) -> bool:
        """Whether all of the organization's usage and its balance are shown, and not the own requests alone."""
        return self.role in view.MANAGERS

    @property
    def query(self) -> str:
        """What an address needs to stay with this organization."""
        return "" if self.organization.personal_user_id == self.user.pk else f"?organization={self.organization.pk}"


def of(request: HttpRequest) -> Reader:
    """Return the reader of a page for those who are signed in; raise Http404 for an organization that is not theirs."""
    user = signed_in(request)
    try:
        organization, role = view.find(user, None, request.GET.get("organization"))
    except Fault as fault:
        raise Http404(fault.message) from None
    places = Membership.objects.filter(user=user, organization__is_active=True).select_related("organization")
    return Reader(user, organization, role, [place.organization for place in places.order_by("organization_id")])


def signed_in(request: HttpRequest) -> User:
    """Return who is signed in; raise Http404 for nobody, whom `login_required` has sent to /login before."""
    if not isinstance(request.user, User):
        raise Http404
    return request.user

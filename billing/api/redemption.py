"""POST redeem: a code becomes credit."""

from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.client_address import Address
from accounts.models import User
from billing import redeem
from billing.api import balance, transfers
from billing.api.authentication import address_of
from billing.api.errors import Fault
from billing.api.idempotency import once
from billing.api.queries import Strict, sent
from billing.api.view import OrganizationView
from billing.models import Transfer

RETRY_AFTER_S = 60


class RedeemBody(Strict):
    """A code as it was printed; hyphens, spaces and case do not matter."""

    code = serializers.CharField(max_length=64)


class Redemption(OrganizationView):
    """The redemption of a code."""

    def post(self, request: Request) -> Any:
        """Credit the organization, and return the ledger's line and the balance."""
        code = sent(RedeemBody, request)["code"]
        address = address_of(request)

        def credit() -> Response:
            line = redeemed(self.caller, self.organization.pk, code, address)
            return Response(
                {
                    "transfer": transfers.shape(line, self.organization.pk, {}),
                    "balance": balance.shape(balance.wallet_of(self.organization.pk)),
                }
            )

        return once(self, request, credit)


def redeemed(user: User, organization_id: int, code: str, address: Address | None) -> Transfer:
    """Return the transfer of a code; raise Fault 400, 429 or 503."""
    try:
        line = redeem.redeem(user, organization_id, code, address=address, now=timezone.now())
    except redeem.TooManyTries as error:
        raise Fault("too_many_tries", str(error), retry_after_s=int(error.retry_after.total_seconds())) from None
    except redeem.NotCounted as error:
        raise Fault("limits_unavailable", str(error), retry_after_s=RETRY_AFTER_S) from error
    except redeem.NotRedeemed as error:
        raise Fault("invalid_parameter", str(error), param="code") from None
    # The time of a line is the database's.
    line.refresh_from_db()
    return line

"""An operator's browser, one of somebody who may only look, and a wallet with ten dollars.

Models are imported where they are used: this file may be loaded before the settings.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django.test import Client

    from accounts.models import User
    from billing.models import Wallet


@pytest.fixture
def operator(db: None) -> "User":
    from accounts.models import User

    return User.objects.create_superuser("alice@example.com", "alice's long password")


@pytest.fixture
def client(operator: "User") -> "Client":
    from tests.installation import signed_in

    return signed_in(operator)


@pytest.fixture
def onlooker(db: None) -> "Client":
    """A browser of somebody who may see every page of money and change nothing."""
    from django.contrib.auth.models import Permission

    from accounts.models import User
    from tests.installation import signed_in

    user = User.objects.create_user("carol@example.com", is_staff=True)
    views = Permission.objects.filter(content_type__app_label="billing", codename__startswith="view_")
    user.user_permissions.set(views)
    return signed_in(user)


@pytest.fixture
def wallet(db: None) -> "Wallet":
    from accounts.models import Organization
    from billing import ledger, money
    from billing.models import House, Kind, Wallet

    organization = Organization.objects.create(name="Acme")
    ledger.credit(organization.pk, money.of_dollars(10), Kind.TOP_UP, House.CLEARING, reference="cs_1")
    return Wallet.objects.get(pk=organization.pk)

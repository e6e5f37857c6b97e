"""The fake Stripe and the shop before it. Nothing of Django's is imported here: this file is read before its set-up."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.billing.payments.shop import Shop
    from tests.stripe.server import FakeStripe


@pytest.fixture
def fake(settings: Any) -> Iterator["FakeStripe"]:
    from billing.payments import stripe_api
    from tests.stripe.server import KEY, SECRET, running

    with running() as (fake, server):
        settings.STRIPE_SECRET_KEY = KEY
        settings.STRIPE_WEBHOOK_SECRETS = [SECRET]
        settings.STRIPE_API_BASE = server.url
        yield fake
    stripe_api._client.cache_clear()


@pytest.fixture
def shop(fake: "FakeStripe", db: None) -> Iterator["Shop"]:
    """A shop whose books are compared with each other when the test is over."""
    from django.utils import timezone

    from accounts.models import User
    from billing import reconcile
    from tests.billing.payments.shop import Shop
    from tests.installation import signed_in

    user = User.objects.create_user("alice@example.com", name="Alice")
    yield Shop(fake, user, signed_in(user))
    assert [each for each in reconcile.run(timezone.now()) if not each.information] == []

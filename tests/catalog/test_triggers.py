"""A price stays as it was written, whoever writes, for usage names it."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from catalog.models import Price, Target
from tests.installation import Installation, populate


@pytest.fixture
def installation() -> Installation:
    return populate()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change",
    [
        "input = input + 1",
        "cache_read = NULL",
        "effective_at = effective_at - interval '1 day'",
        "above_context_tokens = 5",
        "service_tier = 'flex'",
        "source = 'seed'",
    ],
)
def test_no_column_of_a_price_is_ever_changed(installation: Installation, change: str) -> None:
    with (
        pytest.raises(IntegrityError, match=r"price \d+ is never changed, usage names it"),
        connection.cursor() as cursor,
    ):
        cursor.execute(f"UPDATE catalog_price SET {change}")


@pytest.mark.django_db
def test_saving_a_price_again_unchanged_is_harmless(installation: Installation) -> None:
    installation.price.refresh_from_db()
    installation.price.save()
    installation.price.effective_at += timedelta(days=1)
    with pytest.raises(IntegrityError, match="write a new price"), transaction.atomic():
        installation.price.save()


@pytest.mark.django_db(transaction=True)
def test_a_price_goes_only_with_its_target(installation: Installation) -> None:
    with pytest.raises(IntegrityError, match="is deleted only with its target"):
        Price.objects.all().delete()
    assert Price.objects.count() == 1
    installation.provider.delete()
    assert (Price.objects.count(), Target.objects.count()) == (0, 0)


@pytest.mark.django_db
@pytest.mark.parametrize("rates", [{"cache_read": -1}, {"web_search": -1}, {"output": 10**14 + 1}, {"input": -1}])
def test_a_rate_is_neither_negative_nor_beyond_reason(installation: Installation, rates: dict[str, int]) -> None:
    with pytest.raises(IntegrityError, match="price_"), transaction.atomic():
        Price.objects.create(target=installation.target, **{"input": 1, "output": 1} | rates)

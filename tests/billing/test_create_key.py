"""`manage.py create_key`: the key alone on standard output, and nothing changed by a mistake."""

import re
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts import keys
from accounts.models import APIKey, Membership, Organization, User
from billing.models import House, Kind, Plan, Transfer, Wallet
from tests.races import at_once


def create(*words: str) -> tuple[str, str]:
    """Run the command and return what it wrote to standard output and standard error."""
    out, err = StringIO(), StringIO()
    call_command("create_key", *words, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


@pytest.mark.django_db
def test_it_makes_the_user_its_organization_and_a_key_that_works() -> None:
    out, err = create(
        "--email", "Ada@Example.com", "--name", "laptop", "--models", "openai/*", "--models", "deepseek/**",
        "--expires", "2099-01-31", "--label", "project=search", "--label", "team=red",
    )  # fmt: skip
    assert out.count("\n") == 1
    key = out.strip()
    assert keys.well_formed(key)
    row = APIKey.objects.get(digest=keys.digests(key)[0])
    assert (row.user.email, row.organization, row.name) == ("ada@example.com", row.user.personal_organization, "laptop")
    assert (row.model_globs, row.labels) == (["openai/*", "deepseek/**"], {"project": "search", "team": "red"})
    assert row.expires_at == datetime(2099, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert Membership.objects.get(user=row.user).role == Membership.OWNER
    assert key not in err
    assert row.display in err


@pytest.mark.django_db
def test_scopes_are_those_that_were_named() -> None:
    create("--email", "ada@example.com", "--scope", "billing:read", "--scope", "billing:write")
    create("--email", "ada@example.com")
    assert [row.scopes for row in APIKey.objects.order_by("pk")] == [["billing:read", "billing:write"], []]


@pytest.mark.django_db
def test_an_existing_user_is_found_whatever_the_case_of_the_e_mail() -> None:
    user = User.objects.create_user("ada@example.com")
    create("--email", "ADA@example.com")
    assert APIKey.objects.get().user == user
    assert User.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--email", "ada"], "--email 'ada' is not an e-mail address"),
        (["--email", "ada@example.com", "--expires", "tomorrow"], "--expires 'tomorrow' is not a date"),
        (["--email", "ada@example.com", "--expires", "2020-01-01"], "is in the past"),
        (["--email", "ada@example.com", "--label", "search"], "'search' is not a label"),
        (["--email", "ada@example.com", "--label", "a=1", "--label", "a=2"], "'a' is given twice"),
        (["--email", "ada@example.com", "--name", "n" * 151], "--name: "),
        (["--email", "ada@example.com", "--name", " "], "--name: "),
        (["--email", "ada@example.com", "--models", "m" * 257], "--models: "),
        (["--email", "ada@example.com", "--models", ""], "--models is empty"),
        (["--email", "ada@example.com", "--models", " , "], "--models is empty"),
        (["--email", "ada@example.com", "--expires", ""], "is not a date"),
        (["--email", "ada@example.com", "--scope", ""], "--scope is empty"),
        (["--email", "ada@example.com", "--scope", "s" * 65], "--scope: "),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(words: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        create(*words)
    assert not User.objects.exists()
    assert not APIKey.objects.exists()


@pytest.mark.django_db
def test_a_deactivated_user_gets_no_key() -> None:
    User.objects.create_user("ada@example.com", is_active=False)
    with pytest.raises(CommandError, match="deactivated"):
        create("--email", "ada@example.com")
    assert not APIKey.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_at_once_for_one_new_e_mail_make_one_user_and_two_keys() -> None:
    outcomes = at_once(*[lambda: create("--email", "new@example.com")] * 4)
    assert all(keys.well_formed(out.strip()) for out, _ in outcomes)
    assert (User.objects.count(), Organization.objects.count(), APIKey.objects.count()) == (1, 1, 4)


@pytest.mark.django_db
def test_a_copy_is_kept_only_where_the_operator_wants_one(settings: Settings) -> None:
    settings.KEY_REVEAL = False
    create("--email", "ada@example.com", "--name", "no copy")
    without = APIKey.objects.get()
    assert without.encrypted_copy is None
    with pytest.raises(keys.NoCopy, match="APERTURE_KEY_REVEAL"):
        keys.reveal(without)

    settings.KEY_REVEAL = True
    key = create("--email", "ada@example.com", "--name", "copy")[0].strip()
    row = APIKey.objects.get(name="copy")
    assert row.encrypted_copy is not None
    assert key.encode() not in bytes(row.encrypted_copy)
    assert keys.reveal(row) == key


@pytest.mark.django_db
def test_a_copy_moved_to_another_row_does_not_open(settings: Settings) -> None:
    settings.KEY_REVEAL = True
    create("--email", "ada@example.com", "--name", "one")
    create("--email", "eve@example.com", "--name", "two")
    one, two = APIKey.objects.order_by("name")
    two.encrypted_copy = one.encrypted_copy
    with pytest.raises(keys.NoCopy, match="does not open"):
        keys.reveal(two)


@pytest.mark.django_db
def test_credit_and_a_plan_come_with_the_key_and_the_wallet_is_prepaid() -> None:
    out, err = create("--email", "ada@example.com", "--credit", "5.00", "--plan", "pro")
    assert keys.well_formed(out.strip())
    wallet = Wallet.objects.get(organization=User.objects.get().personal_organization)
    assert (wallet.posted_nanos, wallet.mode, wallet.plan.slug) == (5_000_000_000, Wallet.PREPAID, Plan.PRO)
    transfer = Transfer.objects.get()
    assert (transfer.kind, transfer.debit_id, transfer.reason) == (
        Kind.CREDIT,
        House.PROMOTIONS,
        "manage.py create_key --credit",
    )
    assert "on the plan Pro, prepaid, with a balance of $5.00" in err


@pytest.mark.django_db
def test_a_plan_alone_gives_no_credit_and_a_key_alone_opens_no_wallet() -> None:
    create("--email", "ada@example.com")
    assert not Wallet.objects.exists()
    create("--email", "ada@example.com", "--plan", "Enterprise")
    wallet = Wallet.objects.get()
    assert (wallet.plan.slug, wallet.posted_nanos, wallet.mode) == (Plan.ENTERPRISE, 0, Wallet.UNMETERED)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--credit", "five"], "--credit: 'five' is no amount of dollars"),
        (["--credit", "0"], "gives nothing"),
        (["--credit=-5"], "gives nothing"),
        (["--credit", "1e12"], "more than a column holds"),
        (["--credit", "0.0000000001"], "not a whole number of nano-dollars"),
        (["--plan", "Gold"], "--plan 'Gold' is not a plan; there are: Free, Pro, Enterprise."),
    ],
)
def test_money_that_cannot_be_given_is_named_before_anything_is_written(words: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=re.escape(sentence)):
        create("--email", "ada@example.com", *words)
    assert not User.objects.exists()
    assert not APIKey.objects.exists()
    assert not Wallet.objects.exists()

"""The admin as a whole: who may open it, what no page shows, how many queries a list takes, and the connection test."""

import re
import uuid
from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.contrib.messages import get_messages
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from accounts import keys
from accounts.models import APIKey, Leak, Organization, User
from billing import ledger, money, redeem
from billing.models import (
    Bucket,
    Difference,
    House,
    Kind,
    Limit,
    Payment,
    Plan,
    RedeemBatch,
    SpendingLimit,
    StripeEvent,
    Subscription,
    Transfer,
    Wallet,
)
from catalog import health, standings
from catalog.health import Signal
from catalog.models import Check, Model, Proposal, Provider, Target
from gateway.models import Job, JobRun
from tests.installation import SECRET, Installation, populate, signed_in
from tests.local_server import Asked, Reply, serving

pytestmark = pytest.mark.django_db


@pytest.fixture
def installation() -> Installation:
    it = populate()
    add_money(it.key.organization)
    add_payments(it.key.organization)
    add_health(it.provider)
    add_jobs()
    add_leak(it.key)
    return it


def add_leak(key: APIKey) -> None:
    """A place where a key was found."""
    Leak.objects.create(
        identity=b"i" * 32, key=key, display=key.display, channel=Leak.ADMIN, reported_at=timezone.now()
    )


def add_health(provider: Provider) -> None:
    """One of everything that checks and listings leave behind."""
    now = timezone.now()
    for subject in (provider, provider.credentials.get(), provider.targets.get()):
        standings.apply(subject, Signal(health.REFUSED, now, "Country not supported"), trusted_s=300)
    Check.objects.create(provider=provider, at=now, latency_ms=42, outcome=health.OK, reason="It lists its models.")
    Proposal.objects.create(provider=provider, kind=Proposal.NEW, upstream_id="gpt-9", public_id="openai/gpt-9")


def add_money(organization: Organization) -> None:
    """One of everything that the pages of money list."""
    ledger.credit(organization.pk, money.of_dollars(5), Kind.CREDIT, House.PROMOTIONS)
    redeem.make(redeem.NewBatch(uuid.uuid4(), "Conference", money.of_dollars(5), 1, None), None)
    limit = SpendingLimit.objects.create(name=f"{organization.pk}-<user>", capacity_nanos=10**9)
    limit.buckets.create(subject=f"user:{organization.personal_user_id}")
    now = timezone.now()
    Difference.objects.create(
        name="books", subject=f"organization {organization.pk}", detail="of 1", first_seen_at=now, last_seen_at=now
    )


def add_payments(organization: Organization) -> None:
    """One of everything that came from Stripe."""
    now = timezone.now()
    Payment.objects.create(organization=organization, kind=Payment.TOP_UP, currency="usd", amount_cents=500)
    Subscription.objects.create(
        organization=organization, plan=Plan.objects.get(slug="pro"), stripe_id="sub_1", price_cents=2000
    )
    StripeEvent.objects.create(id="evt_1", type="invoice.paid", created=now, payload={}, due_at=now)


def add_jobs() -> None:
    """A job with its schedule and a run."""
    now = timezone.now()
    interval = IntervalSchedule.objects.create(every=5, period=IntervalSchedule.MINUTES)
    CrontabSchedule.objects.create(minute="5", hour="4")
    PeriodicTask.objects.create(name="alerts", task="billing.tasks.send_alerts", interval=interval)
    job = Job.objects.create(task="billing.tasks.send_alerts", name="alerts", shipped="every 300 s")
    JobRun.objects.create(job=job, started_at=now, finished_at=now, outcome=Job.OK, node="here:1")


def pages(it: Installation) -> Iterator[str]:
    yield reverse("admin:index")
    yield reverse("admin:password_change")
    rows = (it.bob, it.key.organization, it.group, it.key, it.grant, it.provider, it.model, it.target, it.usage)
    bucket = Bucket.objects.get()
    stripe = (Payment.objects.get(), Subscription.objects.get(), StripeEvent.objects.get())
    background = (Job.objects.get(), JobRun.objects.get())
    schedules = (PeriodicTask.objects.get(), IntervalSchedule.objects.get(), CrontabSchedule.objects.get())
    leak = Leak.objects.get()
    read_only = (it.usage, Transfer.objects.get(), Difference.objects.get(), bucket, leak, *stripe, *background)
    money_rows = (Wallet.objects.get(), Plan.objects.get(slug="pro"), RedeemBatch.objects.get(), *read_only[1:])
    proposal = Proposal.objects.get()
    rest = (it.model.aliases.get(), Limit.objects.all()[0], *money_rows, *schedules)
    for row in (bucket.limit, proposal, *rows, *rest):
        name = f"admin:{row._meta.app_label}_{row._meta.model_name}"
        yield reverse(f"{name}_changelist")
        yield reverse(f"{name}_changelist") + "?q=o"
        yield reverse(f"{name}_change", args=[row.pk])
        yield reverse(f"{name}_history", args=[row.pk])
        if row not in (*read_only, proposal):
            yield reverse(f"{name}_add")
    yield reverse("admin:auth_user_password_change", args=[it.bob.pk])
    yield reverse("admin:catalog_provider_delete", args=[it.provider.pk])
    yield reverse("admin:accounts_apikey_revoke", args=[it.key.pk])
    for action in ("test_connection", "check_now", "find_models"):
        yield reverse(f"admin:catalog_provider_{action}", args=[it.provider.pk])
    for action in ("accept_one", "ignore_one"):
        yield reverse(f"admin:catalog_proposal_{action}", args=[proposal.pk])
    for action in ("credit", "debit", "refund", "set_plan", "freeze", "unfreeze", "write_off"):
        yield reverse(f"admin:billing_wallet_{action}", args=[money_rows[0].pk])
    yield reverse("admin:billing_bucket_refill", args=[bucket.pk])
    yield reverse("admin:gateway_job_run_now", args=[background[0].pk])
    yield reverse("admin:billing_transfer_correct", args=[read_only[1].pk])
    yield reverse("admin:billing_redeembatch_stop", args=[money_rows[2].pk])
    yield reverse("admin:billing_transfer_house")


def test_every_model_that_is_registered_is_among_the_pages_and_usage_is_only_read(installation: Installation) -> None:
    listed = "\n".join(pages(installation))
    for model in admin.site._registry:
        assert reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") in listed
    client = signed_in(installation.alice)
    usage = reverse("admin:billing_usage_change", args=[installation.usage.pk])
    assert client.post(usage, {"status": 500}).status_code == 403
    assert client.get(reverse("admin:billing_usage_delete", args=[installation.usage.pk])).status_code == 403
    assert client.get(reverse("admin:billing_usage_add")).status_code == 403


def test_no_page_shows_a_secret(installation: Installation) -> None:
    client = signed_in(installation.alice)
    digest = bytes(installation.key.digest)
    encrypted = bytes(installation.credential.encrypted).decode()
    secrets = [SECRET, installation.clear_key, installation.clear_key[3:20], digest.hex(), repr(digest), encrypted[:40]]
    for page in pages(installation):
        answer = client.get(page)
        assert answer.status_code == 200, page
        text = answer.content.decode()
        assert not [secret for secret in secrets if secret in text], page


def test_the_admin_is_for_staff_only(installation: Installation) -> None:
    for client in (Client(), signed_in(installation.bob)):
        for page in pages(installation):
            answer = client.get(page)
            assert answer.status_code == 302, page
            assert answer.headers["location"].startswith("/admin/login/")


def test_staff_without_permissions_sees_an_empty_sidebar_and_no_page(installation: Installation) -> None:
    carol = User.objects.create_user("carol@example.com", is_staff=True)
    client = signed_in(carol)
    assert "/admin/accounts/apikey/" not in client.get("/admin/").content.decode()
    assert client.get(reverse("admin:accounts_apikey_changelist")).status_code == 403
    assert client.post(reverse("admin:accounts_apikey_revoke", args=[installation.key.pk])).status_code == 403
    assert client.post(reverse("admin:catalog_provider_test_connection", args=[1])).status_code == 403


@pytest.mark.parametrize(
    "name",
    ["accounts_user", "accounts_organization", "accounts_group", "accounts_apikey", "accounts_grant",
     "catalog_provider", "catalog_model", "catalog_alias", "catalog_target", "billing_usage",
     "billing_wallet", "billing_transfer", "billing_plan", "billing_redeembatch", "billing_difference",
     "billing_spendinglimit", "billing_bucket", "catalog_proposal"],
)  # fmt: skip
def test_a_list_takes_as_many_queries_for_many_rows_as_for_one(installation: Installation, name: str) -> None:
    client = signed_in(installation.alice)
    page = reverse(f"admin:{name}_changelist")
    client.get(page)
    with CaptureQueriesContext(
        database,
    ) as few:
        client.get(page)
    grow(installation)
    with CaptureQueriesContext(database) as many:
        client.get(page)
    assert len(many) == len(few)


def test_a_model_s_page_takes_as_many_queries_for_many_targets(installation: Installation) -> None:
    client = signed_in(installation.alice)
    page = reverse("admin:catalog_model_change", args=[installation.model.pk])
    client.get(page)
    with CaptureQueriesContext(database) as few:
        client.get(page)
    for number in range(5):
        Target.objects.create(model=installation.model, provider=installation.provider, upstream_id=f"g-{number}")
    with CaptureQueriesContext(database) as many:
        client.get(page)
    # The provider field of each inline form looks its own chosen row up.
    assert len(many) - len(few) <= 5


def grow(it: Installation) -> None:
    """Five more of everything that is listed."""
    for number in range(5):
        user = User.objects.create_user(f"user{number}@example.com")
        keys.mint(user=user)
        add_money(user.personal_organization)
        Plan.objects.create(slug=f"plan{number}", name=f"Plan {number}")
        it.group.pk, it.group.name = None, f"group{number}"
        it.group.save()
        it.grant.pk = None
        it.grant.save()
        provider = Provider.objects.create(slug=f"provider{number}", base_url="http://127.0.0.1:9")
        standings.apply(provider, Signal(health.FAILED, timezone.now()), trusted_s=300)
        provider.proposals.create(kind=Proposal.NEW, upstream_id="x", public_id="y/x")
        model = Model.objects.create(public_id=f"model{number}")
        model.aliases.create(name=f"alias{number}")
        target = Target.objects.create(model=model, provider=provider, upstream_id="x")
        target.prices.create(input=1, output=1)
        it.usage.request_id = f"00000000-0000-0000-0000-00000000001{number}"
        it.usage._state.adding = True
        it.usage.user_id = user.pk
        it.usage.save(force_insert=True)


def test_the_connection_is_tested_on_a_post_and_the_outcome_told() -> None:
    models, chat = Reply(body={"data": [{"id": "small"}]}), Reply(body={"choices": []})

    def answer(asked: Asked) -> Reply:
        return models if asked.method == "GET" else chat

    with serving(answer) as server:
        it = populate(server.url)
        client = signed_in(it.alice)
        page = reverse("admin:catalog_provider_test_connection", args=[it.provider.pk])
        client.get(page)
        assert server.asked == []
        posted = client.post(page, {"_form_submitted": "on"})
        assert posted.headers["HX-Redirect"] == reverse("admin:catalog_provider_change", args=[it.provider.pk])
        assert "openai: gpt-4o answered in" in client.get(posted.headers["HX-Redirect"]).content.decode()

        selected = {"action": "test_selected", "_selected_action": [it.provider.pk]}
        listed = client.post(reverse("admin:catalog_provider_changelist"), selected, follow=True)
        assert "openai: gpt-4o answered in" in listed.content.decode()
        assert server.asked[-1].headers["authorization"] == f"Bearer {SECRET}"


def test_a_failed_connection_test_tells_the_error_without_the_credential() -> None:
    refusal = Reply(401, {"error": {"message": f"Bad key {SECRET}"}})
    with serving(lambda _asked: refusal) as server:
        it = populate(server.url)
        client = signed_in(it.alice)
        posted = client.post(
            reverse("admin:catalog_provider_test_connection", args=[it.provider.pk]), {"_form_submitted": "on"}
        )
    texts = [message.message for message in get_messages(posted.wsgi_request)]
    assert texts == ["openai: gpt-4o: POST /v1/chat/completions answered 401: Bad key [redacted]"]
    assert APIKey.objects.count() == 1


def test_a_provider_is_checked_on_a_post_and_its_page_tells_what_became_of_it() -> None:
    broken = Reply(503, {"error": {"message": "Overloaded"}})
    replies = [Reply(body={"data": [{"id": "small"}]}), broken, broken]
    with serving(lambda _asked: replies.pop(0)) as server:
        it = populate(server.url)
        client = signed_in(it.alice)
        page = reverse("admin:catalog_provider_check_now", args=[it.provider.pk])
        client.get(page)
        assert server.asked == []
        told: list[str] = []
        for _ in range(3):
            posted = client.post(page, {"_form_submitted": "on"})
            told += [str(message.message) for message in get_messages(posted.wsgi_request)][len(told) :]
    assert told == [
        "openai is up: It lists its models.",
        "openai is failing: GET /v1/models answered 503: Overloaded",
        "openai is down: GET /v1/models answered 503: Overloaded",
    ]
    shown = client.get(posted.headers["HX-Redirect"]).content.decode()
    assert "failing → down" in shown
    assert "3 of 5,000 requests, $0.00 of $0.10" in shown
    assert "Latency of the latest 3 checks" in shown
    listed = client.get(reverse("admin:catalog_provider_changelist")).content.decode()
    assert re.search(r">\s*down\s*<", listed)


def test_models_are_found_on_a_post_and_decided_one_by_one_or_together() -> None:
    names = ("gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini")
    with serving(lambda _asked: Reply(body={"data": [{"id": name} for name in names]})) as server:
        it = populate(server.url)
        client = signed_in(it.alice)
        posted = client.post(
            reverse("admin:catalog_provider_find_models", args=[it.provider.pk]), {"_form_submitted": "on"}
        )
    proposals = reverse("admin:catalog_proposal_changelist")
    assert posted.headers["HX-Redirect"] == proposals
    assert "3 new ones proposed" in client.get(proposals).content.decode()
    rows = {row.upstream_id: row.pk for row in Proposal.objects.all()}
    client.post(reverse("admin:catalog_proposal_accept_one", args=[rows["gpt-4.1"]]), {"_form_submitted": "on"})
    client.post(reverse("admin:catalog_proposal_ignore_one", args=[rows["gpt-4o-mini"]]), {"_form_submitted": "on"})
    client.post(proposals, {"action": "accept_selected", "_selected_action": list(rows.values())})
    assert dict(Proposal.objects.values_list("upstream_id", "state")) == {
        "gpt-4o-mini": "ignored",
        "gpt-4.1": "accepted",
        "gpt-4.1-mini": "accepted",
    }
    assert set(Target.objects.values_list("upstream_id", flat=True)) == {"gpt-4o", "gpt-4.1", "gpt-4.1-mini"}

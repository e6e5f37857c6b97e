"""Make the rows of the realtime tests: a model for each script of the upstream, and one that has no sockets."""

from datetime import timedelta

from django.db import connections
from django.utils import timezone

from accounts.models import Grant
from catalog import credentials
from catalog.models import Model, Price, Provider, Target
from tests.gateway.installation import CREDENTIAL
from tests.gateway.realtime.client import RATES, TYPICAL_TOKENS, WHISPER_AUDIO
from tests.gateway.rows import DOLLAR_NANOS
from tests.upstream.realtime import FAULTS


def install(base_url: str) -> None:
    """Make them in the database that Django is connected to, granted to everybody."""
    live = Provider.objects.create(slug="live", base_url=base_url)
    credentials.store(live, CREDENTIAL)
    deaf = Provider.objects.create(slug="deaf", base_url=base_url, flags=["anthropic_messages"])
    since = timezone.now() - timedelta(days=1)
    rates = {column: round(dollars * DOLLAR_NANOS) for column, dollars in RATES.items()}
    for provider, name in [(live, "ok"), *[(live, name) for name in FAULTS], (live, "unpriced"), (deaf, "ok")]:
        model = Model.objects.create(public_id=f"{provider.slug}/{name}", output_tokens_typical=TYPICAL_TOKENS)
        target = Target.objects.create(model=model, provider=provider, upstream_id=name)
        if name != "unpriced":
            Price.objects.create(target=target, effective_at=since, **rates)
    whisper = Target.objects.create(
        model=Model.objects.create(public_id="live/whisper"), provider=live, upstream_id="whisper-1"
    )
    asked = {"input": 3 * DOLLAR_NANOS, "output": 10 * DOLLAR_NANOS, "audio_input": WHISPER_AUDIO * DOLLAR_NANOS}
    Price.objects.create(target=whisper, effective_at=since, **asked)
    Grant.objects.create(name="everyone", subjects=["everyone"], role=Grant.USER, model_globs=["live/**", "deaf/**"])
    connections.close_all()

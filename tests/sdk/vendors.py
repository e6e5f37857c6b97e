"""Four providers, each speaking one dialect alone, in front of the scripted upstream: `chat/agent`, `gemini/agent` …"""

from datetime import timedelta

from django.db import connections
from django.utils import timezone

from catalog import credentials
from catalog.models import Model, Price, Provider, Target
from tests.gateway.installation import CREDENTIAL, Installation

# The provider's slug, which is the beginning of its models' names, and its flag.
VENDORS = {
    "chat": "openai_chat",
    "responses": "openai_responses",
    "messages": "anthropic_messages",
    "gemini": "gemini_generate_content",
}
# What thinks, and wants its signatures back, is told from a Gemini's name.
UPSTREAM_IDS = {("gemini", "agent"): "gemini-3-agent", ("gemini", "agent-strict"): "gemini-3-agent-strict"}
SCENARIOS = (
    "agent",
    "agent-strict",
    "writer",
    "refuses",
    "length",
    "ok",
    "status-400-json",
    "status-429-json",
    "status-500-json",
    "error-mid-stream",
    "reset-mid-3",
)
DOLLAR_NANOS = 10**9


def install(installed: Installation, address: str, names: tuple[str, ...] = SCENARIOS) -> None:
    """Make the providers and their models, one for each of the scenarios NAMES; Alice may call everything already."""
    since = timezone.now() - timedelta(days=1)
    for slug, flag in VENDORS.items():
        provider = Provider.objects.create(slug=slug, base_url=address, flags=[flag])
        credentials.store(provider, CREDENTIAL)
        for name in dict.fromkeys(names):
            upstream_id = UPSTREAM_IDS.get((slug, name), name)
            model = Model.objects.create(public_id=f"{slug}/{name}")
            target = Target.objects.create(model=model, provider=provider, upstream_id=upstream_id)
            Price.objects.create(
                target=target, effective_at=since, input=2 * DOLLAR_NANOS, output=10 * DOLLAR_NANOS, cache_read=0
            )
    connections.close_all()

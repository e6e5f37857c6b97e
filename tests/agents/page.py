"""The models that the page of recipes names, each on a scripted upstream that speaks its vendor's dialect."""

from datetime import timedelta

from django.db import connections
from django.utils import timezone

from catalog.models import Model, Price, Provider, Target
from tests.sdk.vendors import DOLLAR_NANOS

# The public id, and the provider of `tests.sdk.vendors` that serves it.
MODELS = {
    "openai/gpt-5.2": "responses",
    "openai/gpt-5-mini": "chat",
    "openai/o1": "responses",
    "anthropic/claude-sonnet-4.6": "messages",
    "anthropic/claude-haiku-4.5": "messages",
    "google/gemini-3.5-flash": "gemini",
    "google/gemini-2.5-pro": "gemini",
    "deepseek/deepseek-chat": "chat",
    "deepseek/deepseek-r1": "chat",
    "qwen/qwen3.7-plus": "chat",
    "x-ai/grok-4.3": "chat",
}


def install() -> None:
    """Make the models, all of which write files when asked to."""
    since = timezone.now() - timedelta(days=1)
    for public_id, slug in MODELS.items():
        model = Model.objects.create(public_id=public_id)
        target = Target.objects.create(model=model, provider=Provider.objects.get(slug=slug), upstream_id="writer")
        Price.objects.create(
            target=target, effective_at=since, input=2 * DOLLAR_NANOS, output=10 * DOLLAR_NANOS, cache_read=0
        )
    connections.close_all()

"""The first request: a command that works when it is pasted, for this installation's address and a free model."""

import json

from django.conf import settings
from django.db.models import Exists, OuterRef

from aperture_site.first_start import DEMO_MODEL
from catalog.models import Model, Target

PLACEHOLDER = "sg-YOUR-KEY"


def model() -> str:
    """Return the model that a first request names: a free one if there is one, the demo's last."""
    served = Target.objects.filter(model=OuterRef("pk"), enabled=True, provider__enabled=True)
    chats = Model.objects.filter(Exists(served), kind=Model.CHAT, enabled=True)
    free = list(chats.filter(public_id__endswith=":free").order_by("public_id").values_list("public_id", flat=True)[:2])
    if free:
        return next((each for each in free if each != DEMO_MODEL), free[0])
    return chats.order_by("public_id").values_list("public_id", flat=True).first() or "vendor/model"


def base_url() -> str:
    """Return what clients call a base URL."""
    return f"{settings.PUBLIC_URL}/api/v1"


def curl(key: str, model_id: str) -> str:
    """Return a command for a POSIX shell that asks this model something with this key."""
    quoted = json.dumps(model_id).replace("'", "'\\''")
    return (
        f"curl {base_url()}/chat/completions \\\n"
        f"  -H 'Authorization: Bearer {key}' \\\n"
        f"  -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"model": {quoted},\n'
        '    "messages": [{"role": "user", "content": "Hello"}]}\''
    )


def environment() -> str:
    """Return the variables that OpenAI's and Anthropic's own packages and tools read."""
    return (
        f"export OPENAI_BASE_URL={base_url()}\n"
        f"export ANTHROPIC_BASE_URL={settings.PUBLIC_URL}\n"
        f"export OPENAI_API_KEY={PLACEHOLDER}\n"
        f"export ANTHROPIC_AUTH_TOKEN={PLACEHOLDER}"
    )

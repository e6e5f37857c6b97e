"""The models a caller sees, in the shape of each vendor's list. Pure.

https://platform.openai.com/docs/api-reference/models, https://docs.anthropic.com/en/api/models-list (for a request with
`anthropic-version`) and https://ai.google.dev/api/models (below /v1beta, and for one with `x-goog-api-key`).
"""

from datetime import UTC, datetime
from typing import Any

from gateway.snapshot import Model


def openai_list(models: list[Model]) -> dict[str, Any]:
    """Return OpenAI's list of models."""
    return {"object": "list", "data": [openai_model(model, model.public_id) for model in models]}


def openai_model(model: Model, name: str) -> dict[str, Any]:
    """Return OpenAI's description of one model under the name that was asked for."""
    return {
        "id": name,
        "object": "model",
        "created": model.created_at,
        "owned_by": model.owner or model.targets[0].provider.slug,
        "name": model.name or model.public_id,
        "context_length": model.context_tokens,
        "max_output_tokens": model.output_tokens_max,
        "type": model.kind,
    }


def anthropic_list(models: list[Model]) -> dict[str, Any]:
    """Return Anthropic's list of models; everything is on one page."""
    data = [anthropic_model(model, model.public_id) for model in models]
    return {
        "data": data,
        "has_more": False,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def anthropic_model(model: Model, name: str) -> dict[str, Any]:
    """Return Anthropic's description of one model under the name that was asked for."""
    return {
        "type": "model",
        "id": name,
        "display_name": model.name or model.public_id,
        "created_at": datetime.fromtimestamp(model.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def google_list(models: list[Model]) -> dict[str, Any]:
    """Return Google's list of models; everything is on one page."""
    return {"models": [google_model(model, model.public_id) for model in models]}


def google_model(model: Model, name: str) -> dict[str, Any]:
    """Return Google's description of one model under the name that was asked for."""
    methods = ["embedContent", "batchEmbedContents"] if model.kind == "embedding" else GENERATING
    return {
        "name": f"models/{name}",
        "displayName": model.name or model.public_id,
        "inputTokenLimit": model.context_tokens,
        "outputTokenLimit": model.output_tokens_max,
        "supportedGenerationMethods": methods,
    }


GENERATING = ["generateContent", "streamGenerateContent", "countTokens"]

"""The compatibility flags: which dialects an upstream speaks. They never say what a caller may use. Pure."""

from django.core.exceptions import ValidationError

OPENAI_CHAT = "openai_chat"
FLAGS = {
    "openai_chat": "POST /v1/chat/completions and /v1/embeddings",
    "openai_responses": "POST /v1/responses",
    "anthropic_messages": "POST /v1/messages",
    "gemini_generate_content": "POST /v1beta/models/{model}:generateContent",
    "google_generate_content": "Vertex: Gemini models",
    "google_raw_predict": "Vertex: Anthropic models",
    "bedrock_model_invoke": "Bedrock: InvokeModel",
    "bedrock_converse": "Bedrock: Converse",
    "experimental_gemini_cli_vertex_compat": "Vertex: the short paths of Gemini CLI",
}


def default() -> list[str]:
    """Return the flags of a provider that names none."""
    return [OPENAI_CHAT]


def validate(flag: str) -> None:
    """Raise ValidationError unless this flag is known."""
    if flag not in FLAGS:
        raise ValidationError(f"{flag!r} is not a compatibility flag; the flags are {', '.join(FLAGS)}.")

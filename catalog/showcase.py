"""The twelve models of the public catalog, and what is known of models by their names. Literal tables; pure.

Each of the twelve has its own id at each vendor that serves it. They are callable as soon as a provider of one of
these vendors has a credential.
"""

import re
from dataclasses import dataclass

# To the first byte: a model that reasons sends nothing, streamed or not, until it has thought.
REASONING_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Showpiece:
    """One of the twelve. `upstream_ids` is keyed by vendor slug; tokens are limits of context and output."""

    public_id: str
    name: str
    owner: str
    best_for: str
    context_tokens: int
    output_tokens_max: int
    upstream_ids: dict[str, str]


SHOWCASE = (
    Showpiece(
        public_id="openai/gpt-5.2",
        name="GPT-5.2",
        owner="OpenAI",
        best_for="General reasoning · vision · tool use",
        context_tokens=400_000,
        output_tokens_max=128_000,
        upstream_ids={"openai": "gpt-5.2", "openrouter": "openai/gpt-5.2"},
    ),
    Showpiece(
        public_id="openai/gpt-5-mini",
        name="GPT-5 mini",
        owner="OpenAI",
        best_for="Cheap fast tasks · summaries",
        context_tokens=400_000,
        output_tokens_max=128_000,
        upstream_ids={"openai": "gpt-5-mini", "openrouter": "openai/gpt-5-mini"},
    ),
    Showpiece(
        public_id="openai/o1",
        name="o1",
        owner="OpenAI",
        best_for="Hard reasoning · math · code",
        context_tokens=200_000,
        output_tokens_max=100_000,
        upstream_ids={"openai": "o1", "openrouter": "openai/o1"},
    ),
    Showpiece(
        public_id="anthropic/claude-sonnet-4.6",
        name="Claude Sonnet 4.6",
        owner="Anthropic",
        best_for="Code editing · long context",
        context_tokens=1_000_000,
        output_tokens_max=64_000,
        upstream_ids={"anthropic": "claude-sonnet-4-6", "openrouter": "anthropic/claude-sonnet-4.6"},
    ),
    Showpiece(
        public_id="anthropic/claude-haiku-4.5",
        name="Claude Haiku 4.5",
        owner="Anthropic",
        best_for="Speed · classification · routing",
        context_tokens=200_000,
        output_tokens_max=64_000,
        upstream_ids={"anthropic": "claude-haiku-4-5", "openrouter": "anthropic/claude-haiku-4.5"},
    ),
    Showpiece(
        public_id="google/gemini-3.5-flash",
        name="Gemini 3.5 Flash",
        owner="Google",
        best_for="Cheapest fast tier · 1M context",
        context_tokens=1_048_576,
        output_tokens_max=65_536,
        upstream_ids={"gemini": "gemini-3.5-flash", "openrouter": "google/gemini-3.5-flash"},
    ),
    Showpiece(
        public_id="google/gemini-2.5-pro",
        name="Gemini 2.5 Pro",
        owner="Google",
        best_for="Long-doc analysis · vision",
        context_tokens=1_048_576,
        output_tokens_max=65_536,
        upstream_ids={"gemini": "gemini-2.5-pro", "openrouter": "google/gemini-2.5-pro"},
    ),
    Showpiece(
        public_id="deepseek/deepseek-chat",
        name="DeepSeek Chat",
        owner="DeepSeek",
        best_for="Strong cheap general · Chinese",
        context_tokens=64_000,
        output_tokens_max=8_000,
        upstream_ids={"deepseek": "deepseek-chat", "openrouter": "deepseek/deepseek-chat"},
    ),
    Showpiece(
        public_id="deepseek/deepseek-r1",
        name="DeepSeek R1",
        owner="DeepSeek",
        best_for="Reasoning at 1/30 the cost of o1",
        context_tokens=64_000,
        output_tokens_max=32_000,
        upstream_ids={"deepseek": "deepseek-reasoner", "openrouter": "deepseek/deepseek-r1"},
    ),
    Showpiece(
        public_id="qwen/qwen3.7-plus",
        name="Qwen3.7 Plus",
        owner="Alibaba",
        best_for="Chinese-first tasks · cheap",
        context_tokens=1_000_000,
        output_tokens_max=65_536,
        upstream_ids={"dashscope": "qwen3.7-plus", "openrouter": "qwen/qwen3.7-plus"},
    ),
    Showpiece(
        public_id="x-ai/grok-4.3",
        name="Grok 4.3",
        owner="xAI",
        best_for="Real-time data · search-like queries",
        context_tokens=1_000_000,
        output_tokens_max=64_000,
        upstream_ids={"xai": "grok-4.3", "openrouter": "x-ai/grok-4.3"},
    ),
    Showpiece(
        public_id="qwen/qwen3.7-max",
        name="Qwen3.7 Max",
        owner="Alibaba",
        best_for="Top Qwen tier · strong general",
        context_tokens=1_000_000,
        output_tokens_max=65_536,
        upstream_ids={"dashscope": "qwen3.7-max", "openrouter": "qwen/qwen3.7-max"},
    ),
)

# Families whose models think before they answer, by default or when asked to.
REASONING = re.compile(
    r"openai/(o\d|gpt-[5-9]|gpt-oss)|anthropic/claude-(opus|sonnet|haiku|fable)-[4-9]|google/gemini-(2\.5|[3-9])|"
    r"deepseek/deepseek-(r\d|reasoner|flash|v[4-9])|x-ai/grok-(?!.*non-reasoning)(4|[5-9]|code|build)|"
    r"qwen/(qwen3\.[5-9]|.*thinking)|moonshotai/kimi-(.*thinking|k[3-9])|z-ai/glm-(4\.[5-9]|[5-9])|minimax/minimax-m"
)
VISION = re.compile(
    r"openai/(gpt-4o|gpt-4\.1|gpt-[5-9]|o1$|o3$|o4-mini)|anthropic/claude-|google/gem(ini|ma-[3-9])|x-ai/grok-(4|[5-9])|"
    r"qwen/qwen3(\.[6-9]-(plus|flash)|-vl)|meta-llama/llama-4|mistralai/mistral-(large-(2512|4)|medium-3-5|small-2603)|"
    r"z-ai/glm-.*v(-|$)"
)
# Anthropic's compatible endpoint ignores `response_format`.
JSON_SCHEMA = re.compile(
    r"openai/(gpt-4o|gpt-4\.1|gpt-[5-9]|gpt-oss|o1$|o[3-9])|google/gemini-|x-ai/grok-(4|[5-9])|mistralai/"
)


def capabilities(public_id: str, kind: str) -> dict[str, bool | float | None]:
    """Return a model's capability columns and its time to the first byte, as far as its name tells."""
    chat = kind == "chat"
    reasoning = chat and bool(REASONING.match(public_id))
    return {
        "supports_tools": chat,
        "supports_vision": chat and bool(VISION.match(public_id)),
        "supports_json_schema": chat and bool(JSON_SCHEMA.match(public_id)),
        "supports_reasoning": reasoning,
        "timeout_s": REASONING_TIMEOUT_S if reasoning else None,
    }

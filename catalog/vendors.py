"""The vendors that Aperture knows by themselves: one literal entry each.

An entry says where a vendor is, how it takes a credential, which dialects its address speaks, which list of the price
data is its own, which of those models are worth offering, and which environment variable holds its key. A provider
belongs to a vendor by its host or, for a mirror or proxy, by its slug. Pure, and free of Django: settings read it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """One vendor. `chat` and `embeddings` match whole ids of the price list; `preference` is what its provider gets."""

    slug: str
    name: str
    base_url: str
    variable: str
    hosts: tuple[str, ...]
    flags: tuple[str, ...] = ("openai_chat",)
    authorization: str = "bearer"
    # How the same key is shown where a dialect's endpoint wants it otherwise.
    native_authorizations: dict[str, str] = field(default_factory=dict)
    price_list: str = ""
    price_prefix: str = ""
    public_prefix: str = ""
    owner: str = ""
    chat: str = ""
    embeddings: str = ""
    preference: int = 0
    context_known: bool = False
    # A cheap page that only a good key can read, for a vendor whose listing is large and open to everybody.
    check_path: str = ""

    def kind(self, upstream_id: str) -> str | None:
        """Return `chat` or `embedding` for an id of the price list that is offered, None for one that is not."""
        if re.fullmatch(self.embeddings, upstream_id):
            return "embedding"
        return "chat" if re.fullmatch(self.chat, upstream_id) else None

    def public_id(self, upstream_id: str) -> str:
        """Return the name that callers use: `vendor/id`, with version numbers written as 4.5, never 4-5.

        An id that is `vendor/model` already is kept, so a reseller's models join those of the vendors themselves.
        """
        if "/" in upstream_id:
            return upstream_id
        name = re.sub(r"(?<=-)(\d+)-(\d+)(?=-|$)", r"\1.\2", upstream_id) if self.slug == "anthropic" else upstream_id
        return self.public_prefix + name


VENDORS = (
    Vendor(
        slug="openai",
        name="OpenAI",
        base_url="https://api.openai.com/v1",
        variable="OPENAI_API_KEY",
        hosts=("api.openai.com", "eu.api.openai.com", "us.api.openai.com"),
        flags=("openai_chat", "openai_responses"),
        price_list="openai",
        public_prefix="openai/",
        owner="OpenAI",
        # Not: -pro and -codex (Responses only), audio, image, realtime, search, fine-tuning bases.
        chat=r"gpt-4o|gpt-4o-mini|gpt-4\.1(-mini|-nano)?|gpt-[5-9](\.\d+)?(-(mini|nano|luna|sol|terra|astra))?|o[1-9](-mini)?",
        embeddings=r"text-embedding-3-(small|large)",
    ),
    Vendor(
        slug="anthropic",
        name="Anthropic",
        base_url="https://api.anthropic.com/v1",
        variable="ANTHROPIC_API_KEY",
        hosts=("api.anthropic.com",),
        # Its OpenAI-compatible endpoint takes a bearer; /v1/messages takes the same key as x-api-key.
        flags=("openai_chat", "anthropic_messages"),
        native_authorizations={"anthropic_messages": "x-api-key"},
        price_list="anthropic",
        public_prefix="anthropic/",
        owner="Anthropic",
        chat=r"claude-(opus|sonnet|haiku|fable)-([4-9]-[1-9]|[5-9])",
    ),
    Vendor(
        slug="gemini",
        name="Google Gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        variable="GEMINI_API_KEY",
        hosts=("generativelanguage.googleapis.com",),
        flags=("openai_chat", "gemini_generate_content"),
        native_authorizations={"gemini_generate_content": "x-goog-api-key"},
        price_list="google",
        public_prefix="google/",
        owner="Google",
        chat=r"gemini-(2\.5|[3-9](\.\d+)?)-(pro|flash|flash-lite|argon)(-preview)?",
        embeddings=r"gemini-embedding-\d+",
    ),
    Vendor(
        slug="deepseek",
        name="DeepSeek",
        base_url="https://api.deepseek.com",
        variable="DEEPSEEK_API_KEY",
        hosts=("api.deepseek.com",),
        price_list="deepseek",
        public_prefix="deepseek/",
        owner="DeepSeek",
        # Not: v3.x, which the address serves no longer under their own names.
        chat=r"deepseek-(chat|reasoner|flash|v[4-9]-(flash|pro))",
    ),
    Vendor(
        slug="openrouter",
        name="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        variable="OPENROUTER_API_KEY",
        hosts=("openrouter.ai",),
        flags=("openai_chat", "openai_responses", "anthropic_messages"),
        price_list="openrouter",
        # Not: variants (:free, :batch …), snapshots, images, audio, guards, Responses-only ones, lesser-known families.
        chat=(
            r"(anthropic|cohere|deepseek|google|meta|meta-llama|minimax|mistralai|moonshotai|nvidia|openai|qwen|x-ai|z-ai)"
            r"/(?!.*(-\d{4}|-\d\d-\d\d|audio|image|embed|guard|safety|banana|omni|codex|deep-research|realtime|search|"
            r"-exp|turbo-instruct))[a-z0-9.-]+"
        ),
        # The vendors themselves come first, and an entry without a context size is of a model that has left.
        preference=-1,
        context_known=True,
        # https://openrouter.ai/docs/api-reference/limits
        check_path="/v1/key",
    ),
    Vendor(
        slug="mistral",
        name="Mistral",
        base_url="https://api.mistral.ai/v1",
        variable="MISTRAL_API_KEY",
        hosts=("api.mistral.ai",),
        price_list="mistral",
        public_prefix="mistralai/",
        owner="Mistral",
        # Its stable names are dated (mistral-large-2512) or say -latest.
        chat=r"(codestral|ministral-\d+b|mistral-(large|medium|small))-(2[5-9]\d\d|latest)|mistral-(large-4|medium-3-5)",
        embeddings=r"mistral-embed|codestral-embed-\d{4}",
    ),
    Vendor(
        slug="xai",
        name="xAI",
        base_url="https://api.x.ai/v1",
        variable="XAI_API_KEY",
        hosts=("api.x.ai", "us.api.x.ai"),
        flags=("openai_chat", "openai_responses"),
        price_list="x-ai",
        public_prefix="x-ai/",
        owner="xAI",
        chat=r"grok-4\.\d+|grok-[5-9](\.\d+)?|grok-4-1-fast-(non-)?reasoning|grok-code-fast-1|grok-build-\d+\.\d+",
    ),
    Vendor(
        slug="groq",
        name="Groq",
        base_url="https://api.groq.com/openai/v1",
        variable="GROQ_API_KEY",
        hosts=("api.groq.com",),
        flags=("openai_chat", "openai_responses"),
        price_list="groq",
        public_prefix="groq/",
        owner="Groq",
        # Not: what Groq has switched off, guards, speech.
        chat=r"llama-3\.3-70b-versatile|llama-3\.1-8b-instant|meta-llama/llama-4-[a-z0-9-]+|openai/gpt-oss-\d+b|"
        r"qwen/qwen3[.0-9]*-\d+b|moonshotai/kimi-k[2-9][a-z0-9-]*",
    ),
    Vendor(
        slug="dashscope",
        name="Alibaba Cloud Model Studio",
        base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        variable="DASHSCOPE_API_KEY",
        # A key belongs to one region: where it is not Singapore's, change the provider's base URL.
        hosts=(
            "dashscope-intl.aliyuncs.com",
            "dashscope-us.aliyuncs.com",
            "dashscope.aliyuncs.com",
            "cn-hongkong.dashscope.aliyuncs.com",
        ),
        # The price data has no list of Alibaba's own; OpenRouter passes Alibaba's prices on.
        price_list="openrouter",
        price_prefix="qwen/",
        public_prefix="qwen/",
        owner="Alibaba",
        chat=r"qwen3\.[6-9]-(plus|max|flash)|qwen3-(max|coder-plus|coder-flash)|qwen-plus",
    ),
)
BY_SLUG = {vendor.slug: vendor for vendor in VENDORS}
BY_HOST = {host: vendor for vendor in VENDORS for host in vendor.hosts}


def vendor_of(slug: str, base_url: str) -> Vendor | None:
    """Return the vendor of a provider: by its host, else by its slug, else None."""
    return BY_HOST.get(urlsplit(base_url).hostname or "") or BY_SLUG.get(slug)


def recognised(upstream_id: str) -> tuple[Vendor, str] | None:
    """Return whose model an id is, wherever it is served, and its kind; None where no vendor offers it by this name."""
    for vendor in VENDORS:
        kind = vendor.kind(upstream_id)
        if kind is not None:
            return vendor, kind
    return None


# Hosts whose bill runs on after the caller has hung up: their streams are read to the end.
CHARGES_ON = (
    "amazonaws.com", "groq.com", "googleapis.com", "mistral.ai", "perplexity.ai", "aliyuncs.com", "nebius.com",
    "sambanova.ai", "huggingface.co", "replicate.com", "minimax.io", "minimaxi.com",
)  # fmt: skip


def charges_on(base_url: str) -> bool:
    """Tell whether an upstream goes on and charges in full after we hang up."""
    return is_at(base_url, CHARGES_ON)


def is_at(base_url: str, domains: Iterable[str]) -> bool:
    """Tell whether an address is one of these domains' or of those below them."""
    host = urlsplit(base_url).hostname or ""
    return any(host == each or host.endswith(f".{each}") for each in domains)

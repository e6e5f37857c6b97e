"""The literal tables agree with each other and with the price data."""

from collections import Counter
from datetime import date

import pytest

from catalog import flags, price_list, seeding, vendors
from catalog.addresses import endpoint
from catalog.showcase import REASONING_TIMEOUT_S, SHOWCASE, capabilities
from catalog.vendors import VENDORS, Vendor, vendor_of

DAY = date(2026, 11, 1)
# At most so many models a vendor: a list that nobody can read helps nobody.
MODELS_MAX = {"openrouter": 200}


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.slug)
def test_every_vendor_is_found_by_its_address_and_speaks_chat(vendor: Vendor) -> None:
    assert vendor_of("anything", vendor.base_url) is vendor
    assert vendor_of(vendor.slug, "http://127.0.0.1:9101") is vendor
    assert set(vendor.flags) <= set(flags.FLAGS)
    assert flags.OPENAI_CHAT in vendor.flags
    assert endpoint(vendor.base_url, "/v1/chat/completions").endswith("/chat/completions")


def test_a_host_says_more_than_a_slug_and_strangers_have_no_vendor() -> None:
    found = vendor_of("openai", "https://api.deepseek.com")
    assert found is not None
    assert found.slug == "deepseek"
    assert vendor_of("llama", "http://127.0.0.1:8080") is None


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.slug)
def test_every_vendor_offers_priced_models_once_each_and_not_too_many(vendor: Vendor) -> None:
    listing = price_list.load(vendor.price_list, [], DAY)
    offers = seeding.offers(vendor, listing)
    assert 5 <= len(offers) <= MODELS_MAX.get(vendor.slug, 40)
    assert max(Counter(offer.upstream_id for offer in offers).values()) == 1
    assert max(Counter(offer.public_id for offer in offers).values()) == 1
    unpriced = [
        offer.upstream_id for offer in offers if not listing.tariff(vendor.price_prefix + offer.upstream_id).rates
    ]
    assert not unpriced


def test_the_twelve_are_offered_by_their_vendors_under_the_ids_that_these_know() -> None:
    assert len(SHOWCASE) == 12
    ids = {piece.public_id: piece.upstream_ids for piece in SHOWCASE}
    assert ids["anthropic/claude-sonnet-4.6"]["anthropic"] == "claude-sonnet-4-6"
    assert ids["anthropic/claude-sonnet-4.6"]["openrouter"] == "anthropic/claude-sonnet-4.6"
    assert ids["deepseek/deepseek-r1"]["deepseek"] == "deepseek-reasoner"
    assert all("openrouter" in upstream_ids and len(upstream_ids) == 2 for upstream_ids in ids.values())
    assert {slug for upstream_ids in ids.values() for slug in upstream_ids} <= set(vendors.BY_SLUG)


@pytest.mark.parametrize(
    ("slug", "upstream_id", "public_id"),
    [
        ("openai", "gpt-4o", "openai/gpt-4o"),
        ("anthropic", "claude-opus-4-5", "anthropic/claude-opus-4.5"),
        ("anthropic", "claude-opus-5", "anthropic/claude-opus-5"),
        ("mistral", "mistral-medium-3-5", "mistralai/mistral-medium-3-5"),
        ("openrouter", "z-ai/glm-4.5", "z-ai/glm-4.5"),
        ("groq", "openai/gpt-oss-120b", "openai/gpt-oss-120b"),
        ("groq", "llama-3.3-70b-versatile", "groq/llama-3.3-70b-versatile"),
        ("dashscope", "qwen3.7-max", "qwen/qwen3.7-max"),
    ],
)
def test_public_ids_are_vendor_and_model(slug: str, upstream_id: str, public_id: str) -> None:
    assert vendors.BY_SLUG[slug].public_id(upstream_id) == public_id


@pytest.mark.parametrize(
    ("slug", "upstream_id"),
    [
        ("openai", "gpt-4o-2024-05-13"),
        ("openai", "gpt-4o-audio-preview"),
        ("openai", "gpt-5.2-pro"),
        ("openai", "whisper-1"),
        ("openrouter", "openai/gpt-5.2:batch"),
        ("openrouter", "~openai/gpt-latest"),
        ("openrouter", "qwen/qwen-plus-2025-07-28"),
        ("groq", "whisper-large-v3"),
    ],
)
def test_snapshots_variants_and_other_kinds_are_left_out(slug: str, upstream_id: str) -> None:
    assert vendors.BY_SLUG[slug].kind(upstream_id) is None


def test_embeddings_are_known_as_such() -> None:
    assert vendors.BY_SLUG["openai"].kind("text-embedding-3-small") == "embedding"
    assert capabilities("openai/text-embedding-3-small", "embedding")["supports_tools"] is False


@pytest.mark.parametrize(
    ("public_id", "reasons"),
    [
        ("openai/o1", True),
        ("openai/gpt-5.2", True),
        ("openai/gpt-4o", False),
        ("deepseek/deepseek-r1", True),
        ("deepseek/deepseek-chat", False),
        ("x-ai/grok-4-1-fast-non-reasoning", False),
        ("x-ai/grok-4.3", True),
        ("mistralai/mistral-large-2512", False),
    ],
)
def test_models_that_reason_get_ten_minutes_to_the_first_byte(public_id: str, reasons: bool) -> None:
    columns = capabilities(public_id, "chat")
    assert columns["supports_reasoning"] is reasons
    assert columns["timeout_s"] == (REASONING_TIMEOUT_S if reasons else None)

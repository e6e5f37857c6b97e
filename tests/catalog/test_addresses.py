"""A base URL becomes the URL of a call, however the operator spells it."""

import pytest

from catalog.addresses import endpoint

CHAT = [
    ("https://api.openai.com", "https://api.openai.com/v1/chat/completions"),
    ("https://api.openai.com/", "https://api.openai.com/v1/chat/completions"),
    ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
    ("https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"),
    ("https://api.deepseek.com", "https://api.deepseek.com/v1/chat/completions"),
    ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/chat/completions"),
    ("https://openrouter.ai/api", "https://openrouter.ai/api/v1/chat/completions"),
    ("https://api.groq.com/openai/v1", "https://api.groq.com/openai/v1/chat/completions"),
    (
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions",
    ),
    (
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
    ),
    ("https://api.z.ai/api/coding/paas/v4", "https://api.z.ai/api/coding/paas/v4/chat/completions"),
    ("http://127.0.0.1:9101", "http://127.0.0.1:9101/v1/chat/completions"),
    ("http://127.0.0.1:8000/demo", "http://127.0.0.1:8000/demo/v1/chat/completions"),
    ("http://[::1]:8080/v1", "http://[::1]:8080/v1/chat/completions"),
    ("https://example.com/very1", "https://example.com/very1/v1/chat/completions"),
    ("https://example.com/myopenai", "https://example.com/myopenai/v1/chat/completions"),
]


@pytest.mark.parametrize(("base_url", "url"), CHAT)
def test_chat_is_found_below_every_spelling_of_a_base_url(base_url: str, url: str) -> None:
    assert endpoint(base_url, "/v1/chat/completions") == url


@pytest.mark.parametrize(
    "base_url",
    [
        "https://generativelanguage.googleapis.com",
        "https://generativelanguage.googleapis.com/v1beta",
        "https://generativelanguage.googleapis.com/v1beta/openai/",
    ],
)
def test_geminis_own_paths_stand_beside_its_compatible_endpoint(base_url: str) -> None:
    assert endpoint(base_url, "/v1beta/models/gemini-2.5-pro:generateContent") == (
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:generateContent"
    )


@pytest.mark.parametrize(
    ("base_url", "before"),
    [
        ("https://generativelanguage.googleapis.com", "https://generativelanguage.googleapis.com/v1beta"),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai/",
            "https://generativelanguage.googleapis.com/v1beta",
        ),
        ("https://generativelanguage.googleapis.com/v1alpha", "https://generativelanguage.googleapis.com/v1alpha"),
        ("http://127.0.0.1:9101/v1", "http://127.0.0.1:9101/v1beta"),
        (
            "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google",
            "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google",
        ),
    ],
)
def test_a_method_of_a_model_has_the_bases_version_or_googles(base_url: str, before: str) -> None:
    assert endpoint(base_url, "/models/gemini-2.5-pro:generateContent") == (
        f"{before}/models/gemini-2.5-pro:generateContent"
    )

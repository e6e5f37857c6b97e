"""From a provider's base URL to the URL of one call. Pure, and free of Django: the hot path imports it.

Invariant: a base URL means the same with and without a trailing slash, and with and without its version segment
where that is /v1.
"""

import re
from functools import lru_cache
from urllib.parse import urlsplit, urlunsplit

# What vendors end their base URLs with: /v1, /v1beta, /v4, /openai (Gemini's /v1beta/openai).
VERSIONED = re.compile(r".*/(?:v\d+[a-z0-9]*|openai)")
OPENAI_VERSION, GOOGLE_VERSION = "/v1", "/v1beta"
COMPATIBLE = re.compile(r"/openai$")
VERSION = re.compile(r"/v\d+[a-z0-9]*$")
# Vertex has its version further in: /v1/projects/…/publishers/google.
VERSION_WITHIN = re.compile(r"/v\d+[a-z0-9]*(?:/|$)")
MODELS = "/models/"


@lru_cache(maxsize=4096)
def endpoint(base_url: str, path: str) -> str:
    """Return the URL of PATH (such as `/v1/chat/completions`) at this base URL.

    A base that already ends in a version keeps it, and the path's own `/v1` is dropped. Paths of other versions
    (`/v1beta/models/…`) are not OpenAI's: they stand beside the compatible endpoint, not below it. Google's methods of
    a model (`/models/…`) name no version: they have the base's, or Google's own.
    """
    parts = urlsplit(base_url)
    base = parts.path.rstrip("/")
    if path.startswith(f"{OPENAI_VERSION}/"):
        if VERSIONED.fullmatch(base):
            path = path.removeprefix(OPENAI_VERSION)
    elif path.startswith(MODELS):
        base = COMPATIBLE.sub("", base).removesuffix(OPENAI_VERSION)
        if not VERSION_WITHIN.search(base):
            base += GOOGLE_VERSION
    else:
        base = VERSION.sub("", COMPATIBLE.sub("", base))
    return urlunsplit((parts.scheme, parts.netloc, base + path, "", ""))


def is_readable(base_url: str) -> bool:
    """Tell whether this is an http or https address with a host and without a blank."""
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return usable and not any(character.isspace() for character in base_url)


def host_of(base_url: str) -> str:
    """Return scheme, host and port of a base URL: what a credential is bound to."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc}".lower()

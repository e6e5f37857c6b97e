"""Names of functions and of models as Google takes them. Pure.

A function's name begins with a letter or `_` and goes on in letters, digits, `_`, `.`, `:` and `-`, 128 at most
(https://ai.google.dev/api/caching#FunctionDeclaration). Another one is written in hexadecimal behind a mark.
"""

import re
from urllib.parse import quote

from gateway.wire.codec import Unsupported

FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
ESCAPED = "apx_"
HEXADECIMAL = re.compile(r"(?:[0-9a-f]{2})+")
CHARS_MAX = 128
COLLECTIONS = ("models/", "tunedModels/")
GENERATION = re.compile(r"gemini-([0-9]{1,3})(?![0-9])")
# What an alias such as gemini-flash-latest stands for at least, since 2026.
LATEST_GENERATION = 3


def function_name(name: str, path: str) -> str:
    """Return a function's name for Gemini; raise Unsupported where it is too long. `original` reverses it."""
    if FUNCTION.fullmatch(name) and not name.startswith(ESCAPED):
        return name
    written = ESCAPED + name.encode("utf-8", "surrogatepass").hex()
    if not name or len(written) > CHARS_MAX:
        raise Unsupported(
            f"{path}: Gemini takes no function of this name: at most {CHARS_MAX} letters, digits, _ . : and -. "
            "Shorten it.",
            path,
        )
    return written


def original(name: str) -> str:
    """Return the name that `function_name` was given."""
    written = name.removeprefix(ESCAPED)
    if written == name or not HEXADECIMAL.fullmatch(written):
        return name
    try:
        return bytes.fromhex(written).decode("utf-8", "surrogatepass")
    except ValueError:
        return name


def model_path(model: str, verb: str) -> str:
    """Return the path of a method of a model, relative to the API's version."""
    resource = model if model.startswith(COLLECTIONS) else f"models/{model}"
    return f"/{quote(resource, safe='/@')}:{verb}"


def generation(model: str) -> int:
    """Return a Gemini's generation by its id, 0 for what is none."""
    found = GENERATION.search(model.lower())
    if found:
        return int(found[1])
    return LATEST_GENERATION if "gemini" in model.lower() and "latest" in model.lower() else 0

"""What comes in and goes out: small JSON objects, whatever the Accept header says.

Numbers with a fraction are read as Decimal, so no amount is ever a float.
"""

import hashlib
import json
from decimal import Decimal
from typing import IO, Any, NoReturn

from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer

from billing.api.errors import Fault

BODY_BYTES_MAX = 64 * 1024


class SmallJSON(BaseParser):
    """A JSON object of at most 64 KB; its digest stays with the request, for idempotency."""

    media_type = "application/json"

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:
        """Return the object; raise ParseError or Fault."""
        request = parser_context["request"]
        if request.META.get("HTTP_CONTENT_ENCODING", "identity") != "identity":
            raise Fault("unsupported_media_type", "Send the body uncompressed.")
        body: bytes = stream.read(BODY_BYTES_MAX + 1)
        if len(body) > BODY_BYTES_MAX:
            raise Fault("request_too_large", f"The body is larger than {BODY_BYTES_MAX} bytes.")
        request.body_digest = hashlib.sha256(body).digest()
        try:
            found = json.loads(body.decode(), parse_float=Decimal, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise ParseError(f"The body is no JSON: {error}.") from None
        if not isinstance(found, dict):
            raise ParseError("The body must be a JSON object.")
        return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


class AlwaysJSON(BaseContentNegotiation):
    """JSON is all there is."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        """Return the parser of this media type, if there is one."""
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == media_type), None)

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        """Return the one renderer."""
        return renderers[0], JSONRenderer.media_type

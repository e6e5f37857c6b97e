"""What a page's browser may load: this installation's own files, and no code or style inside the page.

Invariants: every answer that brings no policy of its own gets this one; the admin, whose theme runs code inside its
pages, is left out.
"""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # The code that an authenticator app scans is an image inside its address.
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADER = "Content-Security-Policy"


class ContentSecurity:
    """Middleware that sets the policy."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer with the policy."""
        response = self.get_response(request)
        if HEADER not in response and not request.path_info.startswith("/admin/"):
            response[HEADER] = POLICY
        return response

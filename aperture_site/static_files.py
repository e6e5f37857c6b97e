"""Serve static files under ASGI: WhiteNoise's files, handed over without a thread's round trip for each block.

WhiteNoise answers with a synchronous iterator, which Django's ASGI handler reads to its end in one go and warns about.
The admin's files are small, so one is read at once.
"""

from typing import Any

from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware


class StaticFiles(WhiteNoiseMiddleware):
    """WhiteNoise's middleware with whole answers."""

    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> HttpResponse:
        """Return the file's answer; ranges and validators are as WhiteNoise decides."""
        answer = static_file.get_response(request.method, request.META)
        body = b""
        if answer.file is not None:
            with answer.file as file:
                body = file.read()
        response = HttpResponse(body, status=int(answer.status))
        del response["content-type"]
        for name, value in answer.headers:
            response[name] = value
        return response

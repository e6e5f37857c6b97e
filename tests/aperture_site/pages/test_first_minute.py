"""From the landing page of a fresh installation to a first answer, over HTTP: what the page shows works when pasted."""

import html
import http.cookiejar
import json
import re
import shlex
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from tests.aperture_site.pages.scenery import PASSWORD, token_of
from tests.aperture_site.test_serve import Serving

pytestmark = pytest.mark.server


def test_who_registers_has_a_first_answer_by_what_the_page_shows(tmp_path: Path) -> None:
    with Serving(tmp_path / "var", APERTURE_PUBLIC_URL="", APERTURE_REGISTRATION="open") as serving:
        address = f"http://127.0.0.1:{serving.port()}"
        began = time.monotonic()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

        def see(path: str, **fields: str) -> str:
            body = urllib.parse.urlencode(fields).encode() if fields else None
            with browser.open(urllib.request.Request(address + path, body), timeout=30) as answer:
                return str(answer.read().decode())

        assert 'href="/register"' in see("/")
        token = token_of(see("/register"))
        welcome = see("/register", email="ada@example.com", password1=PASSWORD, csrfmiddlewaretoken=token)
        command = re.search(r'<code id="first-request">(.*?)</code>', welcome, re.DOTALL)
        assert command is not None
        # The words of the command, sent without a shell: curl is not everywhere. A shell drops a line's escaped end.
        line = html.unescape(command[1]).replace("\\\n", "")
        _, url, _, bearer, _, content_type, _, body = shlex.split(line)
        headers = dict(header.split(": ", 1) for header in (bearer, content_type))
        with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers), timeout=30) as answer:
            assert "Hello" in json.load(answer)["choices"][0]["message"]["content"]
        deadline = time.monotonic() + 15
        while "demo/chat:free" not in (shown := see("/dashboard/requests")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "demo/chat:free" in shown
        assert time.monotonic() - began < 60

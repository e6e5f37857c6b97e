"""What the tests of pages share: a browser that checks forms as the real one does, and what every page must keep to."""

import re
from html.parser import HTMLParser
from typing import Any

from django.test import Client

from accounts.models import User

PASSWORD = "a long winter evening 7"
KEY = re.compile(r"sg-[0-9A-Za-z]{36}")
WEIGHT_BYTES_MAX = 200_000


class Markup(HTMLParser):
    """Reads a page and keeps what no page may have, and what every page must have."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.elsewhere: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.files: list[str] = []
        self.unlabelled: list[str] = []
        self.labelled: set[str] = set()
        self.open_script = False
        self.feed(text)
        self.unlabelled = [each for each in self.unlabelled if each not in self.labelled]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = dict(attrs)
        self.tags.append(tag)
        self.inline += [f"{tag} {name}" for name in about if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in about):
            self.inline.append(tag)
        if "id" in about:
            self.ids.append(about["id"] or "")
        loaded = about.get("src") or (about.get("href") if tag == "link" else None)
        if loaded and not loaded.startswith(("/", "data:")):
            self.elsewhere.append(loaded)
        if loaded and loaded.startswith("/static/"):
            self.files.append(loaded)
        if tag == "label":
            self.labelled.add(about.get("for") or "")
        if tag in ("select", "textarea") or (tag == "input" and about.get("type") not in ("hidden", "submit")):
            self.unlabelled.append(about.get("id") or "")


def check(response: Any) -> str:
    """Check what holds for every page; return its text."""
    text = str(response.content.decode())
    policy = response["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    page = Markup(text)
    assert page.inline == []
    assert page.elsewhere == []
    assert page.unlabelled == []
    assert len(page.ids) == len(set(page.ids)), page.ids
    assert page.tags.count("main") == 1
    assert page.tags.count("h1") == 1
    assert 'href="#main"' in text
    weight = len(response.content) + sum(len(Client().get(each).content) for each in page.files)
    assert weight < WEIGHT_BYTES_MAX
    assert all(Client().get(each).status_code == 200 for each in page.files)
    return text


def see(client: Client, path: str, status: int = 200) -> str:
    """Open a page, check it, and return its text."""
    response = client.get(path)
    assert response.status_code == status, (path, response.status_code, response.get("Location"))
    return check(response)


def send(client: Client, path: str, page: str | None = None, **fields: Any) -> Any:
    """Fill the form of a page in and send it, with the token that the page has; return the answer."""
    opened = client.get(page or path)
    return client.post(path, {"csrfmiddlewaretoken": token_of(opened.content.decode()), **fields})


def token_of(page: str) -> str:
    """Return the token of a page's form."""
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token is not None, page
    return token[1]


def browser(user: User | None = None) -> Client:
    """Return a browser that checks CSRF like the real one, in which this user is signed in."""
    client = Client(enforce_csrf_checks=True)
    if user is not None:
        client.force_login(user)
    return client

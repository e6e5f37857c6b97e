"""What an upstream's refusal means for the caller, and what of it may be shown."""

import json
from email.utils import formatdate
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import rejection
from gateway.errors import ENVELOPES, Fault, render
from gateway.wire.openai_chat.response import parse_error
from tests.gateway.scenery import a_provider, a_target

SECRET = "up-canary-91c2/b7aa"
NOW = 1_800_000_000.0
TARGET = msgspec.structs.replace(a_target("m"), provider=a_provider(secrets=(SECRET,)))


def of(status: int, body: Any, retry_after: str | None = None) -> Fault:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return rejection.of_status(TARGET, status, data, parse_error, retry_after, NOW)


@pytest.mark.parametrize("status", sorted(rejection.CALLERS_OWN))
def test_the_caller_s_own_mistake_keeps_its_status_and_words(status: int) -> None:
    fault = of(status, {"error": {"message": "too long", "code": "context_length_exceeded", "param": "messages"}})
    assert (fault.status, fault.code, fault.message) == (status, "context_length_exceeded", "too long")
    assert fault.param == "messages"
    assert fault.row.type == "upstream_error"


@pytest.mark.parametrize(("status", "code"), [(401, "upstream_credential"), (402, "upstream_credential")])
def test_our_own_credential_is_a_502_of_ours(status: int, code: str) -> None:
    fault = of(status, {"error": {"message": "Incorrect API key"}})
    assert (fault.status, fault.code) == (502, code)
    assert "Incorrect" not in fault.message


@pytest.mark.parametrize("status", [100, 201, 204, 301, 302, 304, 405, 418, 500, 502, 503, 529])
def test_anything_else_is_a_502(status: int) -> None:
    fault = of(status, b"<html>oops</html>")
    assert (fault.status, fault.code) == (502, "upstream_failed")
    assert fault.upstream == {"provider": "openai", "status": status, "body": "<html>oops</html>"}


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b"", "openai refused the request with status 400.", "invalid_request"),
        (b"plain words", "openai refused the request with status 400.", "invalid_request"),
        (b"[1]", "openai refused the request with status 400.", "invalid_request"),
        (b'{"error":"as a text"}', "as a text", "invalid_request"),
        (b'{"error":[]}', "openai refused the request with status 400.", "invalid_request"),
        (b'{"message":"bare","type":"bad"}', "bare", "bad"),
        (
            b'{"error":{"message":{"deep":1},"code":429}}',
            "openai refused the request with status 400.",
            "invalid_request",
        ),
        (b"\xff\xfe", "openai refused the request with status 400.", "invalid_request"),
        (b"[" * 60_000, "openai refused the request with status 400.", "invalid_request"),
        (b'{"error":{"message":"big","n":' + b"9" * 400 + b"}}", "big", "invalid_request"),
    ],
)
def test_bodies_of_every_kind_are_read_as_far_as_they_go(body: bytes, message: str, code: str) -> None:
    fault = of(400, body)
    assert (fault.message, fault.code) == (message, code)
    for envelope in ENVELOPES:
        assert json.loads(render(fault, envelope, "r"))["request_id"] == "r"


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        SECRET.replace("/", "\\/"),
        SECRET.replace("/", "%2F"),
        "".join(f"\\u{ord(character):04x}" for character in SECRET),
        "\\u0075" + SECRET[1:],
    ],
)
def test_no_spelling_of_the_credential_is_shown_in_any_envelope(spelling: str) -> None:
    for status in (400, 401, 500):
        fault = of(
            status, b'{"error":{"message":"key ' + spelling.encode() + b'","code":"' + spelling.encode() + b'"}}'
        )
        for envelope in ENVELOPES:
            shown = render(fault, envelope, "r").decode()
            assert "canary" not in shown
            assert "91c2" not in shown
            assert "75\\u" not in shown
            assert "[redacted]" in shown


def test_at_most_four_thousand_characters_of_a_body_are_shown_and_its_message_is_still_read() -> None:
    fault = of(400, {"pad": "é" * 9000, "error": {"message": "the message", "code": "c" * 999}})
    assert fault.upstream is not None
    assert len(fault.upstream["body"]) == 4096
    assert (fault.message, fault.code) == ("the message", "c" * 64)
    assert len(of(400, {"error": "x" * 9999}).message) == 2000


@pytest.mark.parametrize("kept_chars", [1, 7, 150, 299])
def test_a_secret_that_the_cut_divides_is_not_shown_in_part(kept_chars: int) -> None:
    # Long secrets: without them the text is so short that its end is seen.
    secret = "canary" * 50
    target = msgspec.structs.replace(TARGET, provider=a_provider(secrets=(secret,)))
    kept = rejection.READ_BYTES_MAX - kept_chars
    body = ((secret + " ") * 300)[: kept - kept % 301].encode()
    body += b"." * (kept - len(body)) + secret.encode() * 2
    fault = rejection.of_rubbish(target, 200, body, "sent rubbish")
    assert fault.upstream is not None
    assert len(fault.upstream["body"]) < rejection.BODY_CHARS_MAX
    assert set(fault.upstream["body"].replace("[redacted]", "")) <= set(". ")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 1),
        ("", 1),
        ("7", 7),
        (" 7 ", 7),
        ("0", 1),
        ("-5", 1),
        ("1.2", 2),
        ("99999999", 3600),
        ("1e300", 3600),
        ("inf", 3600),
        ("nan", 1),
        ("soon", 1),
        (formatdate(NOW + 90, usegmt=True), 90),
        (formatdate(NOW - 90, usegmt=True), 1),
        (formatdate(NOW + 10**7, usegmt=True), 3600),
        ("Friday, 15-Jan-27 08:01:30 GMT", 90),
        ("Mon, 99 Foo 9999 99:99:99 GMT", 1),
        ("Fri, 31 Dec 99999 23:59:59 GMT", 1),
    ],
)
def test_a_retry_after_is_seconds_or_a_date(header: str | None, seconds: int) -> None:
    assert rejection.wait_s(header, NOW) == seconds
    fault = of(429, {"error": {}}, header)
    assert fault.headers() == [(b"retry-after", b"%d" % seconds)]
    assert of(400, {"error": {}}, header).headers() == []


@given(st.text(max_size=40))
def test_a_retry_after_of_rubbish_raises_nothing(header: str) -> None:
    assert 1 <= rejection.wait_s(header, NOW) <= 3600


@given(st.binary(max_size=200), st.sampled_from([200, 400, 401, 429, 500]))
def test_rubbish_is_rendered_whatever_it_is(body: bytes, status: int) -> None:
    for fault in (of(status, body), rejection.of_rubbish(TARGET, status, body, "sent rubbish")):
        for envelope in ENVELOPES:
            assert json.loads(render(fault, envelope, "r"))

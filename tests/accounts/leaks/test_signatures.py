"""Signatures of GitHub's alerts."""

import base64
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from accounts.leaks import signatures
from tests.accounts.leaks.scenery import Signer

# GitHub's own example, from its documentation.
IDENTIFIER = "90a421169f0a406205f1563a953312f0be898d3c7b6c06b681aa86a874555f4a"
PUBLIC_KEY = (
    "-----BEGIN PUBLIC KEY-----\n"
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE9MJJHnMfn2+H4xL4YaPDA4RpJqUq\n"
    "kCmRCBnYERxZanmcpzQSXs1X/AljlKkbJ8qpVIW4clayyef9gWhFbNHWAA==\n"
    "-----END PUBLIC KEY-----\n"
)
SIGNATURE = "MEUCIQDKZokqnCjrRtw0tni+2Ltvl/uiMJ1EGumEsp1BsNr32AIgQY1YXD2nlj+XNfGK4rBfkMJ1JDOQcYXxa2sY8FNkrKc="
BODY = b'[{"token":"some_token","type":"some_type","url":"some_url"}]'


def listing(*keys: tuple[str, str]) -> bytes:
    return json.dumps(
        {"public_keys": [{"key_identifier": name, "key": key, "is_current": False} for name, key in keys]}
    ).encode()


def test_github_s_own_example_holds() -> None:
    key = signatures.read_keys(listing((IDENTIFIER, PUBLIC_KEY)))[IDENTIFIER]
    assert signatures.holds(key, SIGNATURE, BODY)
    assert signatures.could_be_signed(IDENTIFIER, SIGNATURE)


@pytest.mark.parametrize(
    "body", [BODY + b"\n", BODY.replace(b"some_token", b"some_tokem"), b"", json.dumps(json.loads(BODY)).encode()]
)
def test_any_other_byte_breaks_it(body: bytes) -> None:
    key = signatures.read_keys(listing((IDENTIFIER, PUBLIC_KEY)))[IDENTIFIER]
    assert not signatures.holds(key, SIGNATURE, body)


@pytest.mark.parametrize(
    "signature",
    ["", "AAAA", "not base64!", base64.b64encode(b"\x30\x06\x02\x01\x00\x02\x01\x00").decode(), SIGNATURE[:-4]],
)
def test_what_is_no_signature_does_not_hold(signature: str) -> None:
    key = signatures.read_keys(listing((IDENTIFIER, PUBLIC_KEY)))[IDENTIFIER]
    assert not signatures.holds(key, signature, BODY)


def test_another_s_key_does_not_verify_it() -> None:
    theirs, ours = Signer("a" * 64), Signer("b" * 64)
    [key] = signatures.read_keys(json.dumps({"public_keys": [ours.listed]}).encode()).values()
    assert signatures.holds(key, ours.signature(BODY), BODY)
    assert not signatures.holds(key, theirs.signature(BODY), BODY)


@pytest.mark.parametrize(
    ("identifier", "signature"),
    [
        ("", ""),
        (IDENTIFIER, ""),
        ("", SIGNATURE),
        (IDENTIFIER[:-1], SIGNATURE),
        (IDENTIFIER, "x" * 500),
        ("g" * 64, SIGNATURE),
    ],
)
def test_headers_that_cannot_be_github_s_are_told_without_work(identifier: str, signature: str) -> None:
    assert not signatures.could_be_signed(identifier, signature)


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def test_keys_of_another_kind_are_left_out_of_a_listing() -> None:
    others = [
        ("1" * 64, pem(ec.generate_private_key(ec.SECP384R1()))),
        ("2" * 64, pem(ed25519.Ed25519PrivateKey.generate())),
    ]
    found = signatures.read_keys(listing((IDENTIFIER.upper(), PUBLIC_KEY), ("3" * 64, "no key"), *others))
    assert list(found) == [IDENTIFIER]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"public_keys": {}}', b'{"public_keys": []}', b'{"public_keys": [{}]}', b"\xff", b"[" * 100_000],
)
def test_a_listing_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(signatures.NoKeys):
        signatures.read_keys(body)

"""Certificates: those that can be used, and one sentence about each that cannot."""

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aperture_site.certificate import Unusable, context
from tests.gateway.conftest import self_signed


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """A certificate and its key, in one file."""
    self_signed(tmp_path)
    return tmp_path / "server.pem"


def private_key(path: Path, password: bytes = b"") -> Path:
    """Write a new key."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    return path


def said(certificate: object, key: object) -> str:
    """Return what is said of two files that cannot be used: one sentence."""
    with pytest.raises(Unusable) as error:
        context(str(certificate), str(key))
    assert str(error.value).endswith(".")
    return str(error.value)


def test_a_certificate_and_its_key_make_a_context(pem: Path) -> None:
    assert context(str(pem), str(pem)).minimum_version >= ssl.TLSVersion.TLSv1_2


def test_one_without_the_other_is_named(pem: Path) -> None:
    assert "--tls-key (APERTURE_TLS_KEY) is missing" in said(pem, "")
    assert "--tls-cert (APERTURE_TLS_CERT) is missing" in said("", pem)


def test_a_file_that_is_not_there_is_named(pem: Path, tmp_path: Path) -> None:
    assert said(pem, tmp_path / "none.key") == f"{tmp_path}/none.key cannot be read: No such file or directory."
    assert "Is a directory" in said(tmp_path, pem)


def test_a_key_of_another_certificate_is_told(pem: Path, tmp_path: Path) -> None:
    assert "is not the key of the certificate" in said(pem, private_key(tmp_path / "other.key"))


def test_what_is_no_pem_or_has_a_password_is_told(pem: Path, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    assert "both in PEM" in said(rubbish, pem)
    assert "unencrypted" in said(pem, private_key(tmp_path / "locked.key", b"secret"))

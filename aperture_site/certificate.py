"""The certificate that the web processes serve TLS with, and what is told of one that cannot be used."""

import ssl
from pathlib import Path


class Unusable(ValueError):
    """A certificate or key cannot be used; the message is one sentence that says which and why."""


def context(certificate: str, key: str) -> ssl.SSLContext:
    """Return the server's TLS context for two files in PEM; raise Unusable.

    HTTP/1.1 alone is offered (RFC 7301): both servers speak nothing else.
    """
    if not certificate or not key:
        missing = "--tls-key (APERTURE_TLS_KEY)" if certificate else "--tls-cert (APERTURE_TLS_CERT)"
        raise Unusable(f"TLS needs a certificate and its key: {missing} is missing.")
    for path in (certificate, key):
        try:
            Path(path).open("rb").close()
        except OSError as error:
            raise Unusable(f"{path} cannot be read: {error.strerror or error}.") from None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.set_alpn_protocols(["http/1.1"])
    try:
        # Without a function that has no password, a key that is encrypted would ask for one at the terminal.
        made.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Unusable(f"{key} is not the key of the certificate in {certificate}.") from None
        raise Unusable(f"{certificate} and {key} are not a certificate and its unencrypted key, both in PEM.") from None
    return made

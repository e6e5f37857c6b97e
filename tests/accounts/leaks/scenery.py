"""GitHub as far as its alerts go: a key pair, a server of public keys over a socket, and signed bodies."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

IDENTIFIER_HEADER, SIGNATURE_HEADER = "Github-Public-Key-Identifier", "Github-Public-Key-Signature"


class Signer:
    """A key pair of GitHub's, by its identifier."""

    def __init__(self, identifier: str) -> None:
        self.identifier = identifier
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def listed(self) -> dict[str, Any]:
        """The key as GitHub lists it."""
        pem = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return {"key_identifier": self.identifier, "key": pem.decode(), "is_current": True}

    def signature(self, body: bytes) -> str:
        return base64.b64encode(self._key.sign(body, ec.ECDSA(hashes.SHA256()))).decode()

    def headers(self, body: bytes) -> dict[str, str]:
        return {IDENTIFIER_HEADER: self.identifier, SIGNATURE_HEADER: self.signature(body)}


class KeyServer:
    """What serves the listing, and what it was asked."""

    def __init__(self, *signers: Signer) -> None:
        self.signers = list(signers)
        self.fetches: list[str] = []
        self.status = 200
        self.delay_s = 0.0
        self.url = ""

    @property
    def listing(self) -> bytes:
        return json.dumps({"public_keys": [signer.listed for signer in self.signers]}).encode()

    @property
    def etag(self) -> str:
        return f'"{hash(self.listing)}"'


@contextmanager
def key_server(*signers: Signer) -> Iterator[KeyServer]:
    """Serve the listing of SIGNERS on an ephemeral port."""
    served = KeyServer(*signers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("if-none-match", "")
            served.fetches.append(asked)
            time.sleep(served.delay_s)
            status = 304 if served.status == 200 and asked == served.etag else served.status
            body = served.listing if status == 200 else b""
            self.send_response(status)
            self.send_header("ETag", served.etag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}/meta/public_keys/secret_scanning"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def alert(*tokens: str, url: str = "https://github.com/ada/shop/blob/1/a.py", kind: str = "aperture") -> bytes:
    """Return the body of an alert about these texts."""
    return json.dumps([{"token": token, "type": kind, "url": url, "source": "content"} for token in tokens]).encode()

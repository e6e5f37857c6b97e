"""The public keys that GitHub signs its alerts with: fetched when they are needed, kept, and used while GitHub is away.

Invariants: one fetch at a time; an identifier that is not known causes at most one fetch in UNKNOWN_PAUSE_S, whoever
sends how many; after a failure nothing is fetched for FAILURE_PAUSE_S, and keys that were fetched within KEPT_S serve
meanwhile. A key that GitHub's newest listing has no more is not used.
"""

import logging
import threading
import time
from collections.abc import Callable

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from accounts.leaks import signatures

logger = logging.getLogger(__name__)

FRESH_S = 1800.0
KEPT_S = 7 * 86_400.0
UNKNOWN_PAUSE_S = 300.0
FAILURE_PAUSE_S = 60.0


class Unavailable(Exception):
    """No keys are known, and none could be fetched."""


class NotFetched(Exception):
    """A listing could not be fetched; the message says why."""


class Listing(msgspec.Struct, frozen=True):
    """What a fetch brought: the listing, or None where it is the one of ETAG still."""

    body: bytes | None
    etag: str


# Takes the etag of the listing that is there, or an empty text; raises NotFetched.
Fetch = Callable[[str], Listing]


class SigningKeys:
    """One process's copy of the listing."""

    def __init__(self, fetch: Fetch, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._keys: dict[str, ec.EllipticCurvePublicKey] = {}
        self._etag = ""
        self._fetched_at_s = float("-inf")
        self._tried_at_s = float("-inf")
        self._failed = False

    def find(self, identifier: str) -> ec.EllipticCurvePublicKey | None:
        """Return the key of this identifier, or None where GitHub has none; raise Unavailable where nobody can tell."""
        identifier = identifier.lower()
        key = self._keys.get(identifier)
        if key is not None and self._age_s() < FRESH_S:
            return key
        # Who has a key at hand does not wait for another's fetch; who has none looks again after it.
        if self._lock.acquire(blocking=key is None):
            try:
                if self._may_fetch(known=identifier in self._keys):
                    self._refresh()
            finally:
                self._lock.release()
        if self._age_s() > KEPT_S:
            raise Unavailable("GitHub's public keys could not be fetched.")
        return self._keys.get(identifier)

    def _age_s(self) -> float:
        return self._clock_s() - self._fetched_at_s

    def _may_fetch(self, *, known: bool) -> bool:
        waited_s = self._clock_s() - self._tried_at_s
        if self._failed:
            return waited_s >= FAILURE_PAUSE_S
        return waited_s >= (FRESH_S if known else UNKNOWN_PAUSE_S)

    def _refresh(self) -> None:
        self._tried_at_s = self._clock_s()
        try:
            listing = self._fetch(self._etag)
            if listing.body is not None:
                self._keys = signatures.read_keys(listing.body)
        except (NotFetched, signatures.NoKeys) as error:
            self._failed = True
            logger.warning("the public keys of leak alerts could not be refreshed: %s", error)
            return
        self._failed, self._etag, self._fetched_at_s = False, listing.etag, self._clock_s()

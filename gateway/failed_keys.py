"""How many keys that are not good an address may send: guessing is slowed down before anything is looked up.

Counted in this process, where it costs an instant, and told to Redis, which tells an address that is over the limit
everywhere. A request without any key is no guess. Known good keys never come here. Where a client's address is not
known nothing is counted, for whoever guesses would close the door to everybody; keys are too long to be guessed.
"""

import math
import time

from accounts.client_address import Address, network_of
from gateway.errors import Fault
from gateway.limiter import Limiter
from gateway.limits import MINUTE_MS, Bound, Namer, Window

KIND = "requests_per_minute"
NETWORKS_MAX = 20_000


class FailedKeys:
    """The addresses that sent keys which were not good; AMOUNT of 0 limits nothing."""

    def __init__(self, limiter: Limiter, secret: str, amount: int) -> None:
        self.limiter = limiter
        self.name = Namer(secret)
        self.amount = amount
        self.windows: dict[str, Window] = {}
        self.closed_until_ms: dict[str, int] = {}

    def check(self, address: Address | None) -> None:
        """Raise Fault 429 for an address that has sent too many."""
        if not self.amount or address is None:
            return
        network, now_ms = network_of(address), _now_ms()
        window = self.windows.get(network)
        retry_ms = window.look(1, self.amount, MINUTE_MS, now_ms).retry_ms if window else 0
        # What all processes counted together, as Redis said when it refused.
        retry_ms = max(retry_ms, self.closed_until_ms.get(network, 0) - now_ms)
        if retry_ms > 0:
            retry_after_s = math.ceil(retry_ms / 1000)
            raise Fault(
                KIND,
                f"Too many keys from your address were not valid; check the key, and try again in {retry_after_s} s.",
                retry_after_s=retry_after_s,
            )

    def failed(self, address: Address | None) -> None:
        """Count a key that was not good, and tell the other processes."""
        if not self.amount or address is None:
            return
        network = network_of(address)
        window = self.windows.get(network)
        if window is None:
            if len(self.windows) >= NETWORKS_MAX:
                del self.windows[next(iter(self.windows))]
            window = self.windows[network] = Window()
        window.take(1, 1, self.amount, MINUTE_MS, _now_ms())

        def full(wait_ms: int) -> None:
            if len(self.closed_until_ms) >= NETWORKS_MAX:
                self.closed_until_ms.clear()
            self.closed_until_ms[network] = _now_ms() + wait_ms

        self.limiter.count(Bound(self.name("failed keys", network), KIND, self.amount, "your address", False), full)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000

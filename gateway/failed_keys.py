"""How many keys that are not good an address may send: guessing is slowed down before anything is looked up.

Counted in this process, where it costs an instant, and told to Redis, which tells an address that is over the limit
everywhere. A request without any key is no guess. Known good keys never come here.
"""

import math
import time
from collections.abc import Callable

from gateway.client_address import Address
from gateway.errors import Fault
from gateway.limiter import Limiter
from gateway.limits import MINUTE_MS, STEPS, Bound, Namer, Window, network_of

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

    def begin(self, address: Address | None) -> Callable[[], None]:
        """Count a key as not good before it is looked up; the value takes that back. Raise Fault 429."""
        if not self.amount:
            return _nothing
        network, now_ms = network_of(address), _now_ms()
        window = self.windows.get(network)
        if window is None:
            if len(self.windows) >= NETWORKS_MAX:
                del self.windows[next(iter(self.windows))]
            window = self.windows[network] = Window()
        state = window.take(1, self.amount, MINUTE_MS, now_ms)
        # What the others counted together, as Redis said when it refused.
        wait_ms = max(state.retry_ms, self.closed_until_ms.get(network, 0) - now_ms)
        if wait_ms > 0:
            if not state.retry_ms:
                window.change(-1, now_ms // (MINUTE_MS // STEPS), MINUTE_MS, now_ms)
            raise too_many(math.ceil(wait_ms / 1000))
        return lambda: window.change(-1, now_ms // (MINUTE_MS // STEPS), MINUTE_MS, _now_ms())

    def failed(self, address: Address | None) -> None:
        """Tell the other processes of a key that was not good."""
        if not self.amount:
            return
        network = network_of(address)

        def full(wait_ms: int) -> None:
            if len(self.closed_until_ms) >= NETWORKS_MAX:
                self.closed_until_ms.clear()
            self.closed_until_ms[network] = _now_ms() + wait_ms

        self.limiter.count(Bound(self.name("failed keys", network), KIND, self.amount, "your address", False), full)


def too_many(retry_after_s: int) -> Fault:
    """Return the refusal of an address."""
    return Fault(
        KIND,
        f"Too many keys from your address were not valid; check the key, and try again in {retry_after_s} s.",
        retry_after_s=retry_after_s,
    )


def _nothing() -> None:
    """Nothing was counted."""


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000

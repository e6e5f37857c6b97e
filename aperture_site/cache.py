"""Django's cache: Redis, and this process's own memory while Redis is away.

What is cached are counts of attempts and short locks. So while Redis is away each process counts for itself: a page
works, and an attacker gets as many attempts as there are processes more. Invariant: no operation raises for Redis.
"""

import logging
import time
from typing import Any

from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

TIMEOUT_S = 1.0
# How long Redis is left alone after it did not answer, so that not every page waits for it.
PAUSE_S = 5.0


class RedisOrMemory(RedisCache):
    """Redis, as long as it answers."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        options = {"socket_connect_timeout": TIMEOUT_S, "socket_timeout": TIMEOUT_S, **params.get("OPTIONS", {})}
        super().__init__(server, {**params, "OPTIONS": options})
        self._memory = LocMemCache("while-redis-is-away", {})
        self._away_until = 0.0

    def _either(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if time.monotonic() >= self._away_until:
            try:
                return getattr(super(), name)(*args, **kwargs)
            except (RedisError, OSError) as error:
                self._away_until = time.monotonic() + PAUSE_S
                logger.warning("Redis does not answer (%s); this process caches by itself", type(error).__name__)
        if name == "incr":
            # What Redis counted until now is there again when Redis is.
            self._memory.add(args[0], 0)
        return getattr(self._memory, name)(*args, **kwargs)

    def add(self, *args: Any, **kwargs: Any) -> Any:
        """Set a key that is not there; return whether it was not."""
        return self._either("add", *args, **kwargs)

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Return a value, or the default."""
        return self._either("get", *args, **kwargs)

    def set(self, *args: Any, **kwargs: Any) -> Any:
        """Set a key."""
        return self._either("set", *args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        """Delete a key; return whether it was there."""
        return self._either("delete", *args, **kwargs)

    def incr(self, *args: Any, **kwargs: Any) -> Any:
        """Count up; return the count."""
        return self._either("incr", *args, **kwargs)

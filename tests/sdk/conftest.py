"""Real client libraries against a real web process: the fixtures are those of the gateway's own tests."""

from tests.gateway.conftest import (
    blackhole,
    bounds,
    gateway,
    installation,
    migrated,
    server,
    untrusted_upstream,
    upstream,
)

__all__ = ["blackhole", "bounds", "gateway", "installation", "migrated", "server", "untrusted_upstream", "upstream"]

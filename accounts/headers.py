"""Which headers may be added to the calls of a provider or a grant. Pure."""

# They say where a request ends or belong to one connection: another value would let requests run into each other.
FRAMING_HEADERS = frozenset({
    "connection", "content-encoding", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding",
    "upgrade",
})  # fmt: skip

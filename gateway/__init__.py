"""Traffic: the raw ASGI application, its pipeline, and the way to the upstreams and back."""

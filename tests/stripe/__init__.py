"""A Stripe of the tests' own: stateful, over HTTP, with a page that pays, a clock, and webhooks that can go wrong."""

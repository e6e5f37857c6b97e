"""The dialects, by the name that they have among a provider's flags.

A dialect is a package of this folder and a line here; docs/adding-a-dialect.md shows the way.
"""

from gateway.wire.codec import Dialect

DIALECTS: dict[str, Dialect] = {}

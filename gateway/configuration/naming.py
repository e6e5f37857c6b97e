"""Which model an upstream id is. Pure.

A provider's list names upstream ids; a model may be served by several providers under several ids. An id belongs to a
model that bears its name (bare, or as `provider/id`), that the public catalog knows by this id of this vendor, or that
consists of targets of this very id; else it is a model of its own. A composite of different models is never taken for
one of them.
"""

from catalog import vendors
from catalog.showcase import SHOWCASE
from gateway.configuration.image import Image, Key
from gateway.snapshot import is_one_model


def catalogued(slug: str, base_url: str, upstream_id: str) -> str | None:
    """Return the public id that the catalog gives an id of this provider's vendor; None for an unknown vendor."""
    vendor = vendors.vendor_of(slug, base_url)
    if vendor is None:
        return None
    shown = (piece.public_id for piece in SHOWCASE if piece.upstream_ids.get(vendor.slug) == upstream_id)
    return next(shown, None) or vendor.public_id(upstream_id)


class Naming:
    """The names and targets of an image, indexed."""

    def __init__(self, image: Image) -> None:
        self.base_urls = {str(key[0]): str(row["base_url"]) for key, row in image["provider"].items()}
        self.names: dict[str, str] = {str(key[0]): str(row["model"]) for key, row in image["alias"].items()}
        self.names.update((str(key[0]), str(key[0])) for key in image["model"])
        self.ids_of_model: dict[str, set[str]] = {}
        self.models_of_id: dict[str, list[str]] = {}
        self.models_of_target: dict[tuple[str, str], list[str]] = {}
        for key in image["target"]:
            self.add(key)

    def add(self, target: Key) -> None:
        """Note a target."""
        public_id, slug, upstream_id = map(str, target)
        self.names.setdefault(public_id, public_id)
        self.ids_of_model.setdefault(public_id, set()).add(upstream_id)
        for models in (
            self.models_of_id.setdefault(upstream_id, []),
            self.models_of_target.setdefault((slug, upstream_id), []),
        ):
            if public_id not in models:
                models.append(public_id)

    def single(self, public_id: str) -> bool:
        """Tell whether all targets of a model are one model."""
        return is_one_model(self.ids_of_model.get(public_id, ()))

    def model_of(self, slug: str, upstream_id: str) -> str:
        """Return the public id of the model that this id of this provider is; it may not exist yet."""
        own_names = [name for name in (upstream_id, f"{slug}/{upstream_id}") if name in self.names]
        bearers = [self.names[name] for name in own_names]
        holders = self.models_of_target.get((slug, upstream_id), [])
        public_name = catalogued(slug, self.base_urls.get(slug, ""), upstream_id)
        for public_id in holders:
            if public_id in (*bearers, public_name) or self.single(public_id):
                return public_id
        if bearers:
            return bearers[0]
        if public_name is not None and public_name in self.names:
            return self.names[public_name]
        # A reseller's `openai/gpt-5` is what the provider openai calls gpt-5.
        owner, _, bare = upstream_id.partition("/")
        for public_id in (*self.models_of_target.get((owner, bare), []), *self.models_of_id.get(upstream_id, [])):
            if self.single(public_id):
                return public_id
        return upstream_id

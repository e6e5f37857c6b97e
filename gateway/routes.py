"""Which targets a request may go to, best first. Pure: a snapshot and an access go in, a plan or a fault comes out."""

import difflib

from gateway.errors import Fault
from gateway.globs import Matcher
from gateway.snapshot import Access, Model, Plan, Snapshot, Target

PLANS_MAX = 5_000
# Comparing names costs some 25 µs each, and anybody with a key can ask for names that do not exist.
LIKELY_MAX = 50
LIKELY_CHARS = 3
NAME_CHARS_MAX = 256


def plan(snapshot: Snapshot, access: Access, name: str) -> Plan:
    """Return the plan for a model name; raise Fault: 404 unknown or not granted, 403 outside the key's own models."""
    found = access.plans.get(name)
    if found is None:
        found = _plan(snapshot, access, name)
        if len(access.plans) < PLANS_MAX:
            access.plans[name] = found
    return found


def _plan(snapshot: Snapshot, access: Access, name: str) -> Plan:
    model = snapshot.names.get(name) if len(name) <= NAME_CHARS_MAX else None
    targets = granted_targets(model, access) if model else ()
    if model is None or not targets:
        raise Fault("model_not_found", _unknown(snapshot, access, name), param="model")
    own = own_targets(targets, access, name)
    if not own:
        raise Fault(
            "model_not_allowed",
            f"This key may not call {name}: it is limited to some models. Use another model or another key.",
            param="model",
        )
    return Plan(model, own)


def granted_targets(model: Model, access: Access) -> tuple[Target, ...]:
    """Return the targets that the grants cover: all of them by the public id, else those named as provider/id."""
    return _covered(model.targets, access.granted)


def own_targets(targets: tuple[Target, ...], access: Access, name: str) -> tuple[Target, ...]:
    """Return the targets that the key's own list of models covers: all of them by the NAME that was asked for."""
    return targets if access.own(name) else _covered(targets, access.own)


def _covered(targets: tuple[Target, ...], matches: Matcher) -> tuple[Target, ...]:
    return tuple(target for target in targets if any(map(matches, target.names)))


def visible(snapshot: Snapshot, access: Access) -> list[Model]:
    """Return the models that a list shows this caller, by public id."""
    return [model for model in snapshot.models if model.listed and _callable(model, access)]


def _callable(model: Model, access: Access) -> bool:
    targets = granted_targets(model, access)
    return bool(targets) and bool(own_targets(targets, access, model.public_id))


def _unknown(snapshot: Snapshot, access: Access, name: str) -> str:
    likely = [model for model in snapshot.models if _begins_alike(model.public_id, name)][:LIKELY_MAX]
    near = difflib.get_close_matches(name, [model.public_id for model in likely if _callable(model, access)], n=1)
    return f"The model {name[:NAME_CHARS_MAX]!r} does not exist or is not granted to this key." + (
        f" Did you mean {near[0]!r}?" if near else " GET /v1/models lists those that are."
    )


def _begins_alike(public_id: str, name: str) -> bool:
    """Tell whether the last segments of two names begin with the same few letters."""
    last = public_id.rsplit("/", 1)[-1][:LIKELY_CHARS].lower()
    return last == name.rsplit("/", 1)[-1][:LIKELY_CHARS].lower()

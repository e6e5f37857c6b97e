"""Which targets a request may go to, best first. Pure: a snapshot and an access go in, a plan or a fault comes out."""

import difflib

from gateway.errors import Fault
from gateway.globs import Matcher
from gateway.snapshot import Access, Model, Plan, Snapshot, Target

PLANS_MAX = 5_000


def plan(snapshot: Snapshot, access: Access, name: str) -> Plan:
    """Return the plan for a model name; raise Fault: 404 unknown or not granted, 403 outside the key's own models."""
    found = access.plans.get(name)
    if found is None:
        found = _plan(snapshot, access, name)
        if len(access.plans) < PLANS_MAX:
            access.plans[name] = found
    return found


def _plan(snapshot: Snapshot, access: Access, name: str) -> Plan:
    model = snapshot.names.get(name)
    targets = granted_targets(model, access) if model else ()
    if model is None or not targets:
        raise Fault("model_not_found", _unknown(snapshot, access, name), param="model")
    own = own_targets(model, targets, access, name)
    if not own:
        raise Fault(
            "model_not_allowed",
            f"This key may not call {name}: it is limited to some models. Use another model or another key.",
            param="model",
        )
    return Plan(model, own)


def granted_targets(model: Model, access: Access) -> tuple[Target, ...]:
    """Return the targets that the grants cover: all of them by the public id, else those named as provider/id."""
    return _covered(model, model.targets, access.granted, model.public_id)


def own_targets(model: Model, targets: tuple[Target, ...], access: Access, name: str) -> tuple[Target, ...]:
    """Return the targets that the key's own list of models covers."""
    return _covered(model, targets, access.own, name)


def _covered(model: Model, targets: tuple[Target, ...], matches: Matcher, name: str) -> tuple[Target, ...]:
    if matches(model.public_id) or matches(name):
        return targets
    return tuple(target for target in targets if any(map(matches, target.names)))


def visible(snapshot: Snapshot, access: Access) -> list[Model]:
    """Return the models that a list shows this caller, by public id."""
    return [model for model in snapshot.models if model.listed and _callable(model, access)]


def _callable(model: Model, access: Access) -> bool:
    targets = granted_targets(model, access)
    return bool(targets) and bool(own_targets(model, targets, access, model.public_id))


def _unknown(snapshot: Snapshot, access: Access, name: str) -> str:
    seen = [model.public_id for model in snapshot.models if _callable(model, access)]
    near = difflib.get_close_matches(name, seen, n=1)
    return f"The model {name!r} does not exist or is not granted to this key." + (
        f" Did you mean {near[0]!r}?" if near else " GET /v1/models lists those that are."
    )

"""Which targets a request may go to, best first. Pure: a snapshot and an access go in, a plan or a fault comes out."""

import difflib
import itertools

from gateway.errors import Fault
from gateway.globs import Matcher
from gateway.snapshot import Access, Model, Plan, Snapshot, Target
from gateway.wire.fields import MODEL_CHARS_MAX

PLANS_MAX = 5_000
# Comparing names costs some 25 µs each, and anybody with a key can ask for names that do not exist.
LIKELY_MAX = 50
LIKELY_CHARS = 3


def plan(snapshot: Snapshot, access: Access, name: str) -> Plan:
    """Return the plan for a model name; raise Fault: 404 unknown or not granted, 403 outside the key's own models."""
    found = access.plans.get(name)
    if found is None:
        found = _plan(snapshot, access, name)
        if len(access.plans) < PLANS_MAX:
            access.plans[name] = found
    return found


def _plan(snapshot: Snapshot, access: Access, name: str) -> Plan:
    model = snapshot.names.get(name) if len(name) <= MODEL_CHARS_MAX else None
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
    return Plan(model, up(own))


def up(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """Return the targets that are not out; where all are, each of them in order: the first is tried as the probe."""
    return tuple(target for target in targets if not target.out) or targets


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
    name = name[:MODEL_CHARS_MAX]
    near = _nearest(snapshot, access, name)
    return f"The model {name!r} does not exist or is not granted to this key." + (
        f" Did you mean {near!r}?" if near else " GET /v1/models lists those that are."
    )


def _nearest(snapshot: Snapshot, access: Access, name: str) -> str | None:
    """Return the public id, of those that this caller may call, that NAME was probably meant to be.

    Vendors are left out as often as they are written, so the last segments are compared too.
    """
    wanted = _last(name)
    alike = (model for model in snapshot.models if _last(model.public_id)[:LIKELY_CHARS] == wanted[:LIKELY_CHARS])
    likeliest = sorted(alike, key=lambda model: -_shared(_last(model.public_id), wanted))
    seen = itertools.islice((model.public_id for model in likeliest if _callable(model, access)), LIKELY_MAX)
    spelled: dict[str, str] = {}
    for public_id in seen:
        spelled.setdefault(_last(public_id), public_id)
        spelled.setdefault(public_id.lower(), public_id)
    near = difflib.get_close_matches(name.lower(), spelled, n=1) or difflib.get_close_matches(wanted, spelled, n=1)
    return spelled[near[0]] if near else None


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1].lower()


def _shared(one: str, other: str) -> int:
    """Return how many characters two names begin with alike."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))

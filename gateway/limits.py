"""Limits: which windows a request counts in, how a window counts, and what a caller is told. Pure.

A window slides in steps: it is divided into STEPS, an amount counts in the step in which it was admitted, and leaves
when that step lies wholly outside. So no span of a window's length ever holds more than the limit, the moment at which
an amount leaves is known when it comes, and `Retry-After` is exact: a request that waits that long, and that nobody
overtakes, is admitted, and not a step earlier. A minute's step is a quarter of a second, a day's six minutes.

`Window` is the same arithmetic as the script in `gateway.limiter_script`, for a process that has no Redis.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from accounts.client_address import Address, network_of
from gateway import globs
from gateway.errors import Fault

if TYPE_CHECKING:
    from gateway.snapshot import Caller

STEPS = 240
MINUTE_MS, DAY_MS = 60_000, 86_400_000
# Of which length a kind's window is, in milliseconds; 0 is no window but a number of requests at once.
LENGTHS_MS = {
    "requests_per_minute": MINUTE_MS,
    "tokens_per_minute": MINUTE_MS,
    "requests_per_day": DAY_MS,
    "tokens_per_day": DAY_MS,
    "concurrency": 0,
}
TOKEN_KINDS = ("tokens_per_minute", "tokens_per_day")
WORDS = {
    "requests_per_minute": "requests a minute",
    "tokens_per_minute": "tokens a minute",
    "requests_per_day": "requests a day",
    "tokens_per_day": "tokens a day",
    "concurrency": "requests at once",
}
SANDBOX = "sandbox"
FREE_PLAN = "free"
FREE_MODEL = ":free"
# A slot whose holder vanished is free again after this; a running request renews it in time.
LEASE_MS = 60_000
# When a running request of others will end is not known: try again soon.
SLOT_RETRY_MS = 1000
# Anything that no amount of waiting makes possible.
NEVER = -1
MODELS_MAX = 5_000


class Rule(msgspec.Struct, frozen=True):
    """A row of the table. `target` is an id or a glob, None for the sandbox."""

    id: int
    scope: str
    target: int | str | None
    kind: str
    amount: int


class Bound(msgspec.Struct, frozen=True):
    """A rule as it binds one subject: `name` is where it is counted, and says nothing of whom."""

    name: bytes
    kind: str
    amount: int
    whom: str
    sandbox: bool

    @property
    def length_ms(self) -> int:
        """The window's length; 0 for requests at once."""
        return LENGTHS_MS[self.kind]

    @property
    def counts_tokens(self) -> bool:
        """Whether it counts tokens and not requests."""
        return self.kind in TOKEN_KINDS


class State(msgspec.Struct, frozen=True, gc=False):
    """A bound as a request found it: what counts, itself included if it was admitted, and two times from then on.

    `reset_ms` is when everything has left, `retry_ms` when this request would be admitted: 0 now, NEVER never. `taken`
    is what the request itself counts.
    """

    counted: int
    reset_ms: int
    retry_ms: int
    taken: int = 0


class Namer:
    """Names of counters: hashed under a secret, so that Redis learns no address and no number of anybody."""

    def __init__(self, secret: str) -> None:
        self._begun = blake2b(digest_size=16, key=blake2b(secret.encode()).digest())

    def __call__(self, *parts: object) -> bytes:
        """Return the name of what PARTS describe."""
        mac = self._begun.copy()
        mac.update("\0".join(map(str, parts)).encode())
        return b"aperture:limit:" + mac.hexdigest().encode()


class Rules:
    """All rules of a snapshot, found by what they bind; `address_factor` is how much more an address may than a user.

    ADDRESS_FACTOR of 0 leaves addresses unlimited.
    """

    __slots__ = ("address_factor", "by_model", "by_target", "name")

    def __init__(self, rules: Iterable[Rule], name: Namer, address_factor: int) -> None:
        self.name = name
        self.address_factor = address_factor
        self.by_target: dict[tuple[str, int | None], list[Rule]] = {}
        self.by_model: list[tuple[Callable[[str], bool], Bound]] = []
        for rule in rules:
            if isinstance(rule.target, str):
                bound = Bound(
                    name(rule.scope, rule.id, rule.kind), rule.kind, rule.amount, f"{rule.target}, all together", False
                )
                self.by_model.append((globs.compile_any([rule.target]), bound))
            else:
                self.by_target.setdefault((rule.scope, rule.target), []).append(rule)

    def bounds(self, scope: str, target: int | None, subject: object, whom: str) -> list[Bound]:
        """Return the rules of one target as they bind SUBJECT."""
        return [
            Bound(self.name(scope, subject, rule.kind), rule.kind, rule.amount, whom, scope == SANDBOX)
            for rule in self.by_target.get((scope, target), ())
        ]


class Limits:
    """What binds one caller under one snapshot; worked out once, and for each model on its first request."""

    __slots__ = ("_always", "_models", "_rules", "_sandbox")

    def __init__(self, rules: Rules, caller: "Caller") -> None:
        organization = caller.organization_id
        plan = caller.terms.plan_id
        self._rules = rules
        self._always = (
            *rules.bounds("key", caller.key_id, caller.key_id, "this key"),
            *rules.bounds("user", caller.user_id, caller.user_id, "your user"),
            *rules.bounds("organization", organization, organization, "your organization"),
            *rules.bounds("plan", plan, f"{plan}/{organization}", "your organization on its plan"),
        )
        sandboxed = in_sandbox(caller)
        self._sandbox = tuple(rules.bounds(SANDBOX, None, caller.user_id, "your user")) if sandboxed else ()
        self._models: dict[str, tuple[Bound, ...]] = {}

    def __bool__(self) -> bool:
        """Whether anything can bind this caller."""
        return bool(self._always or self._sandbox or self._rules.by_model)

    def of(self, model: str, address: Callable[[], Address | None]) -> tuple[Bound, ...]:
        """Return what a request for MODEL, a public id, counts in; ADDRESS is only asked for where it matters."""
        found = self._models.get(model)
        if found is None:
            found = (
                *self._always,
                *(bound for matches, bound in self._rules.by_model if matches(model)),
                *(self._sandbox if model.endswith(FREE_MODEL) else ()),
            )
            if len(self._models) < MODELS_MAX:
                self._models[model] = found
        if self._sandbox and self._rules.address_factor and model.endswith(FREE_MODEL):
            return found + self._of_address(network_of(address()))
        return found

    def apart_from_models(self) -> tuple[Bound, ...]:
        """Return what binds the caller whichever model it asks for, and the sandbox."""
        return self._always + self._sandbox

    def _of_address(self, network: str) -> tuple[Bound, ...]:
        return tuple(
            Bound(
                self._rules.name(SANDBOX, "address", network, bound.kind),
                bound.kind,
                bound.amount * self._rules.address_factor,
                "your address",
                True,
            )
            for bound in self._sandbox
            if bound.length_ms
        )


def in_sandbox(caller: "Caller") -> bool:
    """Tell whether free models are limited for this caller: its wallet is prepaid, without credit, on the free plan."""
    terms = caller.terms
    return terms.prepaid and not terms.funded and terms.plan == FREE_PLAN


NO_RULES = Rules((), Namer(""), 0)


def needed(bound: Bound, tokens: int, tokens_least: int) -> tuple[int, int]:
    """Return what a request counts if there is room, and what it must at least: 1, or the tokens that it may use."""
    return (tokens, tokens_least) if bound.counts_tokens else (1, 1)


class Window:
    """A sliding window in memory; times in milliseconds of any clock that only goes forward."""

    __slots__ = ("_newest", "_oldest", "_steps", "counted")

    def __init__(self) -> None:
        self.counted = 0
        self._steps: dict[int, int] = {}
        self._oldest = self._newest = 0

    def take(self, need: int, least: int, amount: int, length_ms: int, now_ms: int) -> State:
        """Count NEED, or as much of it as fits, if at least LEAST does; `retry_ms` of 0 tells that it did."""
        state = self.look(least, amount, length_ms, now_ms)
        taken = min(need, amount - self.counted)
        if state.retry_ms or taken <= 0:
            return state
        step = now_ms // (length_ms // STEPS)
        if not self._steps:
            self._oldest = step
        self._steps[step] = self._steps.get(step, 0) + taken
        self._newest = step
        self.counted += taken
        return State(self.counted, _leaves_ms(step, length_ms) - now_ms, 0, taken)

    def look(self, least: int, amount: int, length_ms: int, now_ms: int) -> State:
        """Return the state without counting anything; LEAST of 0 always fits."""
        self._sweep(length_ms, now_ms)
        reset_ms = _leaves_ms(self._newest, length_ms) - now_ms if self.counted else 0
        return State(self.counted, reset_ms, self._retry_ms(least, amount, length_ms, now_ms) if least else 0)

    def change(self, by: int, step: int, length_ms: int, now_ms: int) -> None:
        """Give back what was counted in STEP, if it still counts; count more (BY above zero) now."""
        self._sweep(length_ms, now_ms)
        if by > 0:
            self.take(by, by, self.counted + by, length_ms, now_ms)
        elif step in self._steps:
            left = max(0, self._steps[step] + by)
            self.counted += left - self._steps[step]
            self._steps[step] = left
            if not left:
                del self._steps[step]

    def _sweep(self, length_ms: int, now_ms: int) -> None:
        first = now_ms // (length_ms // STEPS) - STEPS
        if self._steps and self._oldest < first:
            self._steps = {step: count for step, count in self._steps.items() if step >= first}
            self._oldest = min(self._steps, default=0)
            self.counted = sum(self._steps.values())

    def _retry_ms(self, need: int, amount: int, length_ms: int, now_ms: int) -> int:
        if self.counted + need <= amount:
            return 0
        if need > amount:
            return NEVER
        left = self.counted
        for step in sorted(self._steps):
            left -= self._steps[step]
            if left + need <= amount:
                return _leaves_ms(step, length_ms) - now_ms
        return NEVER


def _leaves_ms(step: int, length_ms: int) -> int:
    return (step + 1 + STEPS) * (length_ms // STEPS)


def headers(bounds: Sequence[Bound], states: Sequence[State]) -> list[tuple[bytes, bytes]]:
    """Return OpenAI's x-ratelimit headers: the tightest window of requests and the tightest of tokens."""
    found: list[tuple[bytes, bytes]] = []
    for unit, tokens in ((b"requests", False), (b"tokens", True)):
        windows = [
            (max(0, bound.amount - state.counted), -state.reset_ms, bound.amount)
            for bound, state in zip(bounds, states, strict=True)
            if bound.length_ms and bound.counts_tokens is tokens
        ]
        if windows:
            remaining, reset_ms, amount = min(windows)
            found += [
                (b"x-ratelimit-limit-" + unit, b"%d" % amount),
                (b"x-ratelimit-remaining-" + unit, b"%d" % remaining),
                (b"x-ratelimit-reset-" + unit, duration(-reset_ms)),
            ]
    return found


def duration(span_ms: int) -> bytes:
    """Return a span as OpenAI writes it, such as `6m0s`, `12.25s` or `20ms`."""
    if span_ms < 1000:
        return b"%dms" % span_ms
    minutes, ms = divmod(span_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{ms / 1000:.3f}".rstrip("0").rstrip(".")
    return ((f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{seconds}s").encode()


def refusal(bounds: Sequence[Bound], states: Sequence[State], topping_up: str) -> Fault | None:
    """Return the fault that refuses a request, or None: of several full windows, the one that it must wait for longest.

    TOPPING_UP is where a caller without credit gets some.
    """
    blocking = [pair for pair in zip(bounds, states, strict=True) if pair[1].retry_ms]
    if not blocking:
        return None
    bound, state = max(blocking, key=lambda pair: math.inf if pair[1].retry_ms == NEVER else pair[1].retry_ms)
    limit = f"{bound.amount:,} {WORDS[bound.kind]} for {bound.whom}"
    if state.retry_ms == NEVER:
        return Fault(bound.kind, f"This request alone is above the limit of {limit}: ask for fewer tokens.")
    retry_after_s = max(1, math.ceil(state.retry_ms / 1000))
    if bound.sandbox:
        return Fault(
            "sandbox_limit",
            f"Without credit, free models take {limit}, and these are used up; try again in {retry_after_s} s, "
            f"or add credit at {topping_up}.",
            retry_after_s=retry_after_s,
        )
    return Fault(
        bound.kind,
        f"The limit of {limit} is reached; try again in {retry_after_s} s.",
        retry_after_s=retry_after_s,
    )


def rules_of(rows: Iterable[Mapping[str, object]]) -> list[Rule]:
    """Return the rules of the table's enabled rows."""
    return [
        msgspec.convert(
            {
                "id": row["id"],
                "scope": row["scope"],
                "target": row["model_glob"] if row["scope"] == "model" else row.get(f"{row['scope']}_id"),
                "kind": row["kind"],
                "amount": row["amount"],
            },
            Rule,
        )
        for row in rows
    ]

"""Where a request may go, and what those learn who ask for what they may not have."""

import time

import pytest

from catalog.models import NAME_LENGTH_MAX
from gateway import routes
from gateway.errors import Fault
from gateway.snapshot import Snapshot
from gateway.wire.openai_chat import MODEL_CHARS_MAX
from tests.gateway.scenery import a_grant, a_model, a_snapshot, a_target, access_of


def upstreams(view: Snapshot, name: str, *own: str) -> list[str]:
    plan = routes.plan(view, access_of(view, *own), name)
    return [f"{target.provider.slug}/{target.upstream_id}" for target in plan.targets]


def refusal(view: Snapshot, name: str, *own: str) -> Fault:
    with pytest.raises(Fault) as refused:
        routes.plan(view, access_of(view, *own), name)
    return refused.value


TWO = a_model(
    "gpt-5", a_target("gpt-5", "openai", "gpt-5-2025", preference=1), a_target("gpt-5", "azure", "gpt-5-east")
)


def test_a_grant_of_the_public_id_opens_every_target_best_first() -> None:
    assert upstreams(a_snapshot(TWO, grants=(a_grant("gpt-5"),)), "gpt-5") == ["openai/gpt-5-2025", "azure/gpt-5-east"]


def a_pair(*out: str) -> Snapshot:
    slugs = ("one", "two")
    targets = [
        a_target("m", slug, preference=-place, out=state)
        for place, (slug, state) in enumerate(zip(slugs, out, strict=True))
    ]
    return a_snapshot(a_model("m", *targets))


def test_what_is_out_is_passed_over_while_another_target_is_up() -> None:
    assert upstreams(a_pair("", ""), "m") == ["one/up", "two/up"]
    assert upstreams(a_pair("down", ""), "m") == ["two/up"]
    assert upstreams(a_pair("", "refused"), "m") == ["one/up"]


def test_where_all_are_out_each_is_tried_in_order() -> None:
    assert upstreams(a_pair("down", "refused"), "m") == ["one/up", "two/up"]
    # Another target helps nobody who may not call it.
    assert upstreams(a_pair("down", ""), "m", "one/*") == ["one/up"]
    assert upstreams(a_pair("down", ""), "one/m") == ["one/up"]


@pytest.mark.parametrize("glob", ["azure/*", "azure/gpt-5", "azure/gpt-5-east", "*/*-east"])
def test_a_grant_of_a_provider_opens_its_targets_only(glob: str) -> None:
    view = a_snapshot(TWO, grants=(a_grant(glob),))
    assert upstreams(view, "gpt-5") == ["azure/gpt-5-east"]
    assert refusal(view, "openai/gpt-5-2025").code == "model_not_found"


def test_a_grant_of_an_alias_covers_the_targets_behind_it_and_a_pattern_meets_no_alias() -> None:
    view = a_snapshot((TWO, ["five"]), a_model("other"), grants=(a_grant("five"),))
    assert upstreams(view, "five") == upstreams(view, "gpt-5") == ["openai/gpt-5-2025", "azure/gpt-5-east"]
    assert refusal(view, "other").code == "model_not_found"
    assert refusal(a_snapshot((TWO, ["five"]), grants=(a_grant("fiv*"),)), "five").code == "model_not_found"


def test_a_grant_of_a_name_that_is_a_public_id_is_of_that_model_alone() -> None:
    view = a_snapshot((TWO, ["plain"]), a_model("plain"), grants=(a_grant("plain"),))
    assert upstreams(view, "plain") == ["openai/up"]
    assert refusal(view, "gpt-5").code == "model_not_found"


def test_a_name_with_its_provider_goes_to_that_provider_only() -> None:
    view = a_snapshot(TWO)
    assert upstreams(view, "azure/gpt-5") == upstreams(view, "gpt-5-east") == ["azure/gpt-5-east"]


def test_a_bare_name_of_two_models_opens_only_what_is_granted_of_each() -> None:
    cheap = a_model("cheap", a_target("cheap", "openai", "gpt-x"))
    dear = a_model("dear", a_target("dear", "azure", "gpt-x", preference=9))
    assert upstreams(a_snapshot(cheap, dear), "gpt-x") == ["azure/gpt-x", "openai/gpt-x"]
    assert upstreams(a_snapshot(cheap, dear, grants=(a_grant("cheap"),)), "gpt-x") == ["openai/gpt-x"]
    assert upstreams(a_snapshot(dear, cheap, grants=(a_grant("dear"),)), "gpt-x") == ["azure/gpt-x"]
    assert upstreams(a_snapshot(cheap, dear), "gpt-x", "cheap") == ["openai/gpt-x"]


def test_a_key_s_own_globs_narrow_what_is_granted_and_say_so() -> None:
    view = a_snapshot(a_model("a"), a_model("b"), (TWO, ["five"]))
    assert upstreams(view, "a", "a") == ["openai/up"]
    assert refusal(view, "b", "a").code == "model_not_allowed"
    assert upstreams(view, "gpt-5", "azure/*") == ["azure/gpt-5-east"]
    assert len(upstreams(view, "five", "five")) == 2
    assert len(upstreams(view, "five", "gpt-5")) == 2
    assert refusal(view, "gpt-5", "five").status == 403


def test_own_globs_open_nothing_that_is_not_granted() -> None:
    view = a_snapshot(a_model("a"), a_model("secret"), grants=(a_grant("a"),))
    assert refusal(view, "secret", "**").code == "model_not_found"
    assert refusal(view, "secret", "secret").code == "model_not_found"


def test_unknown_and_not_granted_read_the_same() -> None:
    view = a_snapshot(a_model("secret-1"), a_model("other"), grants=(a_grant("other"),))
    unknown, hidden = refusal(view, "secret-2"), refusal(view, "secret-1")
    assert unknown.message.replace("secret-2", "secret-1") == hidden.message
    assert (unknown.status, unknown.code, unknown.param) == (hidden.status, hidden.code, hidden.param)
    assert unknown.upstream is hidden.upstream is None


def test_a_suggestion_is_close_and_one_that_the_key_may_call() -> None:
    view = a_snapshot(
        a_model("openai/gpt-5-mini"),
        a_model("gpt-5-minor", a_target("gpt-5-minor", "azure")),
        grants=(a_grant("openai/*"),),
    )
    assert "'openai/gpt-5-mini'" in refusal(view, "openai/gpt-5-mimi").message
    assert "gpt-5-minor" not in refusal(view, "gpt-5-mino").message
    assert "Did you mean" not in refusal(view, "gpt-5-mino", "nothing").message
    assert "Did you mean" not in refusal(view, "entirely-different").message


def test_a_suggestion_is_found_without_the_vendor_in_any_case_and_behind_many_that_are_hidden() -> None:
    hidden = [a_model(f"aaa/gpt-{number}") for number in range(100)]
    view = a_snapshot(*hidden, a_model("openai/gpt-5x"), grants=(a_grant("openai/gpt-5x"),))
    for name in ("gpt-5", "gpt5x", "OpenAI/GPT-5X", "azure/gpt-5x"):
        assert "Did you mean 'openai/gpt-5x'?" in refusal(view, name).message


def test_a_name_of_any_length_is_not_repeated_whole() -> None:
    assert len(refusal(a_snapshot(TWO), "x" * 30_000).message) < 500


def test_asking_for_names_that_do_not_exist_is_cheap_in_a_large_catalog() -> None:
    view = a_snapshot(*(a_model(f"vendor{number % 40}/model-{number}-instruct") for number in range(3000)))
    access = access_of(view)
    began_at = time.process_time()
    for _ in range(10):
        with pytest.raises(Fault):
            routes.plan(view, access, "vendor3/model-12x-instruct")
    assert (time.process_time() - began_at) / 10 < 0.03


def test_a_plan_is_worked_out_once_and_refusals_are_not_kept() -> None:
    view = a_snapshot(TWO)
    access = access_of(view)
    assert routes.plan(view, access, "gpt-5") is routes.plan(view, access, "gpt-5")
    with pytest.raises(Fault):
        routes.plan(view, access, "unknown")
    assert set(access.plans) == {"gpt-5"}


def test_a_list_shows_what_can_be_called_and_is_listed() -> None:
    view = a_snapshot(
        a_model("b"), a_model("a"), a_model("hidden", listed=False), a_model("c"), grants=(a_grant("a", "b", "hidden"),)
    )
    assert [model.public_id for model in routes.visible(view, access_of(view))] == ["a", "b"]
    assert [model.public_id for model in routes.visible(view, access_of(view, "b", "c"))] == ["b"]
    assert upstreams(view, "hidden") == ["openai/up"]


def test_every_id_that_the_catalog_takes_can_be_asked_for() -> None:
    assert NAME_LENGTH_MAX == MODEL_CHARS_MAX

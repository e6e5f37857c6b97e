"""One closed table of errors, and three envelopes for each."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ANTHROPIC, GOOGLE, OPENAI, TABLE, Fault, render

GATEWAY = Path(__file__).parents[2] / "gateway"


@pytest.mark.parametrize("code", TABLE)
def test_each_error_is_itself_in_every_envelope(code: str) -> None:
    fault = Fault(code, "What to do.", param="model", upstream={"provider": "p", "status": 500, "body": "b"})
    row = TABLE[code]
    plain, anthropic, google = (json.loads(render(fault, each, "r")) for each in (OPENAI, ANTHROPIC, GOOGLE))
    assert plain["error"] == {
        "message": "What to do.",
        "type": row.type,
        "code": code,
        "param": "model",
        "upstream": {"provider": "p", "status": 500, "body": "b"},
    }
    assert (anthropic["type"], anthropic["error"]["type"]) == ("error", row.anthropic)
    assert (google["error"]["code"], google["error"]["status"]) == (row.status, row.google)
    for found in (plain, anthropic, google):
        assert found["request_id"] == "r"
        assert found["error"]["message"] == "What to do."
        assert found["error"]["upstream"]["provider"] == "p"


@pytest.mark.parametrize(
    ("status", "anthropic", "google"),
    [
        (400, "invalid_request_error", "INVALID_ARGUMENT"),
        (404, "not_found_error", "NOT_FOUND"),
        (409, "invalid_request_error", "ABORTED"),
        (413, "request_too_large", "INVALID_ARGUMENT"),
        (422, "invalid_request_error", "INVALID_ARGUMENT"),
        (429, "rate_limit_error", "RESOURCE_EXHAUSTED"),
    ],
)
def test_a_status_that_the_provider_chose_has_the_vendors_names(status: int, anthropic: str, google: str) -> None:
    fault = Fault("upstream_rejected", "no", rejection=(status, "their_code"))
    assert (fault.status, fault.code, fault.row.type) == (status, "their_code", "upstream_error")
    assert json.loads(render(fault, ANTHROPIC, "r"))["error"]["type"] == anthropic
    assert json.loads(render(fault, GOOGLE, "r"))["error"]["status"] == google


def test_what_anthropics_packages_mend_by_themselves_says_so() -> None:
    fault = Fault("thread_unsupported_request", "no")
    details = json.loads(render(fault, ANTHROPIC, "r"))["error"]["details"]
    assert details == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


def test_headers_say_when_to_come_back() -> None:
    assert Fault("draining", "later", retry_after_s=7).headers() == [(b"retry-after", b"7")]
    assert Fault("not_found", "no").headers() == []


def test_a_code_outside_the_table_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        Fault("surprise", "no")


def literal_codes() -> set[str]:
    """Return every code that the gateway's source raises a Fault with; the API of quotas has the money API's faults."""
    found = set()
    for path in set(GATEWAY.rglob("*.py")) - {GATEWAY / "quotas.py"}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name: Any = node.func if isinstance(node, ast.Call) else None
            called = getattr(name, "id", getattr(name, "attr", ""))
            if isinstance(node, ast.Call) and called in ("Fault", "InvalidRequest") and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
    return found


def named_codes() -> set[str]:
    """Return every code that is spelled out anywhere: some are chosen before they are raised."""
    paths = set(GATEWAY.rglob("*.py")) - {GATEWAY / "errors.py"} | {GATEWAY.parent / "billing" / "models" / "limit.py"}
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    return {str(node.value) for node in nodes if isinstance(node, ast.Constant)} & set(TABLE)


def test_every_code_that_is_raised_is_in_the_table_and_none_is_there_for_nothing() -> None:
    assert literal_codes() <= set(TABLE)
    # The first two are a web server's own, before there is a request; the last has a class of its own.
    assert set(TABLE) - named_codes() <= {"headers_too_large", "invalid_request", "method_not_allowed"}


def test_what_wants_a_socket_is_told_which_protocol_it_is_about() -> None:
    """RFC 9110, sections 15.5.22 and 7.8: a 426 has to have Upgrade, which goes with Connection."""
    found = Fault("websocket_upgrade_required", "Use HTTP.").headers()
    assert sorted(found) == [(b"connection", b"upgrade"), (b"upgrade", b"websocket")]
    assert Fault("not_found", "No.").headers() == []

"""The normal form of a conversation, and what stands for custom tools and namespaces where a dialect has none."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import canonical
from gateway.wire.canonical import CustomTool, Image, Message, ServerTool, Text, Tool, ToolResult, Url

A, B, C = Text("a"), Text("b"), Text("c")


def test_neighbours_of_one_role_are_joined_and_empty_ones_left_out() -> None:
    messages = (
        Message("user", (A,)),
        Message("user", ()),
        Message("user", (B,)),
        Message("assistant", (C,)),
        Message("user", (A, B)),
    )
    assert canonical.alternate(messages) == (
        Message("user", (A, B)),
        Message("assistant", (C,)),
        Message("user", (A, B)),
    )


def test_speakers_of_one_role_stay_apart() -> None:
    messages = (Message("user", (A,), "ann"), Message("user", (B,), "bob"), Message("user", (C,), "bob"))
    assert canonical.alternate(messages) == (Message("user", (A,), "ann"), Message("user", (B, C), "bob"))


def test_very_many_neighbours_are_joined_in_time() -> None:
    messages = [Message("user", (A,))] * 50_000
    before = time.process_time()
    assert len(canonical.alternate(messages)[0].parts) == 50_000
    assert time.process_time() - before < 1


def test_tools_results_stand_apart_from_what_the_user_says() -> None:
    result = ToolResult("call_1", (A,))
    assert list(canonical.by_role((A, result, B), "ann")) == [
        Message("user", (A,), "ann"),
        Message("tool", (result,)),
        Message("user", (B,), "ann"),
    ]


def test_instructions_are_found_wherever_they_stand() -> None:
    image = Image(Url("https://a.example/i.png"))
    messages = (
        Message("system", (A,)),
        Message("user", (B,)),
        Message("system", (C, image)),
        Message("user", (A,)),
    )
    assert canonical.instructions(messages) == ((A, C), (Message("user", (B, A)),))


def test_plain_text() -> None:
    assert canonical.plain((A, Image(Url("https://a.example/i.png")), B)) == "a\nb"
    assert canonical.plain(()) == ""


# --- Custom tools -------------------------------------------------------------------------------------------------
def test_a_custom_tool_becomes_a_function_of_one_text() -> None:
    tool = canonical.as_function(CustomTool("patch", "Change files.", namespace="files"))
    assert (tool.name, tool.description, tool.namespace) == ("patch", "Change files.", "files")
    assert tool.parameters == {
        "type": "object",
        "properties": {"input": {"type": "string"}},
        "required": ["input"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize("description", ["Change files.", ""])
def test_a_grammar_goes_into_the_description(description: str) -> None:
    tool = canonical.as_function(CustomTool("patch", description, {"type": "grammar", "definition": "start: x"}))
    grammar = "The input has to follow this grammar:\nstart: x"
    assert tool.description == f"{description}\n\n{grammar}".strip()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_custom_tool_s_input_comes_back_from_arguments(text: str) -> None:
    assert canonical.as_input(canonical.as_arguments(text)) == text


@pytest.mark.parametrize(
    "rubbish", ["", "plain", "[1]", '{"other":1}', '{"input":1}', "[" * 5000, '"\\ud800"', "\ud800"]
)
def test_what_is_not_in_that_form_is_the_input_itself(rubbish: str) -> None:
    assert canonical.as_input(rubbish) == rubbish


# --- Names ----------------------------------------------------------------------------------------------------------
TOOLS = (
    ServerTool("openai_responses", "web_search", {}),
    Tool("plain__name"),
    Tool("read", namespace="files"),
    CustomTool("patch", namespace="files"),
    CustomTool("shell"),
)


def test_custom_tools_are_known_by_their_flat_names() -> None:
    assert canonical.custom_names(TOOLS) == {"files__patch", "shell"}

"""What each dialect does not carry, for the matrix: literal tables, and nothing else may change on the way.

LOSSES: canonical path of a request → the name in `Rendered.dropped`, "" where the meaning is kept in another form.
ANSWER_LOSSES: canonical paths of an answer. REFUSED: scenarios that raise Unsupported → what its `param` holds.
"""

# Of models that have the most: what an older one of the same vendor lacks is tested with its dialect.
UPSTREAM_IDS = {
    "openai_chat": "gpt-5.2",
    "openai_responses": "gpt-5.2",
    "anthropic_messages": "claude-sonnet-4-5",
    "gemini_generate_content": "gemini-3-flash",
}

# Custom tools become functions of one text, namespaces a part of names.
FLATTENED = {
    "tools.CustomTool": "",
    "tools.Tool": "",
    "tools.Tool.name": "",
    "tools.Tool.namespace": "",
    "messages.ToolCall.arguments": "",
    "messages.ToolCall.custom": "",
    "messages.ToolCall.name": "",
    "messages.ToolCall.namespace": "",
    "messages.ToolResult.custom": "",
}
# Effort and budget stand for one another.
REASONED = {"reasoning.effort": "", "reasoning.budget_tokens": ""}

LOSSES: dict[str, dict[str, str]] = {
    "openai_chat": {},
    "openai_responses": {
        **REASONED,
        # What goes with logprobs and reasoning: `include`.
        "extensions": "",
        # Required there; and strict unless it says that it is not.
        "tools.Tool.parameters": "",
        "tools.Tool.strict": "",
        # Required there too.
        "output.name": "",
        "output.strict": "",
        "messages.Document.name": "",
        # A result names its call alone.
        "messages.ToolResult.name": "",
        "messages.ToolResult.is_error": "is_error",
        "messages.Thinking": "thinking",
        "messages.ToolCall.signature": "tool_call.signature",
        "messages.ToolCall.origin": "tool_call.signature",
        "messages.Text.cache": "cache",
        "tools.Tool.cache": "cache",
        "stop": "stop",
        "top_k": "top_k",
        "frequency_penalty": "frequency_penalty",
        "presence_penalty": "presence_penalty",
        "seed": "seed",
        "logit_bias": "logit_bias",
    },
    "anthropic_messages": {
        **FLATTENED,
        **REASONED,
        # Required there.
        "max_tokens": "",
        "tools.Tool.parameters": "",
        # Nothing said is no thought at all.
        "reasoning": "",
        # One call at a time is asked for beside the choice.
        "tool_choice": "",
        # A schema has no name, and is always followed.
        "output.name": "",
        "output.strict": "",
        # Without a schema JSON is asked for in words.
        "output": "output",
        "messages.Text": "output",
        "messages.ToolResult.name": "",
        "messages.order": "messages.system_position",
        "messages.Image.detail": "image.detail",
        "messages.Thinking": "thinking",
        "messages.ToolCall.signature": "tool_calls.signature",
        "messages.ToolCall.origin": "tool_calls.signature",
        "logprobs": "logprobs",
        "top_logprobs": "top_logprobs",
        # The newest models take one of the two.
        "top_p": "top_p",
        "frequency_penalty": "frequency_penalty",
        "presence_penalty": "presence_penalty",
        "seed": "seed",
        "logit_bias": "logit_bias",
        "verbosity": "verbosity",
        "service_tier": "service_tier",
        "metadata": "metadata",
        "cache_key": "cache_key",
    },
    "gemini_generate_content": {
        **FLATTENED,
        **REASONED,
        # Instructions stand apart.
        "messages.order": "",
        # Thoughts are not shown unless they are asked for, and always summed up.
        "reasoning.summary": "",
        "messages.Thinking.is_summary": "",
        # A schema has no name, and is always followed.
        "output.name": "",
        "output.strict": "",
        # A result is not taken without a name: the call's is found.
        "messages.ToolResult.name": "",
        "messages.Document.name": "",
        "messages.Image.detail": "detail",
        "messages.Thinking": "thinking",
        "tools.Tool.strict": "tools.strict",
        "parallel_tool_calls": "parallel_tool_calls",
        "messages.Text.cache": "cache",
        "tools.Tool.cache": "cache",
        "logit_bias": "logit_bias",
        "verbosity": "verbosity",
        "metadata": "metadata",
        "user": "user",
        "cache_key": "cache_key",
    },
}

REFUSED: dict[str, dict[str, str]] = {
    "openai_chat": {},
    "openai_responses": {"two choices": "n"},
    "anthropic_messages": {"two choices": "n", "audio in": "messages"},
    "gemini_generate_content": {},
}

# A signature of another origin goes behind a mark and is the front's own then; the conversation that goes on undoes it.
MARKED = {"parts.Thinking.signature", "parts.Thinking.origin"}
MARKED_CALL = {"parts.ToolCall.id", "parts.ToolCall.signature", "parts.ToolCall.origin"}
FLATTENED_CALL = {f"parts.ToolCall.{name}" for name in ("arguments", "custom", "name", "namespace")}

ANSWER_LOSSES: dict[str, set[str]] = {
    "openai_chat": set(),
    "openai_responses": {
        *MARKED,
        *MARKED_CALL,
        # Every thought is an item of its own, with its id; whether it is summed up and whose it is stands in the mark.
        "parts.Thinking.id",
        "parts.Thinking.is_summary",
        "parts.Thinking.redacted",
        "choices",
        "finish",
        "stop_sequence",
    },
    "anthropic_messages": {
        *MARKED,
        *MARKED_CALL,
        *FLATTENED_CALL,
        "parts.Thinking.id",
        "parts.Thinking.is_summary",
        # Refusals are said as texts, and the finish tells.
        "parts.Refusal",
        "parts.Text",
        "parts.Text.citations",
        "choices",
        "finish",
        "logprobs",
        "usage.audio_input",
        "usage.input",
    },
    "gemini_generate_content": {
        *MARKED,
        *MARKED_CALL,
        *FLATTENED_CALL,
        "parts.Thinking.id",
        "parts.Thinking.is_summary",
        "parts.Thinking.redacted",
        "parts.Refusal",
        "parts.Text",
        "finish",
        "stop_sequence",
        "logprobs",
        "usage.cache_write_5m",
        "usage.cache_write_1h",
        "usage.input",
        "usage.web_searches",
    },
}

# Cases that fail for a reason outside of this table: they have to go on failing until it is mended.
KNOWN: dict[tuple[str, ...], str] = {}

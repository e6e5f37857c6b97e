"""What each dialect does not carry, for the matrix: literal tables, and nothing else may change on the way.

A path begins with `-` where something is left out, with `+` where it is filled in, else it is changed.

LOSSES: path of a request → the name in `Rendered.dropped`, "" where the meaning is kept in another form.
ANSWER_LOSSES: paths of an answer. FORMS and ANSWER_FORMS: what one scenario changes and no other may.
REFUSED: scenarios that raise Unsupported → what its `param` holds.
"""

# Of models that have the most: what an older one of the same vendor lacks is tested with its dialect.
UPSTREAM_IDS = {
    "openai_chat": "gpt-5.2",
    "openai_responses": "gpt-5.2",
    "anthropic_messages": "claude-sonnet-4-5",
    "gemini_generate_content": "gemini-3-flash",
}

# What changes its form in one scenario and keeps its meaning, where a dialect has no word for it.
FLAT: dict[str, tuple[str, ...]] = {
    "custom tool": (
        "-tools.CustomTool",
        "+tools.Tool",
        "messages.ToolCall.arguments",
        "-messages.ToolCall.custom",
        "-messages.ToolResult.custom",
    ),
    "namespace": (
        "tools.Tool.name",
        "-tools.Tool.namespace",
        "messages.ToolCall.name",
        "-messages.ToolCall.namespace",
    ),
}
REASONED: dict[str, tuple[str, ...]] = {
    "effort": ("-reasoning.effort", "+reasoning.budget_tokens", "+reasoning.effort", "-reasoning.budget_tokens"),
    "summary": ("-reasoning.effort", "+reasoning.budget_tokens", "+reasoning.effort", "-reasoning.budget_tokens"),
    "budget": ("-reasoning.effort", "+reasoning.budget_tokens", "+reasoning.effort", "-reasoning.budget_tokens"),
}
FORMS: dict[str, dict[str, tuple[str, ...]]] = {
    "openai_chat": {
        **FLAT,
        **REASONED,
        # What Gemini calls its least is more than the least here.
        "no reasoning": ("reasoning.effort",),
        # The others are not shown.
        "tool choice of two": ("-tools.Tool", "tool_choice"),
    },
    "openai_responses": {
        **REASONED,
        # What Gemini calls its least is more than the least here.
        "no reasoning": ("reasoning.effort",),
    },
    "anthropic_messages": {
        **FLAT,
        **REASONED,
        # Nothing said is no thought at all, and a budget of none.
        "no reasoning": ("-reasoning", "-reasoning.effort", "+reasoning.budget_tokens"),
        # Said beside the choice.
        "one call at a time": ("+tool_choice",),
        # The third is not shown, and any of those that are has to be called.
        "tool choice of two": ("-tools.Tool", "tool_choice"),
    },
    "gemini_generate_content": {
        **REASONED,
        "custom tool": FLAT["custom tool"],
        "namespace": (*FLAT["namespace"], "messages.ToolResult.name"),
        # The least that the model can.
        "no reasoning": ("reasoning.effort",),
    },
}

LOSSES: dict[str, dict[str, str]] = {
    "openai_chat": {
        # What its caller leaves open is followed word for word where it can be.
        "+output.strict": "",
        "+output.name": "",
        "+tools.Tool.parameters": "",
        "+messages.Document.name": "",
        # Tools answer in text: what they show follows as the user's.
        "-messages.ToolResult.parts.Image": "tool_result.image",
        "+messages.Text": "tool_result.image",
        "+messages.Image": "tool_result.image",
        "-messages.ToolResult.is_error": "tool_result.is_error",
        "-messages.Thinking": "thinking",
        "-messages.ToolCall.signature": "",
        "-messages.ToolCall.origin": "",
        "-reasoning.summary": "reasoning.summary",
        "-messages.Text.cache": "cache_control",
        "-tools.Tool.cache": "cache_control",
        "-top_k": "top_k",
        # A model that thinks is not told how to sample.
        "-temperature": "temperature",
        "-top_p": "top_p",
        "-frequency_penalty": "frequency_penalty",
        "-presence_penalty": "presence_penalty",
        "-logit_bias": "logit_bias",
        "-logprobs": "logprobs",
        "-top_logprobs": "top_logprobs",
    },
    "openai_responses": {
        # `include` goes with logprobs and reasoning.
        "+extensions": "",
        # Required there; and a schema is strict unless it says that it is not.
        "+tools.Tool.parameters": "",
        "-tools.Tool.strict": "",
        "+output.name": "",
        "-output.strict": "",
        "+output.strict": "",
        "+messages.Document.name": "",
        # A result names its call alone.
        "-messages.ToolResult.name": "",
        "-messages.ToolResult.is_error": "tool_result.is_error",
        "-messages.Thinking": "thinking",
        # A thought comes back as its summary alone.
        "+messages.Thinking.is_summary": "",
        "-messages.ToolCall.signature": "tool_call.signature",
        "-messages.ToolCall.origin": "tool_call.signature",
        "-messages.Text.cache": "cache_control",
        "-tools.Tool.cache": "cache_control",
        "-stop": "stop",
        "-top_k": "top_k",
        "-frequency_penalty": "frequency_penalty",
        "-presence_penalty": "presence_penalty",
        "-seed": "seed",
        "-logit_bias": "logit_bias",
        # A model that thinks is not told how to sample.
        "-temperature": "temperature",
        "-top_p": "top_p",
        "-logprobs": "logprobs",
        "-top_logprobs": "top_logprobs",
    },
    "anthropic_messages": {
        # Required there.
        "+max_tokens": "",
        "+tools.Tool.parameters": "",
        # A schema has no name, and is always followed.
        "-output.name": "",
        "-output.strict": "",
        # Without a schema JSON is asked for in words.
        "-output": "output",
        "+messages.Text": "output",
        "-messages.ToolResult.name": "",
        "messages.order": "messages.system_position",
        "-messages.Image.detail": "image.detail",
        "-messages.Thinking": "thinking",
        "-messages.ToolCall.signature": "tool_call.signature",
        "-messages.ToolCall.origin": "tool_call.signature",
        "-logprobs": "logprobs",
        "-top_logprobs": "top_logprobs",
        # What goes with thought is little, and nothing else has to be called then.
        "-temperature": "temperature",
        "-top_k": "top_k",
        "-reasoning": "reasoning",
        # The newest models take one of the two.
        "-top_p": "top_p",
        "-frequency_penalty": "frequency_penalty",
        "-presence_penalty": "presence_penalty",
        "-seed": "seed",
        "-logit_bias": "logit_bias",
        "-verbosity": "verbosity",
        "-service_tier": "service_tier",
        "-metadata": "metadata",
        "-cache_key": "cache_key",
    },
    "gemini_generate_content": {
        # Thoughts are not shown unless they are asked for, and always summed up.
        "+reasoning.summary": "",
        "+messages.Thinking.is_summary": "",
        # A schema has no name, and is always followed.
        "-output.name": "",
        "-output.strict": "",
        # No result is taken without a name: the call's is found.
        "+messages.ToolResult.name": "",
        # Instructions stand apart.
        "messages.order": "messages.system_position",
        "-messages.Document.name": "",
        "-messages.Image.detail": "image.detail",
        "-messages.Thinking": "thinking",
        "-tools.Tool.strict": "tools.strict",
        "-parallel_tool_calls": "parallel_tool_calls",
        "-messages.Text.cache": "cache_control",
        "-tools.Tool.cache": "cache_control",
        "-logit_bias": "logit_bias",
        "-verbosity": "verbosity",
        "-metadata": "metadata",
        "-user": "user",
        "-cache_key": "cache_key",
    },
}

REFUSED: dict[str, dict[str, str]] = {
    "openai_chat": {},
    "openai_responses": {"two choices": "n"},
    "anthropic_messages": {"two choices": "n", "audio in": "messages"},
    "gemini_generate_content": {},
}

# A signature of another origin goes behind a mark and is the front's own then; the conversation that goes on undoes it.
MARKED = {"parts.Thinking.signature", "parts.Thinking.origin", "+parts.Thinking.signature", "+parts.Thinking.origin"}
MARKED_CALL = {"parts.ToolCall.id", "-parts.ToolCall.signature", "-parts.ToolCall.origin"}
FLAT_ANSWERS: dict[str, tuple[str, ...]] = {
    "custom tool": ("parts.ToolCall.arguments", "-parts.ToolCall.custom"),
    "namespace": ("parts.ToolCall.name", "-parts.ToolCall.namespace"),
}
# A refusal is said as a text, and the finish tells.
REFUSED_IN_WORDS = ("-parts.Refusal", "+parts.Text")

ANSWER_FORMS: dict[str, dict[str, tuple[str, ...]]] = {
    "openai_chat": {
        "namespace": FLAT_ANSWERS["namespace"],
        # Without a refusal's own words the answer is one that was filtered.
        "refusal": ("finish",),
    },
    "openai_responses": {
        "stop sequences": ("finish", "-stop_sequence"),
        "two choices": ("choices",),
        # Without a refusal's own words the answer is one that was filtered.
        "refusal": ("finish",),
    },
    "anthropic_messages": {
        **FLAT_ANSWERS,
        "refusal": REFUSED_IN_WORDS,
        "two choices": ("choices",),
        "content filter": ("finish",),
        "audio tokens": ("usage.input", "-usage.audio_input"),
    },
    "gemini_generate_content": {
        **FLAT_ANSWERS,
        "refusal": (*REFUSED_IN_WORDS, "finish"),
        "stop sequences": ("finish", "-stop_sequence"),
        # Tokens come without their bytes.
        "logprobs": ("logprobs",),
        "cache writes": ("usage.input", "-usage.cache_write_5m", "-usage.cache_write_1h"),
        "searches": ("-usage.web_searches",),
    },
}
ANSWER_LOSSES: dict[str, set[str]] = {
    "openai_chat": {*MARKED, *MARKED_CALL},
    "openai_responses": {
        *MARKED,
        *MARKED_CALL,
        # Every thought is an item of its own; whether it is summed up or hidden stands in the mark.
        "+parts.Thinking.id",
        "parts.Thinking.id",
        "+parts.Thinking.is_summary",
        "-parts.Thinking.redacted",
    },
    "anthropic_messages": {
        *MARKED,
        *MARKED_CALL,
        "-parts.Thinking.id",
        "-parts.Thinking.is_summary",
        "parts.Text.citations",
        "-logprobs",
    },
    "gemini_generate_content": {
        *MARKED,
        "-parts.Thinking.id",
        "+parts.Thinking.is_summary",
        "-parts.Thinking.redacted",
    },
}

# Cases that fail for a reason outside of this table: they have to go on failing until it is mended.
KNOWN: dict[tuple[str, ...], str] = {}

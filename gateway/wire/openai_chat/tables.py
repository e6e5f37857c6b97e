"""The words of OpenAI's chat format, and what stands for them in the canonical form. Pure data."""

from gateway.wire.canonical import Effort, Finish, Role

NAME = "openai_chat"
PATH = "/v1/chat/completions"

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
# OpenAI's own, then what other makers of this format answer.
FINISHES: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "error": "error",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "model_length": "length",
    "tool_use": "tool_calls",
    "tool_call": "tool_calls",
    "refusal": "refusal",
    "safety": "content_filter",
    "insufficient_system_resource": "error",
    "malformed_function_call": "error",
    "abort": "error",
}
REASONS: dict[Finish, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "pause": "stop",
    "error": "error",
}
# Written by upstreams that have no reason yet.
NO_REASONS = ("", "null", None)
EFFORTS: tuple[Effort, ...] = ("none", "minimal", "low", "medium", "high", "xhigh")
TIERS = ("auto", "default", "flex", "priority", "scale")
# What `input_audio.format` says: https://platform.openai.com/docs/guides/audio
AUDIO_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg"}
AUDIO_FORMATS = {media_type: name for name, media_type in AUDIO_TYPES.items()} | {"audio/x-wav": "wav"}
# What no model of OpenAI's takes as a file, by how the media type begins.
NO_FILES = ("audio/", "video/")
# Kinds of another vendor's parts that are a run of its own tools: an answer to them stands in the texts that follow.
SERVER_RUNS = ("search", "code", "fetch", "server_tool", "mcp")

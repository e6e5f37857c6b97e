"""Names and small tables of Anthropic's dialect. Pure."""

from gateway.wire.canonical import Finish

NAME = "anthropic_messages"
PATH = "/v1/messages"

# https://docs.anthropic.com/en/api/handling-stop-reasons; `compaction` asks the caller to send the shortened history.
FINISHES: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "compaction": "pause",
    "refusal": "refusal",
}
STOP_REASONS: dict[Finish, str] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "pause": "pause_turn",
    "refusal": "refusal",
    "content_filter": "refusal",
    "error": "end_turn",
}


def stop_reason(finish: Finish, *, refused: bool, called: bool) -> str:
    """Return why an answer ended; some vendors end as usual where the answer calls tools or is a refusal."""
    if refused and finish == "stop":
        return "refusal"
    if called and finish == "stop":
        return "tool_use"
    return STOP_REASONS[finish]

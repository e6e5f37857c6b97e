"""The request that is translated for the figures, and that every pair of dialects translates it."""

import itertools

from bench import translation
from gateway.wire.registry import DIALECTS


def test_every_two_dialects_translate_a_request_of_a_megabyte_with_200_messages() -> None:
    pairs = translation.measure(1)
    assert [pair.name for pair in pairs] == [f"{one} → {other}" for one, other in itertools.permutations(DIALECTS, 2)]
    assert all(1_000_000 < pair.request_bytes < 1_200_000 for pair in pairs)
    assert all(pair.cpu_ms > 0 for pair in pairs)
    assert len(translation.conversation().messages) == translation.MESSAGES_COUNT


def test_nothing_of_it_gets_lost() -> None:
    asked = translation.conversation()
    for dialect in DIALECTS.values():
        rendered = dialect.render_request(asked, "bench", None)
        assert rendered.dropped == ()
        again = dialect.parse_request(dialect.read(rendered.body, "bench", False))
        assert sum(len(message.parts) for message in again.messages) == sum(
            len(message.parts) for message in asked.messages
        )

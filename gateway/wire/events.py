"""What happens in a stream, in no vendor's dialect. Pure.

The order of one choice's events: for each part `PartStarted`, any number of `PartDelta`, `PartSigned`, `PartCited`,
then `PartEnded`; after the last part `Finished`. Parts are numbered from 0 in the order in which they start. A decoder
ends a part before it starts the next wherever it can tell that it is over, so parts overlap only where an upstream
really mixes them. `Started` comes first and once. `Used` may come several times, and the last one counts: a decoder
has already added up what its vendor tells in pieces. `Ended` is the proper end; after it or `Failed` nothing comes.
"""

import msgspec

from gateway.wire.canonical import Citation, Finish, Json, Logprob, Part
from gateway.wire.usage import Tokens


class Started(msgspec.Struct, frozen=True):
    """The answer begins; `created` is in seconds since 1970, 0 where the vendor tells none."""

    id: str
    model: str
    created: int = 0


class PartStarted(msgspec.Struct, frozen=True):
    """A part begins: `part` without what follows in deltas. One that has none (Native, Image) is complete."""

    index: int
    part: Part
    choice: int = 0


class PartDelta(msgspec.Struct, frozen=True):
    """More of a part's text: of a Text, Thinking or Refusal; of a call's arguments; an Audio's base64."""

    index: int
    text: str
    choice: int = 0


class PartSigned(msgspec.Struct, frozen=True):
    """A Thinking's or ToolCall's signature, whole."""

    index: int
    signature: str
    origin: str
    choice: int = 0


class PartCited(msgspec.Struct, frozen=True):
    """A citation of a Text."""

    index: int
    citation: Citation
    choice: int = 0


class PartEnded(msgspec.Struct, frozen=True):
    """A part is complete."""

    index: int
    choice: int = 0


class Likely(msgspec.Struct, frozen=True):
    """How likely the tokens were that came last."""

    logprobs: tuple[Logprob, ...]
    choice: int = 0


class Used(msgspec.Struct, frozen=True):
    """The usage of the whole answer, as far as it is known."""

    tokens: Tokens


class Finished(msgspec.Struct, frozen=True):
    """A choice is complete."""

    finish: Finish
    stop_sequence: str = ""
    choice: int = 0


class Failed(msgspec.Struct, frozen=True):
    """The upstream reports an error instead of going on: its own JSON."""

    error: Json


class Ended(msgspec.Struct, frozen=True):
    """The stream came to its proper end."""


Event = (
    Started | PartStarted | PartDelta | PartSigned | PartCited | PartEnded | Likely | Used | Finished | Failed | Ended
)

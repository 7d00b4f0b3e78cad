"""What a model's server told of the tokens of a text, for clients that asked."""

from collections.abc import Iterable, Sequence

import msgspec

from understudy.errors import NOT_JSON
from understudy.llm.messages import ReasoningDelta, TextDelta, ToolCallDelta

Logprobs = dict[str, object]
_decode = msgspec.json.Decoder(Logprobs).decode


def logprobs_of(outputs: Sequence[TextDelta | ReasoningDelta | ToolCallDelta]) -> Logprobs | None:
    """Join what came piece by piece, list by list: a chat's `content`, a bare text's `tokens`,
    `token_logprobs` and so on. What is in no such shape is left out."""
    joined: dict[str, list[object]] = {}
    for told in _told(outputs):
        for name, values in told.items():
            if isinstance(values, list):
                joined.setdefault(name, []).extend(values)
    return dict(joined) or None


def _told(outputs: Iterable[TextDelta | ReasoningDelta | ToolCallDelta]) -> Iterable[Logprobs]:
    for output in outputs:
        if isinstance(output, TextDelta):
            for piece in output.logprobs:
                try:
                    yield _decode(piece)
                except NOT_JSON:
                    continue

"""The replay of recordings finds what is lost between a model server and a client."""

import json
from pathlib import Path

from replay_recordings import Answer, reason_for, recordings_in, replay

CHUNKS = (
    {"choices": [{"index": 0, "delta": {"role": "assistant", "reasoning": "Hm."}}]},
    {"choices": [{"index": 0, "delta": {"content": "The lamp"}}]},
    {"choices": [{"index": 0, "delta": {"content": " is lit."}, "finish_reason": "end_turn"}]},
    {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}},
)
CALL = {"type": "function", "function": {"name": "look", "arguments": "{}"}}
WHOLE = {
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": None, "tool_calls": [CALL]},
            "finish_reason": "stop",
        }
    ],
}
CASSETTE = """\
interactions:
- request: {uri: "https://models.example/v1/chat/completions"}
  response:
    headers: {content-type: [application/json]}
    parsed_body: {error: {message: Slow down, type: rate_limit_error}}
    status: {code: 429}
"""


async def test_recordings_of_every_kind_reach_clients_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.chunks.txt").write_text("\n".join(map(json.dumps, CHUNKS)))
    (tmp_path / "b.json").write_text(json.dumps(WHOLE))
    (tmp_path / "c.yaml").write_text(CASSETTE)

    reasons, wrong = await replay(recordings_in(tmp_path))

    assert wrong == []
    assert reasons == {
        "end_turn is stop": 2,
        "a call gets an id, stop is tool_calls, usage is estimated": 2,
        "it reports an error": 2,
    }


def test_a_difference_without_a_reason_is_found() -> None:
    recorded = Answer("Hi", "", {0: ["a", "f", "{}"]}, "tool_calls", (1, 2))

    lost = (
        Answer("H", "", recorded.calls, "tool_calls", (1, 2)),
        Answer("Hi", "Hm", recorded.calls, "tool_calls", (1, 2)),
        Answer("Hi", "", {}, "tool_calls", (1, 2)),
        Answer("Hi", "", recorded.calls, "stop", (1, 2)),
        Answer("Hi", "", recorded.calls, "tool_calls", (1, 3)),
        Answer("Hi", "", recorded.calls, "tool_calls", (1, 2), failed=True),
    )

    assert [reason_for(recorded, got) for got in lost] == [None] * 6
    assert reason_for(recorded, recorded) == "the same"

"""A streamed reply and the answer in one piece hold the same members, known here or not."""

import json

from understudy.gateway.accumulator import ReplyAccumulator
from understudy.llm.messages import OtherDelta, ReasoningDelta, TextDelta, ToolCallDelta


def frame(delta: dict[str, object], **more: object) -> OtherDelta:
    choice = {"index": 0, "delta": delta, **more}
    return OtherDelta((json.dumps({"id": "a", "choices": [choice]}).encode(),))


def gathered(*outputs: OtherDelta | TextDelta | ReasoningDelta | ToolCallDelta) -> ReplyAccumulator:
    accumulator = ReplyAccumulator()
    for output in outputs:
        accumulator.add(output)
    return accumulator


def test_strings_join_but_names_and_roles_do_not() -> None:
    message = gathered(
        frame({"role": "assistant", "reasoning": "let ", "odd": "a"}),
        frame({"role": "assistant", "reasoning": "me see", "odd": "b"}),
    ).message()

    assert message == {"role": "assistant", "reasoning": "let me see", "odd": "ab"}


def test_lists_extend_and_their_objects_merge_by_index() -> None:
    message = gathered(
        frame({"annotations": [{"url": "x"}], "reasoning_details": [{"index": 0, "text": "le"}]}),
        frame({"annotations": [{"url": "y"}], "reasoning_details": [{"index": 0, "text": "t"}]}),
        frame({"reasoning_details": [{"index": 1, "type": "reasoning.encrypted", "data": "q"}]}),
    ).message()

    assert message == {
        "annotations": [{"url": "x"}, {"url": "y"}],
        "reasoning_details": [
            {"index": 0, "text": "let"},
            {"index": 1, "type": "reasoning.encrypted", "data": "q"},
        ],
    }


def test_tool_calls_keep_members_that_are_unknown_here() -> None:
    signature = {"google": {"thought_signature": "abc"}}
    message = gathered(
        frame({"tool_calls": [{"index": 0, "id": "c", "type": "function", "extra": signature,
                               "function": {"name": "look", "arguments": '{"a"'}}]}),
        frame({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
    ).message()  # fmt: skip

    assert message["tool_calls"] == [
        {
            "id": "c",
            "type": "function",
            "extra": signature,
            "function": {"name": "look", "arguments": '{"a":1}'},
        }
    ]


def test_two_calls_of_one_index_and_different_ids_stay_apart() -> None:
    message = gathered(
        frame({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]}),
        frame({"tool_calls": [{"index": 0, "id": "b", "function": {"name": "g"}}]}),
    ).message()

    calls = message["tool_calls"]
    assert isinstance(calls, list)
    assert [call["id"] for call in calls] == ["a", "b"]


def test_pieces_of_a_call_without_index_belong_to_the_latest() -> None:
    message = gathered(
        frame({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}]}),
        frame({"tool_calls": [{"function": {"arguments": "}"}}]}),
    ).message()

    assert message["tool_calls"] == [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]


def test_members_beside_the_message_keep_their_last_value() -> None:
    kept = gathered(
        frame({}, content_filter_results={"hate": {"severity": "safe"}}, native="x"),
        frame({}, content_filter_results={"hate": {"severity": "safe"}}, native=None),
    )

    assert kept.choice() == {
        "content_filter_results": {"hate": {"severity": "safe"}},
        "native": "x",
    }


def test_outputs_without_a_frame_are_added_too() -> None:
    message = gathered(
        ReasoningDelta("h"), ReasoningDelta("m"), ToolCallDelta(0, "c", "f", "{}")
    ).message()

    assert message["reasoning_content"] == "hm"
    assert message["tool_calls"] == [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


def test_a_long_text_of_many_pieces_is_joined_once() -> None:
    piece = frame({"reasoning": "x" * 50})
    accumulator = gathered(*[piece] * 20_000)

    assert accumulator.message() == {"reasoning": "x" * 1_000_000}

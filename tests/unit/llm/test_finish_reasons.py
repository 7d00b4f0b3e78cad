import pytest
from structlog.testing import capture_logs

from understudy.errors import BadReply, ErrorClass
from understudy.llm.finish_reasons import read_finish_reason


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("stop STOP eos eos_token end_turn stop_sequence COMPLETE", "stop"),
        ("length max_tokens MAX_TOKENS model_length model_context_window_exceeded", "length"),
        ("tool_calls tool_use TOOL_CALL function_call", "tool_calls"),
        (
            "content_filter content_filtered sensitive SAFETY PROHIBITED_CONTENT RECITATION",
            "content_filter",
        ),
    ],
)
def test_every_vendors_word_has_one_of_four_meanings(words: str, reason: str) -> None:
    assert {read_finish_reason(word) for word in words.split()} == {reason}


@pytest.mark.parametrize(
    "word",
    ["network_error", "insufficient_system_resource", "error", "ERROR", "abort", "cancelled"],
)
def test_words_for_giving_up_are_a_broken_stream(word: str) -> None:
    with pytest.raises(BadReply) as broken:
        read_finish_reason(word)

    assert broken.value.error_class is ErrorClass.TRUNCATED_STREAM
    assert word.lower() in broken.value.detail


@pytest.mark.parametrize("word", ["", "  ", "null", None, "FINISH_REASON_UNSPECIFIED"])
def test_an_empty_word_is_no_end(word: str | None) -> None:
    assert read_finish_reason(word) is None


def test_an_unknown_word_is_a_stop_and_is_logged_once() -> None:
    with capture_logs() as logs:
        reasons = [read_finish_reason(word) for word in ("sunset", "Sunset", "sunset", "moonrise")]

    assert reasons == ["stop"] * 4
    assert logs == [
        {"event": "provider.unknown_finish_reason", "log_level": "info", "word": "sunset"},
        {"event": "provider.unknown_finish_reason", "log_level": "info", "word": "moonrise"},
    ]

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import msgspec
import pytest
from pydantic import SecretStr

from gateway_call import LOCAL, Answer, Client, get, post
from reply_events import AttemptEnded, RouterEvent, play
from sample_records import NOON, answered, failed, reply, skipped
from understudy.config.settings import Gateway as GatewaySettings
from understudy.config.settings import GatewayKey
from understudy.errors import ErrorClass
from understudy.gateway.app import Gateway
from understudy.gateway.key_limits import KeyLimits
from understudy.gateway.reply_call import Source
from understudy.llm.frames import CHUNK
from understudy.llm.messages import ReasoningDelta, ReplyIdentity, TextDelta, ToolCallDelta
from understudy.routing.records import OfflineReason, ReplyOutcome, SkipReason
from understudy.routing.request import Answering, ReplyEnded, ReplyRequest, ReplySink, SinkKind
from waiting import LIMIT_S

ASK = {"model": "understudy", "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**ASK, "stream": True}
GOOD = answered("chutes", label="chutes")
ENDED = ReplyEnded(reply(GOOD), text="Hi there", finish_reason="stop")
NAMED = ReplyIdentity("upstream-1", b"5", "lab/model", CHUNK)
SAID: tuple[RouterEvent, ...] = (
    Answering("chutes", "chutes", "lab/model", 2, 2, NAMED),
    TextDelta("Hi", frames=(b'{"choices":[{"index":0,"delta":{"content":"Hi"}}]}',)),
    TextDelta(" there"),
    AttemptEnded(GOOD),
    ENDED,
)


@dataclass
class Router:
    """Plays events; a pause is an event of asyncio that is waited for."""

    events: tuple[RouterEvent | asyncio.Event, ...] = SAID
    requests: list[ReplyRequest] = field(default_factory=list)
    sinks: list[ReplySink] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def reply(self, request: ReplyRequest, sink: ReplySink) -> ReplyEnded:
        self.requests.append(request)
        self.sinks.append(sink)
        self.asked.set()
        return await play(self._played(), sink)

    async def _played(self) -> AsyncGenerator[RouterEvent, None]:
        try:
            for event in self.events:
                if isinstance(event, asyncio.Event):
                    await event.wait()
                else:
                    yield event
        finally:
            self.closed.set()


def gateway(
    router: Router, settings: GatewaySettings | None = None, limits: KeyLimits | None = None
) -> Gateway:
    return Gateway(
        settings or GatewaySettings(),
        Source(
            router.reply, ("chutes/lab/model", "local"), lambda _: True, frozenset(("openrouter",))
        ),
        limits or KeyLimits(),
        new_id=lambda: "r1",
        wall=lambda: NOON,
    )


def keyed(**limits: int) -> GatewaySettings:
    return GatewaySettings(
        keys=(GatewayKey(name="tavern", key=SecretStr("sk-mine"), **limits),)  # type: ignore[arg-type]
    )


def offline(reason: OfflineReason, *attempts: object, **fields: object) -> ReplyEnded:
    record = reply(*attempts, offline_reason=reason, **fields)  # type: ignore[arg-type]
    return ReplyEnded(record, error_class=fields.pop("error_class", None))  # type: ignore[arg-type]


def text_of(answer: Answer) -> str:
    deltas = [
        choice["delta"]
        for frame in answer.frames
        for choice in frame["choices"]  # type: ignore[attr-defined]
    ]
    return "".join(delta.get("content") or "" for delta in deltas)


async def test_a_reply_in_one_piece_has_openais_shape() -> None:
    answer = await post(gateway(Router()), ASK)

    assert answer.status == 200
    assert answer.data == {
        "id": "chatcmpl-r1",
        "object": "chat.completion",
        "created": int(NOON),
        "model": "lab/model-2026",
        "choices": [
            {
                "message": {"role": "assistant", "content": "Hi there"},
                "finish_reason": "stop",
                "index": 0,
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 412,
            "completion_tokens": 57,
            "total_tokens": 469,
            "prompt_tokens_details": {"cached_tokens": 100},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    }


async def test_the_answers_headers_tell_its_id_and_who_gave_it() -> None:
    answer = await post(gateway(Router()), ASK)

    assert answer.headers["x-router-request-id"] == "r1"
    assert answer.headers["x-router-provider"] == "chutes"
    assert answer.headers["x-router-attempts"] == "1"


async def test_a_stream_passes_the_servers_own_frames_on() -> None:
    answer = await post(gateway(Router()), STREAM)

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n' in answer.body
    assert {frame.get("id", "upstream-1") for frame in answer.frames} == {"upstream-1"}
    assert text_of(answer) == "Hi there"
    assert answer.frames[0]["choices"][0]["delta"]["role"] == "assistant"  # type: ignore[index]
    assert answer.frames[-1]["choices"][0]["finish_reason"] == "stop"  # type: ignore[index]
    assert answer.body.endswith(b"data: [DONE]\n\n")


async def test_a_streams_headers_tell_who_answers_and_at_which_try() -> None:
    answer = await post(gateway(Router()), STREAM)
    assert answer.headers["x-router-provider"] == "chutes"
    assert answer.headers["x-router-model"] == "lab/model"
    assert answer.headers["x-router-attempts"] == "2"


async def test_a_name_that_a_server_gave_itself_adds_no_header() -> None:
    odd = msgspec.structs.replace(GOOD, model_served="m\r\nset-cookie: a=b" + "x" * 999)
    end = ReplyEnded(reply(odd), text="Hi there", finish_reason="stop")

    answer = await post(gateway(Router((Answering("chutes", "chutes", "m", 1), end))), ASK)

    assert answer.headers["x-router-model"].startswith("m??set-cookie: a=b")
    assert len(answer.headers["x-router-model"]) == 256


async def test_a_stream_tells_usage_only_to_those_who_ask() -> None:
    silent = await post(gateway(Router()), STREAM)
    told = await post(gateway(Router()), {**STREAM, "stream_options": {"include_usage": True}})

    assert not any("usage" in frame for frame in silent.frames)
    assert told.frames[-1]["choices"] == []
    assert told.frames[-1]["usage"]["total_tokens"] == 469  # type: ignore[index]


async def test_thoughts_and_tool_calls_are_streamed() -> None:
    events = (
        Answering("chutes", "chutes", "lab/model", 1),
        ReasoningDelta("hm"),
        ToolCallDelta(0, "call_1", "look", '{"a"'),
        ToolCallDelta(0, None, None, ":1}"),
        ENDED,
    )

    answer = await post(gateway(Router(events)), STREAM)
    deltas = [frame["choices"][0]["delta"] for frame in answer.frames[1:-1]]  # type: ignore[index]
    assert deltas == [
        {"reasoning_content": "hm"},
        {
            "tool_calls": [
                {
                    "function": {"arguments": '{"a"', "name": "look"},
                    "index": 0,
                    "id": "call_1",
                    "type": "function",
                }
            ]
        },
        {"tool_calls": [{"function": {"arguments": ":1}"}, "index": 0}]},
    ]


async def test_thoughts_and_tool_calls_are_gathered_in_a_whole_answer() -> None:
    end = ReplyEnded(reply(GOOD), text="", finish_reason="tool_calls")
    events = (
        ReasoningDelta("hm"),
        ReasoningDelta("m"),
        ToolCallDelta(1, "call_2", "wait", "{}"),
        ToolCallDelta(0, "call_1", "look", '{"a"'),
        ToolCallDelta(0, None, None, ":1}"),
        end,
    )

    answer = await post(gateway(Router(events)), ASK)
    message = answer.data["choices"][0]["message"]  # type: ignore[index]
    assert message["content"] is None
    assert message["reasoning_content"] == "hmm"
    assert [call["id"] for call in message["tool_calls"]] == ["call_1", "call_2"]
    assert message["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"a":1}'}


async def test_a_frame_of_several_lines_stays_one_frame() -> None:
    said = TextDelta("Hi", frames=(b'{"choices":\n[{"index":0,"delta":{"content":"Hi"}}]}',))

    answer = await post(gateway(Router((SAID[0], said, ENDED))), STREAM)
    assert b'data: {"choices":\ndata: [{"index":0' in answer.body


async def test_a_stream_that_breaks_off_ends_with_an_error_and_done() -> None:
    record = reply(failed("chutes", ErrorClass.IDLE_TIMEOUT), outcome=ReplyOutcome.PARTIAL)
    end = ReplyEnded(record, text="Hi", error_class=ErrorClass.IDLE_TIMEOUT)

    answer = await post(gateway(Router((*SAID[:2], end))), STREAM)
    assert answer.status == 200
    assert answer.frames[-1]["error"]["code"] == "idle_timeout"  # type: ignore[index]
    assert answer.frames[-1]["choices"][0]["finish_reason"] == "error"  # type: ignore[index]
    assert answer.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("ask", [ASK, STREAM])
@pytest.mark.parametrize(
    ("end", "status", "code"),
    [
        (offline(OfflineReason.ALL_RATE_LIMITED), 429, "all_rate_limited"),
        (offline(OfflineReason.ALL_DOWN), 503, "all_down"),
        (offline(OfflineReason.DEADLINE), 504, "deadline"),
        (offline(OfflineReason.NO_CAPABLE), 400, "no_capable_model"),
        (offline(OfflineReason.REJECTED), 403, "rejected"),
        (offline(OfflineReason.CONFIG), 503, "config"),
        (offline(OfflineReason.BUDGET), 429, "budget"),
        (offline(OfflineReason.BUSY), 429, "busy"),
        (
            offline(OfflineReason.TOO_LONG, skipped("local", SkipReason.CONTEXT)),
            400,
            "context_length_exceeded",
        ),
        (ReplyEnded(reply(outcome=ReplyOutcome.PARTIAL), text="Hi"), 502, "broke_off"),
    ],
)
async def test_no_reply_is_an_error_in_openais_shape(
    ask: object, end: ReplyEnded, status: int, code: str
) -> None:
    answer = await post(gateway(Router((end,))), ask)

    assert answer.status == status
    assert answer.error["code"] == code
    assert set(answer.error) == {"message", "type", "code", "param"}
    assert answer.headers["x-router-request-id"] == "r1"


@pytest.mark.parametrize(
    ("error_class", "status"),
    [
        (ErrorClass.BAD_REQUEST, 400),
        (ErrorClass.CONTEXT_OVERFLOW, 400),
        (ErrorClass.PAYLOAD_TOO_LARGE, 413),
        (ErrorClass.CONTENT_POLICY, 403),
    ],
)
async def test_a_rejected_request_tells_whether_the_client_can_mend_it(
    error_class: ErrorClass, status: int
) -> None:
    record = reply(offline_reason=OfflineReason.REJECTED)

    answer = await post(gateway(Router((ReplyEnded(record, error_class=error_class),))), ASK)
    assert answer.status == status


async def test_a_known_recovery_time_goes_into_retry_after() -> None:
    end = offline(OfflineReason.ALL_RATE_LIMITED, retry_at=NOON + 29.2)

    assert (await post(gateway(Router((end,))), ASK)).headers["retry-after"] == "30"


async def test_pictures_that_nothing_can_see_are_named_as_the_reason() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    ask = {"messages": [{"role": "user", "content": [picture]}]}

    answer = await post(gateway(Router((offline(OfflineReason.NO_CAPABLE),))), ask)
    assert answer.error["code"] == "no_vision_model"


async def test_the_router_is_asked_as_the_client_asked() -> None:
    router = Router()
    await post(gateway(router, keyed()), STREAM, authorization="Bearer sk-mine")

    request = router.requests[0]
    assert request.sink == "gateway"
    assert router.sinks[0].kind is SinkKind.APPEND_ONLY
    assert request.origin.user == "key:tavern"
    assert not request.may_trim_prompt


async def test_a_client_that_does_not_stream_is_sent_nothing_before_the_end() -> None:
    router = Router()
    await post(gateway(router), ASK)

    assert router.sinks[0].kind is SinkKind.HELD


@pytest.mark.parametrize(
    ("model", "order"),
    [
        ("understudy", None),
        ("gpt-4o", None),
        ("chutes/lab/model", ("chutes/lab/model",)),
        ("local", ("local",)),
        ("cheap", ("local", "chutes")),
    ],
)
async def test_the_models_name_chooses_what_is_walked(
    model: str, order: tuple[str, ...] | None
) -> None:
    router = Router()
    settings = GatewaySettings(orders={"cheap": ("local", "chutes")})
    await post(gateway(router, settings), {**ASK, "model": model})

    assert router.requests[0].order == order


@pytest.mark.parametrize("model", ["chutes/typo", "openrouter/openrouter/free"])
async def test_a_provider_that_cannot_answer_to_this_name_is_not_replaced(model: str) -> None:
    router = Router()
    answer = await post(gateway(router), {**ASK, "model": model})

    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert router.requests == []


async def test_the_model_list_has_the_whole_order_first() -> None:
    settings = GatewaySettings(orders={"cheap": ("local",)})
    answer = await get(gateway(Router(), settings), "/v1/models")

    ids = [entry["id"] for entry in answer.data["data"]]  # type: ignore[attr-defined]
    assert ids == ["understudy", "cheap", "chutes/lab/model", "local"]


async def test_one_model_can_be_looked_up() -> None:
    served = gateway(Router())

    assert (await get(served, "/v1/models/chutes%2Flab/model")).data["id"] == "chutes/lab/model"
    assert (await get(served, "/v1/models/gpt-4o")).error["code"] == "model_not_found"


async def test_the_base_url_works_with_and_without_v1() -> None:
    assert (await get(gateway(Router()), "/models")).status == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/understudy"])
async def test_the_model_list_needs_a_key_where_there_are_keys(path: str) -> None:
    assert (await get(gateway(Router(), keyed()), path)).status == 401


async def test_a_wrong_path_or_method_is_told_in_openais_shape() -> None:
    served = gateway(Router())

    assert (await get(served, "/v1/nothing")).error["code"] == "unknown_path"
    refused = await get(served, "/v1/chat/completions")

    assert (refused.status, refused.headers["allow"]) == (405, "POST")


async def test_a_full_house_turns_requests_away_before_their_bodies_are_read() -> None:
    speaks = asyncio.Event()
    served = gateway(Router((speaks, *SAID)), GatewaySettings(max_requests=1))
    first = asyncio.ensure_future(post(served, ASK))
    await asyncio.sleep(0)

    refused = await post(served, "no JSON at all")
    speaks.set()
    assert (refused.status, refused.headers["retry-after"]) == (429, "2")
    assert refused.error["code"] == "busy"
    assert (await first).status == 200
    assert (await post(served, ASK)).status == 200


async def test_a_full_key_is_told_when_to_come_back() -> None:
    served = gateway(Router(), keyed(requests_per_day=1))

    first = await post(served, ASK, authorization="Bearer sk-mine")
    second = await post(served, ASK, authorization="Bearer sk-mine")
    assert (first.status, second.status) == (200, 429)
    assert second.headers["retry-after"] == str(int(86_400 - NOON % 86_400))


async def test_a_body_past_the_limit_is_refused() -> None:
    served = gateway(Router(), GatewaySettings(max_body_bytes=1024))
    long = {"messages": [{"role": "user", "content": "a" * 2000}]}

    assert (await post(served, long)).status == 413
    assert (await post(served, ASK, **{"content-length": "2000"})).status == 413


async def test_a_request_holds_its_room_until_it_is_answered() -> None:
    gate = asyncio.Event()
    served = gateway(Router((gate, *SAID)), GatewaySettings(max_held_bytes=1024))
    half = {"messages": [{"role": "user", "content": "a" * 600}]}
    first = asyncio.create_task(post(served, half))
    await asyncio.sleep(0)
    refused = await post(served, half)
    gate.set()

    assert (refused.status, refused.error["code"]) == (429, "busy")
    assert refused.headers["retry-after"] == "2"
    assert (await first).status == 200
    assert (await post(served, half)).status == 200


async def test_a_browser_may_ask_before_it_sends() -> None:
    served = gateway(Router(), GatewaySettings(cors_origins=("https://chat.example",)))
    page = {**LOCAL, "origin": "https://chat.example"}

    answer = await Client(served).call("/v1/chat/completions", b"", method="OPTIONS", headers=page)
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "https://chat.example"
    assert "authorization" in answer.headers["access-control-allow-headers"]


async def test_health_and_document_are_open() -> None:
    served = gateway(Router(), keyed())

    assert (await get(served, "/healthz")).data == {"status": "ok"}
    assert (await get(served, "/openapi.json")).data["openapi"] == "3.1.0"


@pytest.mark.parametrize("ask", [ASK, STREAM])
async def test_a_client_that_hangs_up_ends_the_reply(ask: object) -> None:
    never = asyncio.Event()
    router = Router((*SAID[:2], never))
    client = Client(gateway(router))

    call = asyncio.create_task(client.call("/v1/chat/completions", ask))
    async with asyncio.timeout(LIMIT_S):
        await router.asked.wait()
        client.hung_up.set()
        await router.closed.wait()
        await call


async def test_a_client_that_hangs_up_before_its_reply_begins_frees_its_place() -> None:
    router = Router()
    served = gateway(router, GatewaySettings(max_requests=1))
    gone = Client(served)
    gone.hung_up.set()

    await gone.call("/v1/chat/completions", ASK)
    assert router.requests == []
    assert (await post(served, ASK)).status == 200


async def test_a_reply_that_the_server_cancels_is_an_error() -> None:
    router = Router((asyncio.Event(),))
    client = Client(gateway(router))
    call = asyncio.create_task(client.call("/v1/chat/completions", ASK))
    await router.asked.wait()
    (task,) = client.tasks
    task.cancel()

    assert (await call).status == 500
    assert task.cancelled()
    assert router.closed.is_set()


@pytest.mark.parametrize(
    ("empty", "late"),
    [
        (b"", b""),
        (b'"id":"","created":0,"model":null,"object":"",', b'"id":"","created":0,"object":"",'),
        (b"", b'"id":"late","created":7,"model":"late","object":"late",'),
    ],
)
async def test_frames_without_an_identity_get_the_gateways_own(empty: bytes, late: bytes) -> None:
    frame = b'"choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"}}],"odd":1}'
    finish = b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
    unnamed = Answering("chutes", "chutes", "lab/model", 1)
    end = msgspec.structs.replace(ENDED, frames=(b"{%b%b" % (late, finish),))
    first, second = (TextDelta("Hi", (b"{%b%b" % (named, frame),)) for named in (empty, late))
    events = (unnamed, first, second, end)

    answer = await post(gateway(Router(events)), STREAM)

    assert len(answer.frames) == 3
    assert answer.frames[0]["odd"] == answer.frames[1]["odd"] == 1
    for sent in answer.frames:
        assert (sent["id"], sent["created"], sent["model"], sent["object"]) == (
            "chatcmpl-r1",
            int(NOON),
            "lab/model",
            "chat.completion.chunk",
        )


async def test_the_servers_last_frames_end_a_stream() -> None:
    finish = b'{"id":"upstream-1","choices":[{"index":0,"delta":{},"finish_reason":"eos"}],"odd":1}'
    usage = b'{"choices":[],"usage":{"prompt_tokens":1,"queue_time":0.5},"timings":{"a":1}}'
    end = msgspec.structs.replace(ENDED, frames=(finish, usage))
    asking = {**STREAM, "stream_options": {"include_usage": True}}

    silent = await post(gateway(Router((*SAID[:3], end))), STREAM)
    told = await post(gateway(Router((*SAID[:3], end))), asking)

    assert silent.frames[-1] == {
        "id": "upstream-1",
        "odd": 1,
        "timings": {"a": 1},
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    }
    assert told.frames[-2] == {k: v for k, v in silent.frames[-1].items() if k != "timings"}
    assert told.frames[-1]["usage"]["queue_time"] == 0.5  # type: ignore[index]
    assert told.frames[-1]["usage"]["completion_tokens"] == 57  # type: ignore[index]


async def test_running_replies_end_with_an_error_at_shutdown() -> None:
    never = asyncio.Event()
    served = gateway(Router((*SAID[:2], never)))
    streaming, whole = Client(served), Client(served)
    calls = [
        asyncio.create_task(streaming.call("/v1/chat/completions", STREAM)),
        asyncio.create_task(whole.call("/v1/chat/completions", ASK)),
    ]
    async with asyncio.timeout(LIMIT_S):
        await streaming.begun.wait()
    served.end_replies()
    async with asyncio.timeout(LIMIT_S):
        stream, answer = await asyncio.gather(*calls)

    assert stream.frames[-1]["error"]["code"] == "shutting_down"  # type: ignore[index]
    assert stream.body.endswith(b"data: [DONE]\n\n")
    assert (answer.status, answer.error["code"]) == (503, "shutting_down")


async def test_log_probabilities_reach_the_client() -> None:
    def said(word: str) -> TextDelta:
        tokens = {"content": [{"token": word}], "refusal": None}
        choice = {"index": 0, "delta": {"content": word}, "logprobs": tokens}
        return TextDelta(word, (json.dumps({"choices": [choice]}).encode(),))

    events = (SAID[0], said("Hi"), said(" there"), TextDelta("!"), *SAID[3:])
    whole = await post(gateway(Router(events)), ASK)
    streamed = await post(gateway(Router(events)), STREAM)

    both = {"content": [{"token": "Hi"}, {"token": " there"}], "refusal": None}
    assert whole.data["choices"][0]["logprobs"] == both  # type: ignore[index]
    choices = [frame["choices"][0] for frame in streamed.frames]  # type: ignore[index]
    assert [c.get("logprobs") for c in choices if c["delta"].get("content")] == [
        {"content": [{"token": "Hi"}], "refusal": None},
        {"content": [{"token": " there"}], "refusal": None},
        None,
    ]

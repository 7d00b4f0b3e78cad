"""What each engine does differently, seen from what it is sent."""

import json
from collections.abc import AsyncIterator

import pytest

from paged_server import PagedServer
from playback import Playback, Recording, playing, recordings_of
from understudy.config.providers import NamedServer, OpenRouterServer
from understudy.errors import ConfigError, ErrorClass, ProviderError
from understudy.llm.client import Exchange, LLMClient, ProbeReport, ProbeState, stream_events
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import ChatEvent, ChatRequest, Message, TextDelta, TextPart
from understudy.llm.registry import base_url_of, build_client

CHAT = "POST /v1/chat/completions"
LINE = 'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\n'
STREAM = {"content-type": "text/event-stream"}


@pytest.fixture
async def sessions() -> AsyncIterator[HttpSessions]:
    opened = HttpSessions()
    yield opened
    await opened.aclose()


def answering(*lines: str) -> dict[str, Recording]:
    return {line: Recording("", line, 200, STREAM, [LINE, "data: [DONE]\n\n"]) for line in lines}


def turns(*said: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message(role, (TextPart(text),)) for role, text in said)  # type: ignore[arg-type]


def client_of(playback: Playback, sessions: HttpSessions, **entry: object) -> LLMClient:
    server = NamedServer.model_validate({"base_url": playback.url} | entry)
    return build_client("here", server, sessions=sessions, key="key-0123456789")


async def heard(client: LLMClient, request: ChatRequest, model: str = "m") -> list[ChatEvent]:
    events = [event async for event in stream_events(client, request, model, Exchange())]
    await client.aclose()
    return events


async def sent(
    sessions: HttpSessions, request: ChatRequest, line: str = CHAT, **entry: object
) -> dict[str, object]:
    async with playing(answering(line)) as playback:
        await heard(client_of(playback, sessions, **entry), request)
        return playback.asked[-1].members


async def looked(
    sessions: HttpSessions, recordings: dict[str, Recording], model: str, **entry: object
) -> ProbeReport:
    async with playing(recordings) as playback:
        return await client_of(playback, sessions, **entry).probe(model)


def saying(line: str, status: int, body: object) -> dict[str, Recording]:
    headers = {"content-type": "application/json"}
    return {line: Recording("", line, status, headers, [json.dumps(body)])}


async def test_openrouter_leaves_the_prompt_whole_and_takes_the_operator_s_preferences(
    sessions: HttpSessions,
) -> None:
    server = OpenRouterServer.model_validate({"name": "a/b", "provider": {"sort": "price"}})
    async with playing(answering(CHAT)) as playback:
        entry = server.model_copy(update={"base_url": playback.url})
        client = build_client("openrouter", entry, sessions=sessions, key="k")
        wish = ChatRequest(turns(("user", "hi")), extra=b'{"provider": {"only": ["x"]}}')
        await heard(client, wish)
        asked = playback.asked[-1]

    assert asked.members["plugins"] == [{"id": "context-compression", "enabled": False}]
    assert asked.members["provider"] == {"sort": "price"}
    assert asked.headers["x-openrouter-title"] == "Understudy"
    assert asked.headers["x-openrouter-metadata"] == "enabled"


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        ("bearer", "authorization", "Bearer key-0123456789"),
        ("x-api-key", "x-api-key", "key-0123456789"),
        ("none", "authorization", None),
    ],
)
async def test_nanogpt_shows_its_key_in_three_ways(
    sessions: HttpSessions, auth: str, name: str, value: str | None
) -> None:
    async with playing(answering(CHAT)) as playback:
        client = client_of(playback, sessions, engine="nanogpt", auth=auth)
        await heard(client, ChatRequest(turns(("user", "hi"))))

        assert playback.asked[-1].headers.get(name) == value


async def test_no_client_s_wish_changes_who_pays_at_nanogpt(sessions: HttpSessions) -> None:
    wish = b'{"provider": "x", "billing_mode": "paygo", "models": ["a"], "seed": 4}'
    members = await sent(sessions, ChatRequest(turns(("user", "hi")), extra=wish), engine="nanogpt")

    assert members["seed"] == 4
    assert not {"provider", "billing_mode", "models"} & set(members)


async def test_nanogpt_s_completions_mode_flattens_the_chat(sessions: HttpSessions) -> None:
    members = await sent(
        sessions,
        ChatRequest(turns(("system", "Be kind."), ("user", "hi")), stop=("END",)),
        line="POST /v1/completions",
        engine="nanogpt",
        mode="openai_completions",
    )

    assert members["prompt"] == "Be kind.\n\nUser: hi\nAssistant:"
    assert members["stop"] == ["END", "\nUser:", "\nAssistant:"]
    assert "messages" not in members


@pytest.mark.parametrize("stop", [b'"END"', b'["END"]'])
async def test_a_clients_own_stops_are_kept_where_a_template_has_more(
    sessions: HttpSessions, stop: bytes
) -> None:
    request = ChatRequest(turns(("user", "hi")), extra=b'{"stop":%b,"max_tokens":9}' % stop)
    flat = await sent(
        sessions,
        request,
        line="POST /v1/completions",
        engine="nanogpt",
        mode="openai_completions",
    )
    native = recordings_of("koboldcpp", ("no_chat_endpoint", "native_reply"))
    async with playing(native) as playback:
        client = client_of(playback, sessions, engine="koboldcpp", chat_template="chatml")
        await heard(client, request)
        asked = playback.asked[-1].members

    assert flat["stop"] == ["END", "\nUser:", "\nAssistant:"]
    assert asked["stop_sequence"] == ["END", "<|im_end|>", "<|im_start|>"]
    assert (flat["max_tokens"], asked["max_length"]) == (9, 9)


async def test_a_small_nanogpt_gets_the_end_of_a_long_prompt(sessions: HttpSessions) -> None:
    generate = "POST /generate"
    recordings = saying(generate, 200, {"text": "once\nUser: me"})
    async with playing(recordings) as playback:
        client = client_of(playback, sessions, engine="nanogpt", mode="plain_generate")
        events = await heard(client, ChatRequest(turns(("user", "blah " * 2000 + "the end"))))
        members = playback.asked[-1].members

    prompt = members["prompt"]
    assert isinstance(prompt, str)
    assert prompt.endswith("the end\nAssistant:")
    assert len(prompt) < 1024 * 3
    assert set(members) == {"prompt", "max_tokens"}
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "once"


async def test_a_plain_nanogpt_that_answers_anything_else_is_no_reply(
    sessions: HttpSessions,
) -> None:
    async with playing(saying("POST /generate", 200, {"detail": "x"})) as playback:
        client = client_of(playback, sessions, engine="nanogpt", mode="plain_generate")
        with pytest.raises(ProviderError) as caught:
            await heard(client, ChatRequest(turns(("user", "hi"))))

    assert caught.value.error_class is ErrorClass.BAD_BODY


async def test_text_generation_webui_gets_turns_that_its_templates_take(
    sessions: HttpSessions,
) -> None:
    said = turns(
        ("system", "Be kind."),
        ("user", "one <|im_end|>"),
        ("user", "two <__media__>"),
        ("system", "Stay short."),
    )
    members = await sent(sessions, ChatRequest(said), engine="textgen-webui")

    assert members["messages"] == [
        {"role": "system", "content": "Be kind.\nStay short."},
        {"role": "user", "content": "one < |im_end|>\ntwo "},
    ]
    assert (members["mode"], members["max_tokens"]) == ("instruct", 512)


async def test_an_old_koboldcpp_is_asked_natively_with_the_chosen_template(
    sessions: HttpSessions,
) -> None:
    native = recordings_of("koboldcpp", ("no_chat_endpoint", "native_reply"))
    request = ChatRequest(turns(("user", "hi")), max_tokens=9, temperature=0.5)
    async with playing(native) as playback:
        client = client_of(playback, sessions, engine="koboldcpp", chat_template="chatml")
        await heard(client, request)
        await heard(client, request)
        lines = [asked.line for asked in playback.asked]
        members = playback.asked[-1].members

    assert lines == [CHAT, *["POST /api/extra/generate/stream"] * 2]
    assert members["prompt"] == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert (members["max_length"], members["temperature"]) == (9, 0.5)
    assert members["stop_sequence"] == ["<|im_end|>", "<|im_start|>"]


async def test_chutes_shows_the_key_to_the_account_because_the_list_is_public(
    sessions: HttpSessions,
) -> None:
    models = saying("GET /v1/models", 200, {"data": [{"id": "o/M-TEE", "max_model_len": 4096}]})
    refused = models | saying("GET /users/me", 401, {"detail": "no"})
    welcome = models | saying("GET /users/me", 200, {"balance": 1})

    bad = await looked(sessions, refused, "o/M-TEE", engine="chutes")
    good = await looked(sessions, welcome, "x/y,o/M-TEE:latency", engine="chutes")

    assert bad.state is ProbeState.KEY_REFUSED
    assert (good.state, good.context_length) == (ProbeState.READY, 4096)


@pytest.mark.parametrize(
    ("model", "system"),
    [
        (
            "anthropic/claude-sonnet-4.5",
            [{"type": "text", "text": "Rules.", "cache_control": {"type": "ephemeral"}}],
        ),
        ("meta-llama/llama-4-scout:free", "Rules."),
    ],
)
async def test_openrouter_marks_the_system_text_for_models_that_cache_on_request(
    sessions: HttpSessions, model: str, system: object
) -> None:
    request = ChatRequest(turns(("system", "Rules."), ("user", "Hi")))
    async with playing(answering(CHAT)) as playback:
        client = client_of(playback, sessions, engine="openrouter")
        await heard(client, request, model)
        asked = playback.asked[-1].members

    assert asked["messages"] == [
        {"role": "system", "content": system},
        {"role": "user", "content": "Hi"},
    ]


@pytest.mark.parametrize("engine", ["openai", "nanogpt", "chutes", "llama.cpp"])
async def test_no_other_engine_is_sent_marks_for_caching(
    sessions: HttpSessions, engine: str
) -> None:
    request = ChatRequest(turns(("system", "Rules."), ("user", "Hi")))
    async with playing(answering(CHAT)) as playback:
        await heard(
            client_of(playback, sessions, engine=engine), request, "anthropic/claude-sonnet-4.5"
        )
        asked = playback.asked[-1].members

    assert "cache_control" not in str(asked)


async def test_openrouter_shows_the_key_and_knows_its_own_routers(sessions: HttpSessions) -> None:
    models = saying("GET /v1/models", 200, {"data": [{"id": "a/b", "context_length": 4096}]})
    refused = models | saying("GET /v1/key", 401, {"error": {"code": 401, "message": "no"}})

    bad = await looked(sessions, refused, "a/b", engine="openrouter")
    states = [
        (await looked(sessions, models, name, engine="openrouter")).state
        for name in ("a/b", "a/b:nitro", "openrouter/auto", "~a/b-latest", "a/b:free", "a/c")
    ]

    assert bad.state is ProbeState.KEY_REFUSED
    assert states == [ProbeState.READY] * 4 + [ProbeState.MODEL_MISSING] * 2


async def test_nanogpt_shows_the_key_to_the_usage_page(sessions: HttpSessions) -> None:
    listed = {"id": "m", "context_length": 8000, "capabilities": {"vision": True}}
    models = saying("GET /v1/models", 200, {"data": [listed]})

    bad = await looked(
        sessions, models | saying("GET /v1/usage", 401, {"error": "no"}), "m", engine="nanogpt"
    )
    good = await looked(sessions, models, "m", engine="nanogpt")

    assert bad.state is ProbeState.KEY_REFUSED
    assert (good.state, good.context_length, good.vision) == (ProbeState.READY, 8000, True)


async def test_a_probe_tells_where_a_server_redirects_to(sessions: HttpSessions) -> None:
    moved = Recording("", "GET /v1/models", 301, {"location": "https://x.test/v1/models"}, [])

    report = await looked(sessions, {moved.request: moved}, "m")

    assert report.state is ProbeState.BROKEN
    assert "https://x.test/v1" in report.advice


@pytest.mark.parametrize(
    ("preset", "absent", "present"),
    [
        ("google", {"frequency_penalty", "top_k", "user", "seed"}, {"max_tokens"}),
        ("mistral", {"stream_options", "seed", "user", "top_k"}, {"random_seed", "max_tokens"}),
        ("groq", {"max_tokens", "top_k", "user"}, {"max_completion_tokens", "seed"}),
        ("openai", {"max_tokens"}, {"max_completion_tokens", "user", "top_k"}),
        ("ollama", {"user"}, {"seed", "max_tokens"}),
    ],
)
async def test_a_preset_sends_only_what_its_server_takes(
    sessions: HttpSessions, preset: str, absent: set[str], present: set[str]
) -> None:
    extra = b'{"seed": 1, "user": "u", "top_k": 3, "frequency_penalty": 0.1}'
    request = ChatRequest(turns(("user", "hi")), max_tokens=5, extra=extra)

    members = set(await sent(sessions, request, preset=preset))

    assert not absent & members
    assert present <= members
    assert {"messages", "model", "stream"} <= members


def test_an_unknown_preset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="did you mean 'ollama'"):
        build_client("x", NamedServer(preset="olama"), sessions=HttpSessions())
    entry = NamedServer(engine="koboldcpp", chat_template="alpaka")
    with pytest.raises(ConfigError, match="chat_template 'alpaka' is not one of"):
        build_client("x", entry, sessions=HttpSessions())
    with pytest.raises(ConfigError, match="needs a base_url"):
        build_client("x", NamedServer(), sessions=HttpSessions())


def test_every_entry_has_an_address_of_its_own_or_a_usual_one() -> None:
    assert base_url_of(NamedServer(preset="groq")) == "https://api.groq.com/openai/v1"
    assert base_url_of(NamedServer(engine="koboldcpp")) == "http://127.0.0.1:5001/v1"
    assert base_url_of(NamedServer(base_url="http://box")) == "http://box"


@pytest.mark.parametrize("body", ["<html>Welcome</html>", '{"data": "none"}', "{}", "null"])
async def test_a_probe_of_something_that_lists_no_models_says_so(
    sessions: HttpSessions, body: str
) -> None:
    page = Recording("", "GET /v1/models", 200, {"content-type": "text/html"}, [body])

    report = await looked(sessions, {"GET /v1/models": page}, "m")

    assert report.state is ProbeState.BROKEN
    assert "check base_url" in report.advice


@pytest.mark.parametrize("engine", ["koboldcpp", "textgen-webui", "openai"])
async def test_what_a_client_left_null_is_not_sent(sessions: HttpSessions, engine: str) -> None:
    request = ChatRequest(
        turns(("user", "hi")),
        extra=b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":null,"stop":null,"a":0}',
    )

    members = await sent(sessions, request, engine=engine, max_tokens=300)

    assert members["max_tokens"] == 300
    assert "stop" not in members
    assert members["a"] == 0


TOKENS = "POST /v1/internal/token-count"
COUNTED = Recording("", TOKENS, 200, {"content-type": "application/json"}, ['{"length": 1}'])
BROKEN = Recording("", TOKENS, 500, {"content-type": "text/plain"}, ["Internal Server Error"])
REFUSED = Recording("", CHAT, 500, {"content-type": "text/plain"}, ["Internal Server Error"])
BLANK = Recording("", CHAT, 200, STREAM, [])


@pytest.mark.parametrize("answer", [REFUSED, BLANK])
@pytest.mark.parametrize(
    ("count", "error_class"), [(COUNTED, ErrorClass.BAD_REQUEST), (BROKEN, None)]
)
async def test_textgen_webui_that_still_counts_was_asked_something_wrong(
    sessions: HttpSessions, answer: Recording, count: Recording, error_class: ErrorClass | None
) -> None:
    async with playing({CHAT: answer, TOKENS: count}) as playback:
        client = client_of(playback, sessions, engine="textgen-webui")
        with pytest.raises(ProviderError) as caught:
            await heard(client, ChatRequest(turns(("user", "hi"))))

    own = ErrorClass.SERVER_ERROR if answer is REFUSED else ErrorClass.EMPTY_REPLY
    assert caught.value.error_class is (error_class or own)


async def test_textgen_webui_is_never_asked_for_a_reply_as_long_as_its_context(
    sessions: HttpSessions,
) -> None:
    request = ChatRequest(turns(("user", "x" * 1000)), extra=b'{"max_tokens": 9000}')

    body = await sent(sessions, request, engine="textgen-webui", context_length=2048)

    assert body["max_tokens"] == 2048 - 303 - 64


async def test_textgen_webui_is_not_asked_for_no_tokens(sessions: HttpSessions) -> None:
    async with playing(answering(CHAT)) as playback:
        client = client_of(playback, sessions, engine="textgen-webui")
        with pytest.raises(ProviderError) as caught:
            await heard(client, ChatRequest(turns(("user", "hi")), extra=b'{"max_tokens": 0}'))

    assert caught.value.error_class is ErrorClass.BAD_REQUEST
    assert playback.asked == []


@pytest.mark.parametrize("engine", ["textgen-webui", "koboldcpp", "llama.cpp"])
async def test_lists_of_text_and_developers_become_what_engines_at_home_take(
    sessions: HttpSessions, engine: str
) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    shown = [{"type": "text", "text": "what is this"}, image]
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be"}, {"text": "short."}]},
        {"role": "user", "content": shown},
        {"role": "assistant", "content": None, "tool_calls": []},
    ]
    extra = json.dumps({"messages": messages}).encode()

    body = await sent(sessions, ChatRequest((), extra=extra), engine=engine)

    assert body["messages"] == [
        {"role": "system", "content": "Be\nshort."},
        {"role": "user", "content": shown},
        messages[2],
    ]


ROUTER = {
    "/health": '{"status": "ok"}',
    "/v1/models": json.dumps(
        {
            "data": [
                {"id": "a/see", "status": {"value": "loaded"}},
                {"id": "blind", "status": {"value": "unloaded"},
                 "architecture": {"input_modalities": ["text"]}},
            ]
        }
    ),
    "/props": '{"role": "router", "default_generation_settings": {"n_ctx": 0}}',
    "/props?model=a%2Fsee&autoload=false": json.dumps(
        {"default_generation_settings": {"n_ctx": 2048}, "modalities": {"vision": True}}
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "n_ctx", "vision"), [("a/see", 2048, True), ("blind", None, False)]
)
async def test_a_router_of_llama_cpp_is_asked_about_each_model_without_loading_it(
    model: str, n_ctx: int | None, vision: bool
) -> None:
    sessions = HttpSessions()
    async with PagedServer(ROUTER).listening() as server:
        settings = NamedServer(engine="llama.cpp", base_url=server.url, name=model)
        report = await build_client("home", settings, sessions=sessions).probe(model)
    await sessions.aclose()

    assert (report.context_length, report.vision) == (n_ctx, vision)
    assert all("autoload=false" in path for path in server.asked if "model=" in path)


QWEN = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"
CHOICE = (
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)
HISTORY = "{{ m.content.split('</think>') }}"


@pytest.mark.parametrize(
    ("template", "opens"),
    [(QWEN, True), (HISTORY + QWEN, True), (CHOICE, None), ("<think>", None), ("", None)],
)
async def test_llama_cpp_says_whether_its_template_opens_the_thought(
    template: str, opens: bool | None, sessions: HttpSessions
) -> None:
    pages = {
        "/health": '{"status": "ok"}',
        "/v1/models": '{"data": [{"id": "m"}]}',
        "/props": json.dumps({"chat_template": template}),
    }
    async with PagedServer(pages).listening() as server:
        settings = NamedServer(engine="llama.cpp", base_url=server.url, name="m")
        report = await build_client("home", settings, sessions=sessions).probe("m")

    assert report.opens_thought is opens

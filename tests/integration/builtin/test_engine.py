"""A model in a process of its own, over the tiny model: loading, speaking, dying, coming back."""

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tiny_model import CONTEXT, make_tiny_model
from tiny_projector import make_tiny_projector
from understudy.config.providers import LocalServer, NamedServer
from understudy.errors import ErrorClass, ProviderError
from understudy.llm.builtin.options import BuiltinOptions
from understudy.llm.builtin.server import BuiltinServer, ServerState
from understudy.llm.builtin.servers import BuiltinServers
from understudy.llm.client import Exchange, LLMClient, ProbeState, stream_events
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import (
    ChatEvent,
    ChatRequest,
    Finished,
    ImagePart,
    Message,
    TextDelta,
    TextPart,
)
from understudy.llm.registry import build_client, builtin_options
from understudy.model_files.folder import ModelFolder
from waiting import LIMIT_S


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    whole = make_tiny_model(folder / "tiny.gguf", ends=False).read_bytes()
    make_tiny_projector(folder / "mmproj.gguf")
    (folder / "alien.gguf").write_bytes(whole.replace(b"llama", b"xlama"))
    (folder / "short.gguf").write_bytes(whole[:-100_000])
    (folder / "text.gguf").write_text("a text, and no model at all")
    return folder


class Home:
    """Servers and clients of one test."""

    def __init__(self, servers: BuiltinServers, sessions: HttpSessions) -> None:
        self.servers = servers
        self.sessions = sessions

    def client(self, **entry: object) -> LLMClient:
        server = _entry(entry)
        return build_client("own", server, sessions=self.sessions, builtin=self.servers)

    def server(self, **entry: object) -> BuiltinServer:
        options = builtin_options(_entry(entry))
        assert options is not None
        return self.servers.server(options)


def _entry(entry: dict[str, object]) -> NamedServer:
    fields = {"engine": "builtin", "model": "tiny.gguf", "max_tokens": 8} | entry
    return NamedServer.model_validate(fields)


@pytest.fixture
async def home(models: Path) -> AsyncIterator[Home]:
    sessions = HttpSessions()
    servers = BuiltinServers(sessions, base=models, folder=ModelFolder(models))
    yield Home(servers, sessions)
    await servers.aclose()
    await sessions.aclose()


def asking(*parts: ImagePart, max_tokens: int = 8) -> ChatRequest:
    return ChatRequest((Message("user", (TextPart("the cat"), *parts)),), max_tokens=max_tokens)


def picture() -> ImagePart:
    drawn = io.BytesIO()
    Image.new("RGB", (28, 28), "red").save(drawn, "PNG")
    return ImagePart(drawn.getvalue(), "image/png", 28, 28, "red.png", "d")


async def heard(client: LLMClient, request: ChatRequest | None = None) -> list[ChatEvent]:
    return [event async for event in stream_events(client, request or asking(), "", Exchange())]


async def _rest(events: AsyncIterator[ChatEvent]) -> None:
    async for _ in events:
        pass


async def refusal(client: LLMClient, *, may_wait: bool = True) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        async for _ in stream_events(client, asking(), "", Exchange(may_wait=may_wait)):
            pass
    return caught.value


async def until(true: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    async with asyncio.timeout(limit_s):
        while not true():  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)


def processes() -> list[psutil.Process]:
    """The children of this process that run a model."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE
        and "understudy.llm.builtin.child" in child.cmdline()
    ]


async def test_the_first_question_loads_the_model_and_is_answered(home: Home) -> None:
    client, exchange = home.client(), Exchange()
    assert processes() == []
    events = [event async for event in stream_events(client, asking(), "", exchange)]

    end = events[-1]
    assert isinstance(end, Finished)
    assert end.usage is not None
    assert (end.reason, end.usage.output_tokens) == ("length", 8)
    assert any(isinstance(event, TextDelta) and event.text.strip() for event in events)
    assert await client.count_tokens(asking(), "") == end.usage.input_tokens
    assert len(processes()) == 1
    assert exchange.loading_s > 0


async def test_a_probe_tells_the_same_before_and_after_loading(home: Home) -> None:
    client = home.client(mmproj="mmproj.gguf", context_length=1024, parallel=3)
    before = await client.probe("")
    assert processes() == []
    await heard(client)
    after = await client.probe("")

    assert (before.state, before.context_length, before.vision) == (ProbeState.READY, 1024, True)
    assert (before.model, before.max_concurrency) == ("tiny", 3)
    assert (after.state, after.context_length, after.vision) == (ProbeState.READY, 1024, True)
    assert (after.model, after.max_concurrency) == ("tiny", 3)


async def test_replies_have_an_end_and_defaults_of_other_servers_do_not_reach_it(
    home: Home,
) -> None:
    local = LocalServer.model_validate({"enabled": True, "engine": "builtin", "model": "tiny.gguf"})
    client = build_client("local", local, sessions=home.sessions, builtin=home.servers)
    events = await heard(client, ChatRequest((Message("user", (TextPart("the cat"),)),)))
    inner = client._client(home.server().address)  # type: ignore[attr-defined]

    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "length"
    assert inner.facts.sampling == {"max_tokens": 300}


async def test_no_more_context_is_given_than_the_model_has(home: Home) -> None:
    report = await home.client(context_length=100_000).probe("")

    assert report.context_length == CONTEXT


async def test_a_model_with_an_encoder_sees_and_one_without_refuses(home: Home) -> None:
    seeing = await heard(home.client(mmproj="mmproj.gguf"), asking(picture()))
    with pytest.raises(ProviderError) as caught:
        await heard(home.client(), asking(picture()))

    assert isinstance(seeing[-1], Finished)
    assert caught.value.error_class is ErrorClass.UNSUPPORTED_INPUT


async def test_who_has_another_server_is_not_kept_waiting(home: Home) -> None:
    client, server = home.client(), home.server()
    error = await refusal(client, may_wait=False)
    probe = await client.probe("")
    await until(lambda: server.state is ServerState.READY)

    assert (error.error_class, probe.state) == (ErrorClass.LOADING, ProbeState.LOADING)
    assert isinstance((await heard(client))[-1], Finished)


async def test_equal_entries_share_a_process_and_different_ones_do_not(home: Home) -> None:
    await asyncio.gather(*(heard(home.client()) for _ in range(4)))
    assert len(processes()) == 1

    await heard(home.client(context_length=512))
    assert len(processes()) == 2


async def test_a_kill_in_mid_reply_is_a_broken_stream_and_the_next_reply_comes(home: Home) -> None:
    client = home.client(max_tokens=1500)
    server = home.server(max_tokens=1500)
    async with aclosing(stream_events(client, asking(max_tokens=1500), "", Exchange())) as events:
        await anext(events)
        processes()[0].kill()
        with pytest.raises(ProviderError) as caught:
            await _rest(events)
    await until(lambda: server.state is not ServerState.READY)
    async with asyncio.timeout(LIMIT_S):
        again = await heard(client)

    assert caught.value.error_class is ErrorClass.TRUNCATED_STREAM
    assert isinstance(again[-1], Finished)


async def test_leaving_in_the_middle_frees_the_model_for_the_next(home: Home) -> None:
    client = home.client(parallel=1)
    async with aclosing(stream_events(client, asking(max_tokens=1900), "", Exchange())) as events:
        await anext(events)
    async with asyncio.timeout(LIMIT_S):
        assert isinstance((await heard(client))[-1], Finished)


@pytest.mark.parametrize(
    ("entry", "error_class", "said"),
    [
        ({"model": "absent.gguf"}, ErrorClass.MODEL_GONE, "There is no file"),
        ({"model": "qwen3-4b"}, ErrorClass.MODEL_GONE, "understudy models get qwen3-4b"),
        ({"model": "text.gguf"}, ErrorClass.MODEL_GONE, "is not a GGUF file"),
        ({"model": "short.gguf"}, ErrorClass.MODEL_GONE, "is incomplete"),
        ({"model": "alien.gguf"}, ErrorClass.MODEL_GONE, "has the architecture 'xlama'"),
        ({"model": "mmproj.gguf"}, ErrorClass.MODEL_GONE, "is an image encoder"),
        ({"mmproj": "tiny.gguf"}, ErrorClass.MODEL_GONE, "is not an image encoder"),
        ({"memory_limit_mb": 64}, ErrorClass.MODEL_GONE, "memory_limit_mb is 64"),
        ({"chat_template": "none.jinja"}, ErrorClass.MODEL_GONE, "none.jinja cannot be read"),
    ],
)
async def test_what_cannot_be_loaded_says_why_in_a_sentence(
    entry: dict[str, object], error_class: ErrorClass, said: str, home: Home
) -> None:
    client = home.client(**entry)
    error = await refusal(client)
    report = await client.probe("")

    assert error.error_class is error_class
    assert 0 < (error.retry_after_s or 0) <= 15
    assert said in error.detail
    assert report.advice == error.detail
    assert report.state is ProbeState.MODEL_MISSING
    assert processes() == []


async def test_a_model_larger_than_the_memory_is_refused_with_what_would_fit(
    models: Path, home: Home
) -> None:
    huge = models / "huge.gguf"
    huge.write_bytes((models / "tiny.gguf").read_bytes())
    with huge.open("r+b") as file:
        file.truncate(2 * psutil.virtual_memory().total)  # takes no room on the disk
    client = home.client(model="huge.gguf")
    error = await refusal(client)
    huge.unlink()

    assert error.error_class is ErrorClass.OVERLOADED
    assert "huge.gguf needs about" in error.detail
    assert "would fit" in error.detail
    assert (await client.probe("")).state is ProbeState.BROKEN


async def test_a_file_that_is_put_right_is_loaded_later(models: Path, tmp_path: Path) -> None:
    now = 0.0
    async with AsyncExitStack() as stack:
        sessions = HttpSessions()
        stack.push_async_callback(sessions.aclose)
        servers = BuiltinServers(
            sessions, base=tmp_path, folder=ModelFolder(tmp_path), clock=lambda: now
        )
        stack.push_async_callback(servers.aclose)
        client = Home(servers, sessions).client(model="late.gguf")
        await refusal(client)
        (tmp_path / "late.gguf").write_bytes((models / "tiny.gguf").read_bytes())
        assert (await refusal(client)).error_class is ErrorClass.MODEL_GONE
        now += 60

        assert isinstance((await heard(client))[-1], Finished)


async def test_an_idle_model_gives_its_memory_back_and_returns_on_demand(models: Path) -> None:
    now = 0.0
    sessions = HttpSessions()
    servers = BuiltinServers(sessions, base=models, folder=ModelFolder(models), clock=lambda: now)
    home = Home(servers, sessions)
    entry = {"idle_unload_minutes": 5.0}
    client, server = home.client(**entry), home.server(**entry)
    try:
        await heard(client)
        await client.aclose()  # the reply no longer holds the process
        now += 301
        await until(lambda: server.state is ServerState.STOPPED)
        assert processes() == []
        assert (await client.probe("")).state is ProbeState.READY
        assert isinstance((await heard(client))[-1], Finished)
    finally:
        await servers.aclose()
        await sessions.aclose()


async def test_a_model_out_of_use_ends_after_its_last_reply(home: Home) -> None:
    client, server = home.client(), home.server()
    async with aclosing(stream_events(client, asking(max_tokens=1900), "", Exchange())) as events:
        await anext(events)
        home.servers.keep(set[BuiltinOptions]())
        assert isinstance(await anext(events), TextDelta)
        assert server.state is ServerState.READY
    await until(lambda: server.state is ServerState.STOPPED)

    assert processes() == []


async def test_nothing_secret_reaches_the_process(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-secret")
    monkeypatch.setenv("DISCORD_TOKEN", "discord-secret")
    await heard(home.client())
    address = home.server().address
    (process,) = processes()

    assert address is not None
    assert address.key not in " ".join(process.cmdline())
    held = str(process.environ())
    assert not any(secret in held for secret in ("sk-secret", "discord-secret", address.key))
    assert address.url.startswith("http://127.0.0.1:")


async def test_only_the_bot_may_use_it(home: Home) -> None:
    await heard(home.client())
    address = home.server().address
    assert address is not None
    other = NamedServer.model_validate({"engine": "llama.cpp", "base_url": address.url})
    sessions = HttpSessions()
    stranger = build_client("stranger", other, sessions=sessions, key="guessed")
    error = await refusal(stranger)
    await sessions.aclose()

    assert error.error_class is ErrorClass.AUTH


@pytest.mark.skipif(os.name != "posix", reason="signals")
async def test_ctrl_c_in_the_terminal_does_not_reach_it(home: Home) -> None:
    client = home.client()
    await heard(client)
    (process,) = processes()

    assert os.getpgid(process.pid) != os.getpgid(0)


def test_it_never_outlives_the_bot(models: Path) -> None:
    script = (
        "import asyncio, os, signal, sys\n"
        "from understudy.llm.builtin.launch import Launch\n"
        "from understudy.llm.builtin.process import model_process\n"
        "async def main():\n"
        f"    launch = Launch({str(models / 'tiny.gguf')!r}, None, 'x', 512, 1, 1, 0, None, 8)\n"
        "    async with model_process(launch, 'k') as process:\n"
        "        print(process.pid, flush=True)\n"
        f"        os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    try:
        psutil.Process(int(done.stdout)).wait(timeout=LIMIT_S)
    except psutil.NoSuchProcess:
        return

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from understudy.errors import ConfigError
from understudy.rehearsal.faults import FAULTS, NAMES, WHOLE, behaviour
from understudy.rehearsal.script import at_random, script
from understudy.rehearsal.server import Cast, RehearsalServer

ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
HANGING = {"silent", "hdrstall", "rolestall", "midstall", "comments"}
WHOLE_BUT_USELESS = {"htmltext", "garbage", "replaced", "leak"}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


async def ask(
    http: aiohttp.ClientSession, server: RehearsalServer, *, stream: bool = True
) -> tuple[int, bytes]:
    url = f"{server.base_url}/chat/completions"
    async with http.post(url, json={**ASK, "stream": stream}, allow_redirects=False) as response:
        return response.status, await response.read()


def frames_of(body: bytes) -> list[dict[str, object]]:
    lines = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")]
    return [json.loads(line) for line in lines]


def text_of(body: bytes) -> str:
    deltas = [
        choice["delta"]
        for frame in frames_of(body)
        for choice in frame["choices"]  # type: ignore[attr-defined]
    ]
    return "".join(delta.get("content", "") for delta in deltas)


async def test_a_healthy_server_streams_word_by_word_with_usage(
    http: aiohttp.ClientSession,
) -> None:
    async with RehearsalServer("say:One two three") as server:
        status, body = await ask(http, server)

    assert status == 200
    assert text_of(body) == "One two three"
    assert len(frames_of(body)) == 6  # role, three words, finish, usage
    assert frames_of(body)[-1]["usage"]["completion_tokens"] == 3  # type: ignore[index]
    assert body.endswith(b"data: [DONE]\n\n")


async def test_a_caller_that_does_not_stream_gets_one_piece(http: aiohttp.ClientSession) -> None:
    async with RehearsalServer("say:One two three") as server:
        _, body = await ask(http, server, stream=False)

    reply = json.loads(body)
    assert reply["choices"][0]["message"]["content"] == "One two three"
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] + 3


async def test_the_partner_knows_its_name_and_is_the_same_under_a_seed(
    http: aiohttp.ClientSession,
) -> None:
    question = {**ASK, "messages": [{"role": "user", "content": "Who are you?"}]}

    async def answer(seed: int) -> str:
        async with (
            RehearsalServer(cast=Cast(name="Mimi", seed=seed)) as server,
            http.post(f"{server.base_url}/chat/completions", json=question) as response,
        ):
            return text_of(await response.read())

    assert "Mimi" in await answer(1)
    assert await answer(1) == await answer(1)


async def test_a_script_meets_each_call_in_turn_and_stays_with_its_last_step(
    http: aiohttp.ClientSession,
) -> None:
    async with RehearsalServer("e429 x2, e503:7, say:Yes, at last") as server:
        statuses = [(await ask(http, server))[0] for _ in range(5)]

        assert statuses == [429, 429, 503, 200, 200]
        assert server.calls == 5
        assert server.last_body["model"] == "m"


async def test_the_behaviour_changes_while_the_server_runs(http: aiohttp.ClientSession) -> None:
    async with RehearsalServer("ok") as server:
        await ask(http, server)
        server.play("e500, e401")

        assert [(await ask(http, server))[0] for _ in range(3)] == [500, 401, 401]


@pytest.mark.parametrize(
    ("name", "value"),
    [("e429", "5"), ("e429long", "30"), ("e503:2", "2"), ("e429decimal", "2.5"), ("e500", None)],
)
async def test_retry_after_comes_in_the_form_asked_for(
    http: aiohttp.ClientSession, name: str, value: str | None
) -> None:
    async with (
        RehearsalServer(name) as server,
        http.post(f"{server.base_url}/chat/completions", json=ASK) as response,
    ):
        assert response.headers.get("Retry-After") == value


@pytest.mark.parametrize("name", sorted(HANGING))
async def test_a_stalled_call_is_noticed_when_the_caller_leaves(
    http: aiohttp.ClientSession, name: str
) -> None:
    async with RehearsalServer(name) as server:
        call = asyncio.create_task(ask(http, server))
        await server.until(lambda seen: seen.calls == 1 and len(seen.asked) == 1)
        call.cancel()
        await server.until(lambda seen: len(seen.disconnects) == 1)

        assert server.disconnects[0].call == 1
        assert server.seen.in_flight <= 1


async def test_headers_arrive_although_nothing_follows(http: aiohttp.ClientSession) -> None:
    async with (
        RehearsalServer("hdrstall") as server,
        http.post(f"{server.base_url}/chat/completions", json=ASK) as response,
    ):
        assert response.status == 200
        assert response.content_type == "text/event-stream"


async def test_cut_breaks_the_connection_after_five_words(http: aiohttp.ClientSession) -> None:
    async with RehearsalServer("cut") as server:
        got = b""

        async def read() -> None:
            nonlocal got
            async with http.post(f"{server.base_url}/chat/completions", json=ASK) as response:
                async for piece in response.content.iter_any():
                    got += piece

        with pytest.raises(aiohttp.ClientError):
            await read()

        assert len(text_of(got).split()) == 5
        assert server.disconnects == []


async def test_a_clean_cut_ends_the_body_without_a_finish(http: aiohttp.ClientSession) -> None:
    async with RehearsalServer("cleancut") as server:
        _, body = await ask(http, server)

    assert len(text_of(body).split()) == 5
    assert b"[DONE]" not in body
    assert b'"finish_reason": "stop"' not in body


async def test_a_half_frame_ends_in_the_middle_of_a_line(http: aiohttp.ClientSession) -> None:
    async with RehearsalServer("halfframe") as server:
        _, body = await ask(http, server)

    assert body.endswith(b'[{"ind')


async def test_a_server_that_goes_down_refuses_and_comes_back_on_its_port(
    http: aiohttp.ClientSession,
) -> None:
    async with RehearsalServer("ok") as server:
        url = server.base_url
        await server.go_down()
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(http, server)
        await server.come_up()

        assert (await ask(http, server))[0] == 200
        assert server.base_url == url


async def test_the_model_list_names_models_context_and_eyes(http: aiohttp.ClientSession) -> None:
    cast = Cast(models=("a", "b"), context_length=4096, vision=True)
    async with (
        RehearsalServer(cast=cast) as server,
        http.get(f"{server.base_url}/models") as response,
    ):
        rows = (await response.json())["data"]

    assert [row["id"] for row in rows] == ["a", "b"]
    assert rows[0]["context_length"] == 4096
    assert rows[0]["architecture"]["input_modalities"] == ["text", "image"]


async def test_a_wrong_key_is_refused_on_every_page(http: aiohttp.ClientSession) -> None:
    async with RehearsalServer(cast=Cast(api_key="k")) as server:
        headers = {"Authorization": "Bearer k"}
        assert (await ask(http, server))[0] == 401
        async with http.get(f"{server.base_url}/models") as response:
            assert response.status == 401
        async with http.get(f"{server.base_url}/models", headers=headers) as response:
            assert response.status == 200


@pytest.mark.parametrize("name", sorted(set(FAULTS) - HANGING - WHOLE_BUT_USELESS))
async def test_no_fault_ends_like_a_whole_reply_with_text(
    http: aiohttp.ClientSession, name: str
) -> None:
    async with RehearsalServer(name) as server:
        try:
            status, body = await ask(http, server)
        except aiohttp.ClientError:
            return

    finished = b'"finish_reason": "stop"' in body and text_of(body)
    assert status != 200 or not finished


@pytest.mark.parametrize("name", sorted(set(WHOLE) - {"slow"}))
async def test_every_whole_behaviour_ends_with_done(http: aiohttp.ClientSession, name: str) -> None:
    async with RehearsalServer(name) as server:
        _, body = await ask(http, server)

    assert body.endswith(b"data: [DONE]\n\n")


async def test_a_priced_server_names_the_cost_of_its_tokens(http: aiohttp.ClientSession) -> None:
    async with RehearsalServer("say:One two", cast=Cast(usd_per_token=0.5)) as server:
        _, body = await ask(http, server)

    usage = frames_of(body)[-1]["usage"]
    assert usage["cost"] == 0.5 * usage["total_tokens"]  # type: ignore[index]


async def test_a_token_limit_cuts_the_words_and_says_so(http: aiohttp.ClientSession) -> None:
    async with RehearsalServer() as server:
        url = f"{server.base_url}/chat/completions"
        async with http.post(url, json={**ASK, "max_tokens": 3}) as response:
            body = await response.read()

    assert len(text_of(body).split()) == 3
    assert b'"finish_reason": "length"' in body


@pytest.mark.slow
def test_random_faults_hit_their_share_and_repeat_under_a_seed() -> None:
    first = [at_random(7, share=0.25)(call).name for call in range(1, 2001)]
    again = [at_random(7, share=0.25)(call).name for call in range(1, 2001)]

    assert first == again
    assert 0.2 < sum(name != "ok" for name in first) / 2000 < 0.3


def test_an_unknown_behaviour_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="midstall"):
        script("e429, sleepy")
    assert all(behaviour(name).name == name for name in NAMES)


@pytest.mark.parametrize("part", ["", " , ", "ok x0", "ok x99999999999"])
def test_a_script_that_plays_nothing_or_for_ever_is_told(part: str) -> None:
    with pytest.raises(ConfigError):
        script(part)

"""Every kind of configuration a person may begin with, through what `understudy ask` does."""

import io

import pytest

from understudy.app.one_shot import OneShotReply, ask_once
from understudy.config.load import parse_config
from understudy.observability.logs import Logs
from understudy.rehearsal.server import Cast, RehearsalServer

SEED = """\
model:
  provider_order: ["openrouter", "local", "auto"]
  openrouter:
    name: meta-llama/llama-4-scout:free
    fallbacks: "meta-llama/llama-3.3-8b-instruct:free"
    allow_auto_fallback: true
    base_url: {openrouter}
  local:
    enabled: {enabled}
    engine: koboldcpp
    base_url: {local}
    timeout_seconds: 60
"""


async def answer(text: str, **env: str) -> OneShotReply:
    config = parse_config(text, env)
    return await ask_once(config, Logs(config.settings.logging, io.StringIO()), "hello")


async def test_openrouter_alone_needs_only_its_key() -> None:
    async with RehearsalServer("say:from afar", cast=Cast(api_key="sk-or-v1-test")) as server:
        got = await answer(
            f"model: {{openrouter: {{base_url: '{server.base_url}'}}}}",
            OPENROUTER_API_KEY="sk-or-v1-test",
        )

    assert got.text == "from afar"
    assert got.record.winner is not None
    assert got.record.winner.provider == "openrouter"


@pytest.mark.parametrize("engine", ["koboldcpp", "llama.cpp", "textgen-webui"])
async def test_each_local_engine_alone_is_enough(engine: str) -> None:
    async with RehearsalServer("say:from home") as server:
        got = await answer(
            "model: {provider_order: [local], local: {enabled: true, "
            f"engine: {engine}, base_url: '{server.base_url}'}}}}"
        )

    assert got.text == "from home"
    assert got.record.winner is not None
    assert got.record.winner.label == f"local/{engine}"


@pytest.mark.parametrize("provider", ["chutes", "nanogpt"])
async def test_each_other_hosted_provider_alone_is_enough(provider: str) -> None:
    async with RehearsalServer("say:from afar", cast=Cast(api_key="k-test")) as server:
        got = await answer(
            f"model: {{provider_order: [{provider}], {provider}: {{enabled: true, "
            f"name: some/model, base_url: '{server.base_url}', api_key: k-test}}}}"
        )

    assert got.text == "from afar"


async def test_the_seeds_order_goes_home_when_openrouter_is_at_its_limit() -> None:
    async with RehearsalServer("e429") as hosted, RehearsalServer("say:from home") as home:
        text = SEED.format(openrouter=hosted.base_url, enabled="true", local=home.base_url)
        got = await answer(text, OPENROUTER_API_KEY="sk-or-v1-test")

    assert got.text == "from home"
    assert hosted.calls >= 1


async def test_the_seeds_order_ends_with_auto() -> None:
    async with RehearsalServer("e500, e500, say:from auto") as hosted:
        text = SEED.format(openrouter=hosted.base_url, enabled="false", local="http://127.0.0.1:9")
        got = await answer(text, OPENROUTER_API_KEY="sk-or-v1-test")

    assert got.text == "from auto"
    assert got.record.winner is not None
    assert got.record.winner.model_requested == "openrouter/auto"

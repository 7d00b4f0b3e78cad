"""What doctor finds out and what it advises, against servers that really answer."""

from collections.abc import AsyncIterator

import pytest

from paged_server import PagedServer
from playback import Recording, playing
from understudy.app.provider_check import Trial, advise
from understudy.app.setup.discord_token import check_discord
from understudy.cli.doctor.report import DoctorReport, Sources, as_row, diagnose
from understudy.config.load import parse_config
from understudy.config.settings import Discord
from understudy.llm.client import ProbeReport, ProbeState
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import Usage
from understudy.llm.testing import ScriptedClient, saying
from understudy.rehearsal.server import Cast, RehearsalServer
from understudy.routing.candidates import Candidate
from understudy.routing.timeouts import Limits

NOWHERE = Sources(ports=())
READY = ProbeReport(ProbeState.READY)


@pytest.fixture
async def sessions() -> AsyncIterator[HttpSessions]:
    opened = HttpSessions()
    yield opened
    await opened.aclose()


async def diagnosed(servers: dict[str, str], more: str = "", *, ask: bool = True) -> DoctorReport:
    entries = "\n".join(
        f'    {name}: {{base_url: "{url}", name: rehearsal/eliza}}' for name, url in servers.items()
    )
    order = ", ".join(servers)
    text = f"model:\n  provider_order: [{order}]\n  servers:\n{entries}\n{more}"
    return await diagnose(parse_config(text, {}), ask=ask, where=NOWHERE)


async def test_a_healthy_provider_is_measured() -> None:
    async with RehearsalServer() as server:
        diagnosis = await diagnosed({"good": server.base_url})

    row = as_row(diagnosis)["providers"]
    assert isinstance(row, list)
    assert diagnosis.ok
    assert row[0]["advice"] == ""
    assert (row[0]["state"], row[0]["context_length"]) == ("ready", 8192)
    assert (row[0]["streams"], row[0]["usage_reported"]) == (True, True)
    assert row[0]["first_token_s"] > 0


async def test_each_ill_provider_gets_its_sentence() -> None:
    locked = Cast(api_key="another")
    async with RehearsalServer("e429") as limited, RehearsalServer(cast=locked) as closed:
        urls = {"limited": limited.base_url, "closed": closed.base_url}
        diagnosis = await diagnosed(urls | {"gone": "http://127.0.0.1:9"})

    advice = [" ".join(finding.advice) for finding in diagnosis.findings]
    assert not diagnosis.ok
    assert "limits this key" in advice[0]
    assert "wants a key and none is configured" in advice[1]
    assert "nothing listens" in advice[2]


async def test_a_wrong_key_is_not_the_same_as_none() -> None:
    async with RehearsalServer(cast=Cast(api_key="another")) as closed:
        entry = f"{{base_url: '{closed.base_url}', name: m, api_key: sk-wrong-one}}"
        text = f"model:\n  provider_order: [home]\n  servers:\n    home: {entry}\n"
        diagnosis = await diagnose(parse_config(text, {}), ask=False, where=NOWHERE)

    assert "refused the key" in " ".join(diagnosis.findings[0].advice)


MODELS = '{"object": "list", "data": [{"id": "tiny"}]}'
LLAMA = {
    "/health": '{"status": "ok"}',
    "/v1/models": MODELS,
    "/props": '{"default_generation_settings": {"n_ctx": 2048}, "total_slots": 1}',
}
KOBOLD = {
    "/api/extra/version": '{"result": "KoboldCpp", "version": "1.115", "protected": false}',
    "/api/extra/true_max_context_length": '{"value": 4096}',
    "/v1/models": MODELS,
}
TEXTGEN = {
    "/v1/internal/health": '{"status": "ok"}',
    "/v1/internal/token-count": '{"length": 1}',
    "/v1/models": MODELS,
}


@pytest.mark.parametrize(
    ("pages", "engine", "path", "advice"),
    [
        (LLAMA, "koboldcpp", "", "this is llama.cpp: set engine: llama.cpp"),
        (KOBOLD, "llama.cpp", "", "this is koboldcpp: set engine: koboldcpp"),
        (TEXTGEN, "llama.cpp", "", "this is textgen-webui: set engine: textgen-webui"),
        (LLAMA, "textgen-webui", "/v1", "this is llama.cpp: set engine: llama.cpp"),
        (LLAMA, "llama.cpp", "/api", "set base_url: http://127.0.0.1"),
        (TEXTGEN, "textgen-webui", "", "set context_length to what it was started with"),
        (KOBOLD | {"/api/extra/version": '{"result": "KoboldCpp", "protected": true}'},
         "koboldcpp", "", "name its variable in api_key_env"),
    ],
)  # fmt: skip
async def test_an_engine_at_home_that_is_configured_wrongly_is_explained(
    pages: dict[str, str], engine: str, path: str, advice: str
) -> None:
    async with PagedServer(pages).listening() as server:
        entry = f'{{base_url: "{server.url}{path}", engine: {engine}, name: tiny}}'
        text = f"model:\n  provider_order: [home]\n  servers:\n    home: {entry}\n"
        diagnosis = await diagnose(parse_config(text, {}), ask=False, where=NOWHERE)

    assert advice in " ".join(diagnosis.findings[0].advice)


@pytest.mark.parametrize(
    ("pages", "engine"), [(LLAMA, "llama.cpp"), (KOBOLD, "koboldcpp"), (LLAMA, "openai")]
)
async def test_an_engine_at_home_that_is_configured_well_gets_no_advice(
    pages: dict[str, str], engine: str
) -> None:
    async with PagedServer(pages).listening() as server:
        entry = f'{{base_url: "{server.url}", engine: {engine}, name: tiny, context_length: 2048}}'
        text = f"model:\n  provider_order: [home]\n  servers:\n    home: {entry}\n"
        diagnosis = await diagnose(parse_config(text, {}), ask=False, where=NOWHERE)

    assert diagnosis.findings[0].advice == ()


async def test_https_where_plain_http_is_spoken_is_explained() -> None:
    async with RehearsalServer() as server:
        url = server.base_url.replace("http:", "https:")
        diagnosis = await diagnosed({"home": url}, ask=False)

    assert "does not speak TLS; use http://" in " ".join(diagnosis.findings[0].advice)


async def test_without_asking_nothing_is_generated() -> None:
    async with RehearsalServer() as server:
        diagnosis = await diagnosed({"good": server.base_url}, ask=False)

        assert diagnosis.ok
        assert server.calls == 0


async def test_a_missing_key_is_no_illness_but_having_nothing_is() -> None:
    diagnosis = await diagnose(parse_config("", {}), ask=True, where=NOWHERE)

    assert all(finding.ok for finding in diagnosis.findings)
    assert "OPENROUTER_API_KEY" in diagnosis.findings[0].advice[0]
    assert not diagnosis.ok


async def test_vision_without_anyone_who_sees_is_told() -> None:
    async with RehearsalServer() as blind, RehearsalServer(cast=Cast(vision=True)) as seeing:
        dark = await diagnosed({"blind": blind.base_url}, "vision: {enabled: true}\n")
        light = await diagnosed({"seeing": seeing.base_url}, "vision: {enabled: true}\n")

    assert [check.ok for check in dark.checks if check.name == "vision"] == [False]
    assert [check.ok for check in light.checks if check.name == "vision"] == [True]


def candidate(budget_s: float) -> Candidate:
    client = ScriptedClient([saying("hi")])
    return Candidate("p", "m", "p", "openai", client, Limits(first_token_s=budget_s))


@pytest.mark.parametrize(
    ("trial", "advice"),
    [
        (Trial(0.5, 1.0, 9, Usage(5, 9)), ""),
        (Trial(9.1, 12.0, 9, Usage(5, 9)), "raise timeout_seconds"),
        (Trial(0.5, 1.0, 9, None), "reports no usage"),
        (Trial(None, 1.0, 0, Usage(5, 0)), "without any text"),
    ],
)
def test_a_trial_leads_to_advice(trial: Trial, advice: str) -> None:
    said = " ".join(advise(candidate(8.0), READY, trial))

    assert advice in said
    assert bool(said) == bool(advice)


@pytest.mark.parametrize(
    ("trial", "rate"),
    [
        (Trial(0.5, 1.5, 31, Usage(5, 31)), 30.0),
        (Trial(0.1, 0.2, 31, Usage(5, 31)), 300.0),
        (Trial(0.1, 0.101, 31, Usage(5, 31)), None),
        (Trial(0.1, 1.1, 1, Usage(5, 31)), None),
        (Trial(0.1, 1.1, 31, Usage(5, 2)), None),
        (Trial(0.1, 1.1, 31, None), None),
        (Trial(None, 1.1, 0, Usage(5, 31)), None),
    ],
)
def test_a_trial_has_a_rate_where_its_tokens_came_one_after_another(
    trial: Trial, rate: float | None
) -> None:
    assert trial.tokens_per_s == (None if rate is None else pytest.approx(rate))


def application(status: int, body: str) -> dict[str, Recording]:
    line = "GET /oauth2/applications/@me"
    return {line: Recording("", line, status, {"content-type": "application/json"}, [body])}


@pytest.mark.parametrize(
    ("status", "body", "ok", "advice"),
    [
        (200, '{"name": "Bot", "flags": 524288}', True, ""),
        (200, '{"id": "42", "flags": 524288}', True, "client_id=42&scope=bot"),
        (200, '{"name": "Bot", "flags": 0}', False, "Message Content Intent is off"),
        (401, '{"message": "401: Unauthorized"}', False, "refuses the token"),
        (500, "oh", False, "HTTP 500"),
    ],
)
async def test_discord_says_whether_the_bot_can_work(
    sessions: HttpSessions, status: int, body: str, ok: bool, advice: str
) -> None:
    settings = Discord.model_validate({"token": "abc"})
    async with playing(application(status, body)) as discord:
        check = await check_discord(settings, sessions, discord.url)
        headers = discord.asked[0].headers

    assert (check.ok, advice in check.advice) == (ok, True)
    assert headers["authorization"] == "Bot abc"


async def test_discord_without_a_token_is_no_illness(sessions: HttpSessions) -> None:
    check = await check_discord(Discord(), sessions)

    assert (check.ok, "DISCORD_TOKEN" in check.advice) == (True, True)

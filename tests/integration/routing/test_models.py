"""From the written configuration to what a reply does, and what a change of it leaves alone."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from reply_events import reply_events
from understudy.app.models import ReloadableRouter
from understudy.config.load import Config, parse_config
from understudy.llm.messages import ChatRequest, Message, TextDelta, TextPart
from understudy.rehearsal.faults import Behaviour
from understudy.rehearsal.responder import Head, Reset, Role, Say
from understudy.rehearsal.script import Part
from understudy.rehearsal.server import RehearsalServer
from understudy.routing.cooldown import State
from understudy.routing.environment import RouterEnvironment
from understudy.routing.records import ReplyOutcome
from understudy.routing.request import Prompt, ReplyEnded, ReplyRequest
from waiting import LIMIT_S

PART = "The lamp is lit. All is quiet."
BREAKS_OFF_AFTER_A_SENTENCE = Behaviour("part", (Head(), Role(), Say((PART,)), Reset()))
PROMPT = Prompt(ChatRequest((Message("user", (TextPart("Hello"),)),)), input_tokens=10)


@dataclass
class ModelsAndServers:
    models: ReloadableRouter
    first: RehearsalServer
    second: RehearsalServer

    def change(self, **model: object) -> None:
        self.models.use(configuration(self.first, self.second, **model))

    def asking(self) -> AsyncGenerator[object, None]:
        request = ReplyRequest("r", "web", lambda _fit: PROMPT)
        return reply_events(self.models.reply, request)

    async def ask(self) -> ReplyEnded:
        async with contextlib.aclosing(self.asking()) as events:
            last = [event async for event in events][-1]
        assert isinstance(last, ReplyEnded)
        return last


def configuration(first: RehearsalServer, second: RehearsalServer, **model: object) -> Config:
    """Both servers in order, with `model` over it."""
    servers = {
        name: {"base_url": server.base_url, "name": "m"}
        for name, server in (("first", first), ("second", second))
    }
    usual: dict[str, object] = {"provider_order": ["first", "second"], "servers": servers}
    return parse_config(json.dumps({"model": usual | model}), {})


@asynccontextmanager
async def models_and_servers(
    first: Part, second: Part = "say:Second here."
) -> AsyncGenerator[ModelsAndServers]:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(RehearsalServer(p)) for p in (first, second)]
        models = ReloadableRouter(configuration(*servers), RouterEnvironment())
        stack.push_async_callback(models.aclose)
        yield ModelsAndServers(models, *servers)


def story(end: ReplyEnded) -> list[str]:
    return [f"{a.provider} {a.skip_reason or a.error_class or 'ok'}" for a in end.record.attempts]


@pytest.mark.parametrize(("chars", "kept"), [(len(PART), True), (len(PART) + 1, False), (0, False)])
async def test_how_long_a_part_must_be_to_stay_is_the_operators_choice(
    chars: int, kept: bool
) -> None:
    async with models_and_servers(BREAKS_OFF_AFTER_A_SENTENCE) as here:
        here.change(keep_partial_chars=chars)
        end = await here.ask()

        assert end.text == (PART if kept else "Second here.")
        assert (end.record.outcome is ReplyOutcome.PARTIAL) == kept
        assert here.second.calls == (0 if kept else 1)


@pytest.mark.parametrize(("choice", "text"), [("stop", ""), ("next", "Second here.")])
async def test_whether_refused_content_goes_on_is_the_operators_choice(
    choice: str, text: str
) -> None:
    async with models_and_servers("e403mod") as here:
        here.change(on_content_policy=choice)

        assert (await here.ask()).text == text


async def test_a_running_reply_ends_on_the_old_order_and_the_next_begins_on_the_new() -> None:
    async with models_and_servers("ok:0.02") as here:
        async with contextlib.aclosing(here.asking()) as events:
            while not isinstance(await anext(events), TextDelta):
                pass
            here.change(provider_order=["second"])
            next_one = await here.ask()
            running = [event async for event in events][-1]

        assert isinstance(running, ReplyEnded)
        assert story(running) == ["first ok"]
        assert running.record.winner is not None
        assert next_one.record.winner is not None
        assert story(next_one) == ["second ok"]
        assert running.record.winner.config_rev != next_one.record.winner.config_rev


async def test_cooldowns_carry_over_by_what_they_hold() -> None:
    async with models_and_servers("e429long, ok") as here:
        await here.ask()
        here.change(max_attempts=3)
        same = await here.ask()
        other = {"base_url": here.first.base_url, "name": "another"}
        here.change(servers={"first": other}, provider_order=["first"])
        other_model = await here.ask()

        assert story(same) == ["first cooldown", "second ok"]
        assert story(other_model) == ["first cooldown"]
        assert here.first.calls == 1


async def test_a_hold_of_an_address_does_not_follow_its_provider_to_another() -> None:
    async with models_and_servers("ok") as here:
        await here.first.go_down()
        await here.ask()
        await here.ask()
        moved = {"first": {"base_url": here.second.base_url}}
        held = story(await here.ask())
        here.change(servers=moved, provider_order=["first"])

        assert held == ["first cooldown", "second ok"]
        assert story(await here.ask()) == ["first ok"]


@pytest.mark.parametrize("fault", ["e401", "e402", "e404"])
async def test_a_changed_configuration_forgives_what_only_the_operator_can_mend(
    fault: str,
) -> None:
    async with models_and_servers(f"{fault}, ok") as here:
        stories = [story(await here.ask()) for _ in range(2)]
        here.change()
        stories.append(story(await here.ask()))

        assert [one[0].split()[1] for one in stories[1:]] == ["cooldown", "ok"]


async def test_replies_under_way_survive_any_number_of_changes() -> None:
    async with models_and_servers("ok:0.01") as here:
        running = [asyncio.create_task(here.ask()) for _ in range(5)]
        await here.first.until(lambda seen: seen.calls == 5)
        for attempts in range(1, 20):
            here.change(max_attempts=attempts)
        ends = await asyncio.gather(*running)

        assert [story(end) for end in ends] == [["first ok"]] * 5


async def test_an_engine_at_home_that_comes_back_is_noticed_by_its_health_page() -> None:
    async with models_and_servers("ok") as here:
        here.first.health_status = 200
        home = {"engine": "llama.cpp", "base_url": here.first.base_url}
        away = {"engine": "openai", "base_url": here.second.base_url}
        here.change(servers={"first": home, "second": away})
        await here.first.go_down()
        stories = [story(await here.ask()) for _ in range(2)]
        await here.first.come_up()
        await here.first.until(lambda seen: seen.probes > 0)
        async with asyncio.timeout(LIMIT_S):
            while here.models.router.status()[0].state is not State.CLOSED:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

        assert stories == [["first connect_refused", "second ok"], ["first cooldown", "second ok"]]
        assert here.first.calls == 0
        assert story(await here.ask()) == ["first ok"]

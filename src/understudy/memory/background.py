"""Requests of the memory to model servers, made in the background after replies.

They never delay a reply. Where an engine of the operator's own may be used, they wait until no
reply is being made, and are cancelled when one begins, because such an engine works on few
requests at once.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

from understudy.conversation.inbox import Channel
from understudy.routing.records import Origin
from understudy.routing.request import BuildPrompt, HeldSink, Reply, ReplyEnded, ReplyRequest

_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ModelRules:
    """Which model servers are asked, by the settings of one moment."""

    order: tuple[str, ...] | None = None
    """As in `ReplyRequest.order`."""
    gives_way: bool = False
    """Whether an engine of the operator's own may be used."""
    may_spend: Callable[[Origin], bool] = lambda _: True
    """As in `ReplyRequest.may_spend`."""


class GaveWay(Exception):
    """A reply began."""


class BackgroundModels:
    """Knows whether a reply is being made. Owns no task: each request runs in its caller's."""

    def __init__(self, reply: Reply, new_id: Callable[[], str], *, quiet_s: float = 2.0) -> None:
        self._reply = reply
        self._new_id = new_id
        self._quiet_s = quiet_s
        self._replies = 0
        self._no_replies = asyncio.Event()
        self._no_replies.set()
        self._reply_began = asyncio.Event()

    def reply_started(self) -> None:
        self._replies += 1
        self._no_replies.clear()
        self._reply_began.set()

    def reply_ended(self) -> None:
        self._replies -= 1
        if not self._replies:
            self._no_replies.set()

    async def until_quiet(self) -> None:
        """Wait until no reply was being made for a while."""
        while True:
            await self._no_replies.wait()
            self._reply_began.clear()
            try:
                await asyncio.wait_for(self._reply_began.wait(), self._quiet_s)
            except TimeoutError:
                return

    async def generate(
        self,
        channel: Channel,
        purpose: str,
        build: BuildPrompt,
        rules: ModelRules,
        *,
        yields: bool = True,
    ) -> ReplyEnded:
        """Ask for one text. Raises GaveWay where a reply begins and `rules` and `yields` say so."""
        request = ReplyRequest(
            id=self._new_id(),
            sink=channel.platform,
            build=build,
            origin=Origin(f"{channel.platform}:{channel.id}", ""),
            purpose=purpose,
            order=rules.order,
            queue_key="background",
            may_spend=rules.may_spend,
        )
        generation = asyncio.ensure_future(self._reply(request, HeldSink()))
        began = asyncio.create_task(self._reply_began.wait())
        yields = yields and rules.gives_way
        try:
            await asyncio.wait(
                {generation, began} if yields else {generation},
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not generation.done():
                raise GaveWay
            return generation.result()
        finally:
            began.cancel()
            generation.cancel()
            await asyncio.wait({generation, began})


def without_thoughts(text: str) -> str:
    """A model's text without reasoning that it has in tags."""
    return _THOUGHTS.sub("", text)

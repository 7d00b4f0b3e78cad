"""The bot's own prompt is made to fit, whatever the history and whatever the tokenizer."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from autojump import AutojumpLoop
from understudy.conversation.inbox import Line
from understudy.conversation.messages import Author
from understudy.conversation.prompt.builder import PromptSource, build_prompt
from understudy.conversation.prompt.persona_prompt import PersonaPrompt
from understudy.errors import ErrorClass, Rejected
from understudy.llm.capabilities import Capabilities
from understudy.llm.client import EventReceiver, Exchange, Generation, ProbeReport, ProbeState
from understudy.llm.messages import (
    ChatRequest,
    Finished,
    Message,
    TextDelta,
    TextPart,
    Usage,
)
from understudy.llm.testing import Script, ScriptedClient
from understudy.routing.candidates import Candidate
from understudy.routing.request import Prompt, SinkKind
from understudy.routing.router import ModelRouter
from unit.routing.router_driver import Seen, Wanted, reply, router, wanted

ANN, BOT = Author("ann", "Ann"), Author("bot", "Understudy", is_bot=True)
TEMPLATE_TOKENS = 5
REPLY_TOKENS = 256
MOST_TOKENS = 6000


@dataclass
class Server:
    """A model server with a tokenizer of its own that refuses what is longer than its context."""

    n_ctx: int
    ratios: tuple[float, ...]
    """Tokens per byte; which one a character takes hangs on its number."""
    counts: bool
    names_length: bool
    sent: list[ChatRequest] = field(default_factory=list)
    counted: int = 0
    supports_completions: bool = False

    def tokens(self, request: ChatRequest) -> int:
        return sum(map(self._tokens, request.messages))

    def _tokens(self, message: Message) -> int:
        text = "".join(part.text for part in message.parts if isinstance(part, TextPart))
        cost = sum(
            count * len(char.encode()) * self.ratios[ord(char) % len(self.ratios)]
            for char, count in Counter(text).items()
        )
        return math.ceil(cost) + TEMPLATE_TOKENS

    def start(
        self, request: ChatRequest, model: str, exchange: Exchange, receiver: EventReceiver
    ) -> Generation:
        script: Script = (TextDelta("ok"), Finished("stop", Usage(self.tokens(request), 1)))
        if self.tokens(request) >= self.n_ctx:
            script = (self.refusal(self.tokens(request)),)
        self.sent.append(request)
        return ScriptedClient([script]).start(request, model, exchange, receiver)

    def refusal(self, tokens: int) -> Rejected:
        return Rejected(
            ErrorClass.CONTEXT_OVERFLOW,
            n_ctx=self.n_ctx,
            prompt_tokens=tokens if self.names_length else None,
        )

    async def count_tokens(self, request: ChatRequest, model: str) -> int | None:
        self.counted += 1
        return self.tokens(request) if self.counts else None

    async def probe(self, model: str) -> ProbeReport:
        return ProbeReport(ProbeState.READY)

    async def aclose(self) -> None:
        """Nothing is open."""

    @property
    def used(self) -> float:
        """The share of the room for prompts that the last one took."""
        return self.tokens(self.sent[-1]) / (self.n_ctx - min(REPLY_TOKENS, self.n_ctx // 2))


def candidate(server: Server, *, configured: bool) -> Candidate:
    return Candidate(
        "home",
        "m",
        "home",
        "llama.cpp",
        server,
        local=True,
        reply_tokens=REPLY_TOKENS,
        capabilities=Capabilities(n_ctx=server.n_ctx if configured else None),
    )


def conversation(persona: str, texts: Sequence[str], *, bot_speaks: bool = True) -> PromptSource:
    lines = tuple(
        Line(n, n, role, str(n), BOT if role == "assistant" else ANN, text, 0.0)
        for n, text in enumerate(texts)
        for role in (("user", "assistant")[n % 2 if bot_speaks and n < len(texts) - 1 else 0],)
    )
    return PromptSource(
        stage=lambda _fit: PersonaPrompt(persona),
        bot_name="Understudy",
        lines=lines,
        current=frozenset((len(texts) - 1,)),
        shared=True,
        most_tokens=MOST_TOKENS,
    )


def asking(source: PromptSource) -> Wanted:
    return wanted(id="r", sink="discord", build=partial(build_prompt, source))


RATIOS = st.floats(0.2, 1.2).flatmap(
    lambda low: st.lists(st.floats(low, 1.2), min_size=1, max_size=4).map(tuple)
)
ALPHABET = st.sampled_from("aeß привет中文🙂 ")
TEXTS = st.lists(
    st.builds(
        lambda unit, n: (unit * n)[:900] or "x", st.text(ALPHABET, min_size=1), st.integers(1, 300)
    ),
    min_size=1,
    max_size=40,
)
SERVERS = st.builds(
    Server, st.integers(700, 9000), RATIOS, counts=st.booleans(), names_length=st.booleans()
)


def run(server: Server, source: PromptSource, *, configured: bool) -> Seen:
    async def ask() -> Seen:
        return await reply(router([candidate(server, configured=configured)]), asking(source))

    with asyncio.Runner(loop_factory=AutojumpLoop) as runner:
        return runner.run(ask())


@pytest.mark.slow
@settings(deadline=None)
@given(SERVERS, st.integers(1, 1500), TEXTS, st.booleans())
def test_no_history_and_no_tokenizer_makes_a_context_too_small(
    server: Server, persona_bytes: int, texts: list[str], configured: bool
) -> None:
    persona = "p" * persona_bytes
    smallest = Message("user", (TextPart("x" * 200),))
    fixed = server.tokens(ChatRequest((Message("system", (TextPart(persona),)), smallest)))
    assume(fixed + max(server.ratios) * 200 <= server.n_ctx - REPLY_TOKENS)

    seen = run(server, conversation(persona, texts), configured=configured)

    assert seen.story[-1] == "home ok"
    assert persona in str(server.sent[-1].messages[0])
    assert server.tokens(server.sent[-1]) < server.n_ctx


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(1024, 3000), RATIOS, st.lists(st.integers(100, 400), min_size=60, max_size=60))
@example(1336, (1.1875, 0.5), [*[100] * 51, 173, 251, 355, 100, 100, 252, 268, 292, 300])
def test_a_counted_prompt_uses_four_fifths_of_its_room_where_history_is_twice_as_long(
    n_ctx: int, ratios: tuple[float, ...], lengths: list[int]
) -> None:
    server = Server(n_ctx, ratios, counts=True, names_length=True)
    texts = [chr(ord("a") + n % 26) * n for n in lengths]
    source = conversation("You are Understudy.", texts, bot_speaks=False)
    history = sum(math.ceil(n * min(ratios)) for n in lengths)
    assume(history >= 2 * n_ctx)

    seen = run(server, source, configured=True)

    assert seen.story == ["home ok"]
    assert 0.8 <= server.used <= 1
    assert server.counted <= 8


async def test_a_measured_ratio_makes_the_next_prompt_fit_with_one_count() -> None:
    server = Server(2048, (0.62,), counts=True, names_length=True)
    model = router([candidate(server, configured=True)])
    source = conversation("You are Understudy.", ["lol " * 40] * 60)

    await reply(model, asking(source))
    first, server.counted = server.counted, 0
    await reply(model, asking(source))

    assert first > 1
    assert server.counted == 1
    assert server.used > 0.8


@pytest.mark.parametrize("names_length", [True, False])
async def test_one_refusal_teaches_a_server_that_does_not_count(names_length: bool) -> None:
    server = Server(2048, (0.62,), counts=False, names_length=names_length)
    model = router([candidate(server, configured=True)])
    source = conversation("You are Understudy.", ["lol " * 40] * 60)

    stories = [(await reply(model, asking(source))).story for _ in range(3)]

    assert stories[0] == ["home context_overflow", "home ok"]
    assert stories[2] == ["home ok"]


async def test_a_server_that_names_no_context_is_asked_with_ever_shorter_prompts() -> None:
    class Silent(Server):
        def refusal(self, tokens: int) -> Rejected:
            return Rejected(ErrorClass.CONTEXT_OVERFLOW)

    server = Silent(1024, (0.6,), counts=False, names_length=False)
    model = router([candidate(server, configured=False)])
    source = conversation("You are Understudy.", ["lol " * 40] * 90)

    stories = [(await reply(model, asking(source))).story for _ in range(4)]

    assert stories[-1] == ["home ok"]


async def test_only_a_persona_longer_than_the_context_is_too_long() -> None:
    server = Server(512, (0.5,), counts=True, names_length=True)
    seen = await reply(
        ModelRouter([candidate(server, configured=True)]),
        asking(conversation("p" * 2000, ["hello"])),
    )

    assert seen.story == ["home context"]
    assert server.sent == []


async def test_a_prompt_that_leaves_less_than_the_reply_bounds_the_reply() -> None:
    server = Server(512, (0.5,), counts=True, names_length=True)
    await reply(
        ModelRouter([candidate(server, configured=True)]),
        asking(conversation("p" * 700, ["hello"])),
    )

    sent = server.sent[-1]
    assert sent.max_tokens is not None
    assert server.tokens(sent) + sent.max_tokens <= server.n_ctx


async def test_a_clients_prompt_is_sent_as_it_is_or_not_at_all() -> None:
    server = Server(1024, (0.5,), counts=True, names_length=True)
    short = Prompt(ChatRequest((Message("user", (TextPart("x" * 900),)),)), 900)
    long = Prompt(ChatRequest((Message("user", (TextPart("x" * 1800),)),)), 300)

    async def story(prompt: Prompt) -> list[str]:
        request = wanted(
            SinkKind.HELD, sink="gateway", build=lambda _fit: prompt, may_trim_prompt=False
        )
        return (await reply(ModelRouter([candidate(server, configured=True)]), request)).story

    assert await story(short) == ["home ok"]
    assert await story(long) == ["home ok"]
    assert [r.messages for r in server.sent] == [short.request.messages, long.request.messages]

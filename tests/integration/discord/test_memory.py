"""What the bot remembers, and forgets, over the double of Discord with a scripted model server."""

import gzip
import io
import lzma
import secrets
import sqlite3
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from discord_double.double import DiscordDouble
from discord_double.payloads import Json
from scripted_memory import FactModel
from understudy.app.bot import Bot
from understudy.app.run import running
from understudy.config.load import parse_config
from understudy.observability.logs import Logs
from understudy.rehearsal.server import RehearsalServer

pytestmark = pytest.mark.slow
MESSAGES = 400
MODERATOR = str(1 << 13 | 1 << 16)
"""Manage Messages, Read Message History."""
READER = str(1 << 16)


@dataclass
class Stage:
    double: DiscordDouble
    channel: Json
    model: FactModel
    other: FactModel
    """Of the server that only the order `private` has."""
    bot: Bot
    folder: Path

    async def ask(self, author: Json, text: str) -> str:
        """Mention the bot; return its finished answer."""
        asked = await self.double.say(self.channel, author, self.double.mention(text))

        def finished() -> str:
            found = self.double.answers_to(asked)
            labels = [
                button["label"]
                for message in found
                for row in message["components"]
                for button in row.get("components", [])
            ]
            return found[0]["content"] if found and "Regenerate" in labels else ""

        return await self.double.until(finished)

    async def command(self, author: Json, name: str, *options: Json, may: str = READER) -> str:
        exchange = await self.double.slash(self.channel, author, name, *options, permissions=may)
        await self.double.until(lambda: exchange.answers)
        return exchange.text

    async def summarized(self) -> None:
        """Wait until nothing is left to summarize."""
        assert self.bot.memory.summarizer is not None
        await self.bot.memory.summarizer.idle()


@asynccontextmanager
async def staged(
    double: DiscordDouble, channel: Json, folder: Path, memory: str = ""
) -> AsyncIterator[Stage]:
    model, other = FactModel(), FactModel()
    async with (
        RehearsalServer(model.behaviour) as server,
        RehearsalServer(other.behaviour) as second,
    ):
        text = f"""\
model:
  provider_order: [a]
  orders: {{private: [b]}}
  servers: {{a: {{base_url: "{server.base_url}"}}, b: {{base_url: "{second.base_url}"}}}}
storage: {{url: "sqlite:///{folder}/bot.db"}}
persona: {{folder: "{folder}"}}
web: {{enabled: false}}
participation: {{user_per_minute: 10000, channel_per_minute: 10000}}
conversation: {{quiet_seconds: 0.02, long_chunk_quiet_seconds: 0.02, interval_seconds: 0.02}}
discord: {{edit_interval_seconds: 0.05, first_edit_seconds: 0.05}}
memory: {{{memory}}}
"""
        config = parse_config(text, {"DISCORD_TOKEN": double.token})
        async with running(config, Logs(config.settings.logging, io.StringIO())) as everything:
            await double.ready()
            yield Stage(double, channel, model, other, everything.bot, folder)


def sub(name: str, *options: Json) -> Json:
    return {"name": name, "type": 1, "options": list(options)}


def given(name: str, value: object, kind: int = 3) -> Json:
    return {"name": name, "type": kind, "value": value}


@pytest.mark.parametrize("recall", [False, True], ids=["summary", "summary and recall"])
async def test_facts_of_a_long_conversation_are_known_until_their_author_is_forgotten(
    double: DiscordDouble, channel: Json, tmp_path: Path, *, recall: bool
) -> None:
    people = [double.state.add_user(name) for name in ("ann", "bob", "cleo")]
    secret = {person["id"]: "s" + secrets.token_hex(8) for person in people}
    ann, bob, _ = people
    async with staged(double, channel, tmp_path, f"recall: {str(recall).lower()}") as stage:
        for person in people:
            await stage.ask(person, f"my pet is {secret[person['id']]}")
        for number in range(MESSAGES - 2 * len(people)):
            text = f"chatter {number} about {secrets.token_hex(4)}"
            person = people[number % 3]
            if number % 20:
                await double.say(channel, person, text)
            else:
                await stage.ask(person, text)
        await stage.summarized()
        note = await stage.command(ann, "remember", given("text", f"note {secret[ann['id']]}"))
        answers = [await stage.ask(person, "what is my pet?") for person in people]
        pet = secret[ann["id"]]
        known = await stage.command(ann, "memory", sub("show"))
        found = await stage.command(ann, "search", given("words", pet))

        assert note == "I remember that as note 1."
        assert answers == [secret[person["id"]] for person in people]
        assert pet in known
        assert pet in found
        assert ("my pet is" in stage.model.prompts[-1]) == recall
        assert "'s pet is" in stage.model.prompts[-1]
        assert list(places_of(tmp_path, pet))

        forgotten = await stage.command(ann, "forget", sub("me"))
        assert "deleted the text" in forgotten
        assert list(places_of(tmp_path, pet)) == []
        # A new summary, without her, may have been made by now.
        assert pet not in await stage.command(ann, "memory", sub("show"))
        assert "no notes" in await stage.command(ann, "memories")
        assert pet not in await stage.command(bob, "search", given("words", pet))

        before = len(stage.model.prompts), len(stage.model.summaries)
        assert await stage.ask(ann, "what is my pet?") == "I do not know."
        await stage.ask(bob, "and what is it about?")
        await stage.summarized()
        later = [*stage.model.prompts[before[0] :], *stage.model.summaries[before[1] :]]
        assert len(stage.model.summaries) > before[1]
        assert [prompt for prompt in later if pet in prompt] == []
        assert await stage.ask(bob, "what is my pet?") == secret[bob["id"]]
        assert list(places_of(tmp_path, pet)) == []
    with sqlite3.connect(tmp_path / "bot.db") as database:
        spent = dict(
            database.execute(
                "SELECT purpose, sum(input_tokens) FROM replies JOIN attempts USING (run)"
                " GROUP BY purpose"
            ).fetchall()
        )
    assert spent.keys() == {"reply", "summary"}
    assert all(spent.values())


async def test_notes_stay_on_their_server_and_reach_only_their_authors_prompts(
    double: DiscordDouble, channel: Json, ann: Json, tmp_path: Path
) -> None:
    bob = double.state.add_user("bob")
    other = double.state.add_channel(double.state.add_guild("other"), "general")
    private = double.state.dm_with(ann)
    async with staged(double, channel, tmp_path) as stage:
        await stage.command(ann, "remember", given("text", "tea, not coffee"))
        exchange = await double.slash(private, ann, "remember", given("text", "secret wish"))
        await double.until(lambda: exchange.answers)
        listed = await stage.command(ann, "memories")
        await stage.ask(ann, "hello")
        await stage.ask(bob, "hello you")
        elsewhere = await double.slash(other, ann, "memories")
        await double.until(lambda: elsewhere.answers)
        forgotten = await stage.command(ann, "forget", sub("note", given("number", 1, 4)))
        again = await stage.command(ann, "forget", sub("note", given("number", 1, 4)))
        await stage.ask(ann, "hello again")

    of_ann, of_bob, after = stage.model.prompts
    assert listed == "Your notes on this server:\n1. tea, not coffee"
    assert "no notes" in elsewhere.text
    assert "- Ann: tea, not coffee" in of_ann
    assert "tea" not in of_bob
    assert "tea" not in after
    assert all("secret wish" not in prompt for prompt in stage.model.prompts)
    assert (forgotten, again) == ("I forgot note 1.", "You have no note 1 here.")


async def test_a_proposed_note_is_seen_and_stored_by_its_person_alone(
    double: DiscordDouble, channel: Json, ann: Json, tmp_path: Path
) -> None:
    bob = double.state.add_user("bob")
    async with staged(double, channel, tmp_path, "propose: true") as stage:
        stage.model.note = "I am allergic to peanuts."
        asked = await double.say(channel, ann, double.mention("I am allergic to peanuts, so?"))
        question = await question_below(double, asked)
        refused = await double.press(question, bob, "What?")
        await double.until(lambda: refused.answers)
        shown = await double.press(question, ann, "What?")
        await double.until(lambda: shown.answers)
        await double.until(lambda: question_of(double, asked) is None)
        before = await stage.command(ann, "memories")
        stranger = await double.press(shown.answers[0], bob, "Remember")
        await double.until(lambda: stranger.answers)
        done = await double.press(shown.answers[0], ann, "Remember")
        await double.until(lambda: done.answers)
        again = await double.press(shown.answers[0], ann, "Remember")
        await double.until(lambda: again.answers)
        stored = await stage.command(ann, "memories")
        await stage.ask(ann, "what can I eat?")
        prompt = stage.model.prompts[-1]
    with sqlite3.connect(tmp_path / "bot.db") as database:
        purposes = dict(
            database.execute("SELECT purpose, count(*) FROM replies GROUP BY purpose").fetchall()
        )

    assert question["content"] == "-# I could remember something about you."
    assert refused.text == stranger.text == "Only the person I asked can answer that."
    assert shown.ephemeral
    assert shown.text == "May I remember this about you? “I am allergic to peanuts.”"
    assert before.startswith("I have no notes of yours on this server.\nMay I remember this?")
    assert done.text == "I remember that as note 1."
    assert again.text.startswith("There is no note to confirm")
    assert stored == "Your notes on this server:\n1. I am allergic to peanuts."
    assert "- Ann: I am allergic to peanuts." in prompt
    assert purposes == {"reply": 2, "note": 1}


async def test_a_proposal_survives_a_restart_and_ends_with_no_or_with_its_message(
    double: DiscordDouble, ann: Json, tmp_path: Path
) -> None:
    private = double.state.dm_with(ann)
    async with staged(double, private, tmp_path, "propose: true") as stage:
        stage.model.note = "I am allergic to peanuts."
        asked = await double.say(private, ann, "I am allergic to peanuts, so?")
        question = await question_below(double, asked)
    async with staged(double, private, tmp_path, "propose: true") as stage:
        stage.model.note = "I like green tea."
        declined = await double.press(question, ann, "No")
        await double.until(lambda: declined.answers)
        other = await double.say(private, ann, "I like green tea, what else?")
        question = await question_below(double, other)
        await double.delete(other)
        while "May I" in (notes := await stage.command(ann, "memories")):
            pass
        late = await double.press(question, ann, "Remember")
        await double.until(lambda: late.answers)

    assert question["content"] == "May I remember this about you? “I like green tea.”"
    assert declined.text == "I do not remember it."
    assert late.text.startswith("There is no note to confirm")
    assert notes == "I have no notes of yours in our private chats."


async def question_below(double: DiscordDouble, asked: Json) -> Json:
    found = await double.until(lambda: question_of(double, asked))
    assert found is not None
    return found


def question_of(double: DiscordDouble, asked: Json) -> Json | None:
    """The question whether a note may be stored, below a message."""
    labels = ("What?", "Remember")
    return next(
        (
            message
            for message in double.answers_to(asked)
            for row in message["components"]
            for button in row.get("components", [])
            if button["label"] in labels
        ),
        None,
    )


async def test_compacting_replaces_earlier_messages_by_a_summary(
    double: DiscordDouble, channel: Json, ann: Json, tmp_path: Path
) -> None:
    async with staged(double, channel, tmp_path) as stage:
        await stage.ask(ann, "my pet is rex")
        for number in range(4):
            await stage.ask(ann, f"chatter {number}")
        refused = await stage.command(ann, "compact")
        done = await stage.command(ann, "compact", may=MODERATOR)
        nothing = await stage.command(ann, "compact", may=MODERATOR)
        answer = await stage.ask(ann, "what is my pet?")
        prompt = stage.model.prompts[-1]
        kept = await stage.command(ann, "memory", sub("forget"))
        forgotten = await stage.command(ann, "memory", sub("forget"), may=MODERATOR)
        await stage.ask(ann, "and now?")

    assert "needs the permission Manage Messages" in refused
    assert done.startswith("Done: ")
    assert nothing == "There is nothing to compact."
    assert answer == "rex"
    assert "Ann's pet is rex" in prompt
    assert "my pet is rex" not in prompt
    assert "chatter 3" in prompt
    assert "needs the permission Manage Messages" in kept
    assert forgotten == "I forgot my summary of this conversation."
    assert "my pet is rex" in stage.model.prompts[-1]


async def test_summaries_and_proposals_ask_only_servers_of_the_order_that_was_chosen(
    double: DiscordDouble, channel: Json, ann: Json, tmp_path: Path
) -> None:
    async with staged(double, channel, tmp_path, "propose: true") as stage:
        chosen = await stage.command(
            ann, "model", sub("set", given("name", "private")), may=MODERATOR
        )
        for number in range(5):
            await stage.ask(ann, f"my pet is rex, number {number}")
        done = await stage.command(ann, "compact", may=MODERATOR)
        assert stage.bot.memory.proposer is not None
        await stage.bot.memory.proposer.idle()

    assert chosen == "Replies in this channel now come from private."
    assert done.startswith("Done: ")
    assert (stage.model.prompts, stage.model.summaries, stage.model.proposals) == ([], [], [])
    assert (len(stage.other.summaries), len(stage.other.proposals)) == (1, 1)


async def test_search_links_to_messages_and_needs_the_right_to_read_the_history(
    double: DiscordDouble, channel: Json, ann: Json, tmp_path: Path
) -> None:
    async with staged(double, channel, tmp_path) as stage:
        said = await double.say(channel, ann, double.mention("我家的猫叫小爱同学"))
        await double.until(lambda: double.answers_to(said))
        found = await stage.command(ann, "search", given("words", "小爱"))
        nothing = await stage.command(ann, "search", given("words", "elephant"))
        refused = await stage.command(ann, "search", given("words", "小爱"), may="0")

    assert "Ann: 我家的猫叫小爱同学 <https://discord.com/channels/" in found
    assert found.endswith(f"/{said['id']}>")
    assert nothing == "I found nothing."
    assert refused == "You cannot read the history of this channel."


def places_of(folder: Path, text: str) -> Iterator[str]:
    """Where a text is in the files of a database: as UTF-8 or UTF-16, plain or compressed."""
    forms = [text.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")]
    for file in sorted(folder.glob("bot.db*")):
        data = file.read_bytes()
        yield from (file.name for form in forms if form in data)
    with sqlite3.connect(folder / "bot.db") as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master")]
        for table in tables:
            for row in _rows(database, table):
                for value in row:
                    if isinstance(value, bytes):
                        plain = list(_decompressed(value))
                        yield from (table for one in plain for form in forms if form in one)


def _rows(database: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    try:
        return database.execute(f'SELECT * FROM "{table}"').fetchall()
    except sqlite3.DatabaseError:
        return []  # an index


def _decompressed(value: bytes) -> Iterator[bytes]:
    methods: tuple[Callable[[bytes], bytes], ...] = (
        zlib.decompress,
        gzip.decompress,
        lzma.decompress,
        lambda data: zlib.decompress(data, -15),
    )
    for method in methods:
        try:
            yield method(value)
        except (zlib.error, OSError, EOFError, lzma.LZMAError):
            continue

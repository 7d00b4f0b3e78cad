from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import discord
import pytest

from discord_double import payloads
from discord_double.payloads import Json
from discord_double.state import DiscordState
from understudy.config.settings import Access, Discord
from understudy.conversation.messages import Addressed, ImageRef, Inbound
from understudy.platforms.discord.inbound import FetchedImages, FoundFile, InboundReader

Make = Callable[..., discord.Message]


async def _never(user_id: int) -> bool:
    return False


async def _read(
    discord_state: DiscordState, message: discord.Message, settings: Discord | None = None
) -> Inbound:
    intake = InboundReader(settings or Discord(), ["Understudy", "Stu"], _never)
    inbound = await intake.read(message, int(discord_state.me["id"]))
    assert inbound is not None
    return inbound


def _at(discord_state: DiscordState) -> str:
    return f"<@{discord_state.me['id']}>"


async def test_a_mention_addresses_the_bot_and_its_leading_form_is_taken_off(
    discord_state: DiscordState, make: Make, channel: Json, ann: Json
) -> None:
    inbound = await _read(discord_state, make(channel, ann, f"{_at(discord_state)}, what is up?"))

    assert inbound.addressed is Addressed.MENTION
    assert inbound.text == "what is up?"
    assert inbound.author.name == "Ann"
    assert inbound.place.guild_id == channel["guild_id"]
    assert not inbound.place.private


async def test_a_reply_to_the_bot_addresses_it_and_quotes_what_it_answers(
    discord_state: DiscordState, make: Make, channel: Json, ann: Json
) -> None:
    mine = discord_state.write(channel["id"], discord_state.me, "I said\nthis")
    inbound = await _read(discord_state, make(channel, ann, "really?", reply_to=_ref(mine)))

    assert inbound.addressed is Addressed.REPLY
    assert inbound.reply_to == mine["id"]
    assert inbound.text == '[replying to Understudy: "I said\nthis"]\nreally?'


async def test_a_long_quotation_keeps_its_code_and_ends_within_its_budget(
    discord_state: DiscordState, make: Make, channel: Json, ann: Json
) -> None:
    code = "```py\n" + "x = 1\n" * 300 + "```"
    mine = discord_state.write(channel["id"], discord_state.me, f"Try:\n{code}")
    inbound = await _read(discord_state, make(channel, ann, "why?", reply_to=_ref(mine)))

    quote = inbound.text.removesuffix("\nwhy?")
    assert quote.startswith('[replying to Understudy: "Try:\n```py\nx = 1\nx = 1\n')
    assert quote.endswith('…\n```"]')
    assert len(quote) < 1100


async def test_a_reply_to_another_person_is_addressed_to_others(
    discord_state: DiscordState, make: Make, channel: Json, ann: Json
) -> None:
    bob = discord_state.add_user("bob")
    theirs = discord_state.write(channel["id"], bob, "hello")
    inbound = await _read(discord_state, make(channel, ann, "hi bob", reply_to=_ref(theirs)))

    assert inbound.addressed is None
    assert inbound.to_others


async def test_a_direct_message_addresses_the_bot(
    discord_state: DiscordState, make: Make, dm: Json, ann: Json
) -> None:
    inbound = await _read(discord_state, make(dm, ann, "psst"))

    assert inbound.addressed is Addressed.DM
    assert inbound.place.private
    assert inbound.place.guild_id is None


@pytest.mark.parametrize(("text", "named"), [("hey STU!", True), ("a study", False)])
async def test_a_name_alias_addresses_the_bot_as_a_whole_word(
    discord_state: DiscordState, make: Make, channel: Json, ann: Json, text: str, named: bool
) -> None:
    inbound = await _read(discord_state, make(channel, ann, text))

    assert (inbound.addressed is Addressed.NAME) is named


async def test_everyone_is_not_the_bot(
    discord_state: DiscordState, make: Make, channel: Json, ann: Json
) -> None:
    inbound = await _read(discord_state, make(channel, ann, "@everyone hi", mention_everyone=True))

    assert inbound.addressed is None


async def test_tokens_become_what_people_see(
    discord_state: DiscordState, make: Make, channel: Json, ann: Json
) -> None:
    bob = discord_state.add_user("bob")
    text = f"<@{bob['id']}> in <#{channel['id']}> <:wave:1234> <t:0:R> <@&77> {_at(discord_state)}"
    inbound = await _read(discord_state, make(channel, ann, text))

    assert inbound.text == "@Bob in #general :wave: 1970-01-01 00:00 UTC @role @Understudy"


async def test_a_forward_is_read_with_its_content_and_attachments(
    discord_state: DiscordState, make: Make, dm: Json, ann: Json
) -> None:
    original = discord_state.write(dm["id"], ann, "the news")
    original["attachments"] = [discord_state.keep_file(dm["id"], "notes.txt", b"x")]
    reference = {"type": 1, "message_id": original["id"], "channel_id": dm["id"]}
    message = make(
        dm, ann, "", message_reference=reference, message_snapshots=[payloads.snapshot_of(original)]
    )

    assert (await _read(discord_state, message)).text == (
        "[forwarded message]\nthe news\n[attachment: notes.txt]"
    )


async def test_embeds_polls_stickers_and_attachments_are_read_as_text(
    discord_state: DiscordState, make: Make, dm: Json, ann: Json
) -> None:
    embed = {"title": "Title", "description": "Body", "fields": [{"name": "A", "value": "1"}]}
    message = make(
        dm,
        ann,
        "look",
        embeds=[embed],
        sticker_items=[{"id": "5", "name": "Wave", "format_type": 1}],
        attachments=[discord_state.keep_file(dm["id"], "cat.png", b"x", "image/png")],
        poll=payloads.poll("Tea?", ["yes", "no"]),
    )

    assert (await _read(discord_state, message)).text == (
        "look\n[embed] Title\nBody\nA: 1\n[sticker: Wave]\n[poll] Tea? - yes / no\n[image: cat.png]"
    )


async def test_text_displays_of_components_are_read(
    discord_state: DiscordState, make: Make, dm: Json, ann: Json
) -> None:
    shown = {"type": 17, "components": [{"type": 10, "content": "from a card"}]}

    assert (await _read(discord_state, make(dm, ann, "", components=[shown]))).text == "from a card"


async def test_an_age_restricted_thread_in_a_channel_is_placed_right(
    discord_state: DiscordState, make: Make, channel: Json, ann: Json
) -> None:
    channel["nsfw"] = True
    thread = discord_state.add_thread(channel, "aside")
    inbound = await _read(discord_state, make(thread, ann, "hm"))

    assert inbound.place.parent_id == channel["id"]
    assert inbound.place.age_restricted


async def test_a_channel_unknown_to_the_cache_works(
    discord_state: DiscordState, make: Make, ann: Json
) -> None:
    hidden = discord_state.add_channel(discord_state.add_guild(), "hidden", known=False)
    inbound = await _read(discord_state, make(hidden, ann, _at(discord_state)))

    assert inbound.place.channel_id == hidden["id"]
    assert inbound.place.guild_id == hidden["guild_id"]


@pytest.mark.parametrize("kind", [7, 18, 21, 46])
async def test_system_messages_are_not_talk(
    discord_state: DiscordState, make: Make, channel: Json, ann: Json, kind: int
) -> None:
    intake = InboundReader(Discord(), [], _never)
    message = make(channel, ann, "text", type=kind)

    assert await intake.read(message, int(discord_state.me["id"])) is None


async def test_own_messages_are_not_read(
    discord_state: DiscordState, make: Make, channel: Json
) -> None:
    intake = InboundReader(Discord(), [], _never)

    assert (
        await intake.read(make(channel, discord_state.me, "me"), int(discord_state.me["id"]))
        is None
    )


async def test_who_has_no_access_is_not_read(
    discord_state: DiscordState, make: Make, channel: Json, ann: Json
) -> None:
    intake = InboundReader(Discord(deny=Access(users=(ann["id"],))), [], _never)

    assert (
        await intake.read(make(channel, ann, _at(discord_state)), int(discord_state.me["id"]))
        is None
    )


@pytest.mark.parametrize(("application", "is_bot"), [("466378653216014359", False), ("5", True)])
async def test_webhooks_are_bots_unless_they_speak_for_people(
    discord_state: DiscordState,
    make: Make,
    channel: Json,
    ann: Json,
    application: str,
    is_bot: bool,
) -> None:
    inbound = await _read(
        discord_state, make(channel, ann, "hello", webhook_id="99", application_id=application)
    )

    assert inbound.author.is_bot is is_bot


async def test_a_message_from_a_server_not_announced_yet_is_read_without_roles(
    discord_state: DiscordState, channel: Json, ann: Json
) -> None:
    state = discord.Client(intents=discord.Intents.none())._connection
    place = discord.PartialMessageable(state, int(channel["id"]), int(channel["guild_id"]))
    data = discord_state.write(channel["id"], ann, f"{_at(discord_state)} hello")
    message = discord.Message(state=state, channel=place, data=data)  # type: ignore[arg-type]

    inbound = await _read(discord_state, message)

    assert inbound.author.name == "Ann"
    assert inbound.author.roles == frozenset()
    assert inbound.place.guild_id == channel["guild_id"]


@dataclass
class Camera:
    """Takes pictures in, and remembers what it was asked for."""

    result: FetchedImages = ((), ())
    names: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    async def __call__(self, found: Sequence[FoundFile], text: str) -> FetchedImages:
        self.names += [image.name for image in found]
        self.texts.append(text)
        return self.result


def _picture(discord_state: DiscordState, channel: Json) -> Json:
    return discord_state.keep_file(channel["id"], "cat.png", b"x", "image/png")


async def test_pictures_are_taken_in_at_arrival_and_then_not_named(
    discord_state: DiscordState, make: Make, dm: Json, ann: Json
) -> None:
    camera = Camera(((ImageRef("d", "image/png", 1, 1, "cat.png"),), ("I left one out.",)))
    message = make(dm, ann, "what is this?", attachments=[_picture(discord_state, dm)])

    inbound = await InboundReader(Discord(), [], _never, camera).read(
        message, int(discord_state.me["id"])
    )

    assert inbound is not None
    assert (camera.names, camera.texts) == (["cat.png"], ["what is this?"])
    assert inbound.images[0].digest == "d"
    assert inbound.notes == ("I left one out.",)
    assert inbound.text == "what is this?"


async def test_links_in_the_text_are_looked_at_and_plain_talk_is_not(
    discord_state: DiscordState, make: Make, dm: Json, ann: Json
) -> None:
    camera = Camera()
    intake = InboundReader(Discord(), [], _never, camera)

    for text in ("just talk", "see https://example.org/cat.png"):
        await intake.read(make(dm, ann, text), int(discord_state.me["id"]))

    assert camera.texts == ["see https://example.org/cat.png"]


async def test_pictures_that_were_not_taken_are_named(
    discord_state: DiscordState, make: Make, dm: Json, ann: Json
) -> None:
    camera = Camera(((), ("I can't look at images here.",)))
    message = make(dm, ann, "", attachments=[_picture(discord_state, dm)])

    inbound = await InboundReader(Discord(), [], _never, camera).read(
        message, int(discord_state.me["id"])
    )

    assert inbound is not None
    assert inbound.text == "[image: cat.png]"


async def test_pictures_of_a_talk_the_bot_has_no_part_in_are_not_fetched(
    discord_state: DiscordState, make: Make, channel: Json, ann: Json
) -> None:
    stranger, regular = Camera(), Camera()
    message = make(channel, ann, "my cat", attachments=[_picture(discord_state, channel)])
    here = InboundReader(
        Discord(), [], _never, regular, lambda place: place.channel_id == channel["id"]
    )

    unheard = await InboundReader(Discord(), [], _never, stranger).read(
        message, int(discord_state.me["id"])
    )
    await here.read(message, int(discord_state.me["id"]))

    assert unheard is not None
    assert unheard.text == "my cat\n[image: cat.png]"
    assert (stranger.names, regular.names) == ([], ["cat.png"])


async def test_a_picture_that_is_replied_to_is_looked_at(
    discord_state: DiscordState, make: Make, channel: Json, ann: Json
) -> None:
    camera = Camera()
    shown = discord_state.write(
        channel["id"],
        discord_state.add_user("bob"),
        "",
        attachments=[_picture(discord_state, channel)],
    )
    message = make(channel, ann, f"{_at(discord_state)} what is that?", reply_to=_ref(shown))

    await InboundReader(Discord(), [], _never, camera).read(message, int(discord_state.me["id"]))

    assert camera.names == ["cat.png"]


async def test_neither_images_nor_text_of_a_person_who_opted_out_are_used(
    discord_state: DiscordState, make: Make, channel: Json, ann: Json
) -> None:
    camera, bob = Camera(), discord_state.add_user("bob")
    shown = [_picture(discord_state, channel)]
    hers = discord_state.write(channel["id"], ann, "my secret", attachments=shown)
    intake = InboundReader(
        Discord(), [], _never, camera, opted_out=lambda user_id: user_id == int(ann["id"])
    )
    me_id = int(discord_state.me["id"])

    await intake.read(make(channel, ann, f"{_at(discord_state)} look", attachments=shown), me_id)
    asked = make(channel, bob, f"{_at(discord_state)} what is that?", reply_to=_ref(hers))
    inbound = await intake.read(asked, me_id)

    assert inbound is not None
    assert camera.names == []
    assert inbound.text == ("[in reply to a person who has opted out]\nwhat is that?")


def _ref(message: Json) -> Json:
    return {"message_id": message["id"], "channel_id": message["channel_id"]}


@pytest.mark.parametrize("picture_first", [True, False])
async def test_a_picture_beside_the_mention_in_a_message_of_its_own_is_fetched(
    discord_state: DiscordState,
    make: Make,
    channel: Json,
    ann: Json,
    picture_first: bool,
) -> None:
    camera = Camera()
    reader = InboundReader(Discord(), [], _never, camera)

    for is_picture in (picture_first, not picture_first):
        message = (
            make(channel, ann, "", attachments=[_picture(discord_state, channel)])
            if is_picture
            else make(channel, ann, f"{_at(discord_state)} what is that?")
        )
        await reader.read(message, int(discord_state.me["id"]))

    assert camera.names == ["cat.png"]


async def test_a_picture_of_another_person_beside_the_mention_is_not_fetched(
    discord_state: DiscordState, make: Make, channel: Json, ann: Json
) -> None:
    camera = Camera()
    reader = InboundReader(Discord(), [], _never, camera)
    bob = discord_state.add_user("bob")

    for message in (
        make(channel, bob, "", attachments=[_picture(discord_state, channel)]),
        make(channel, ann, f"{_at(discord_state)} hello"),
    ):
        await reader.read(message, int(discord_state.me["id"]))

    assert camera.names == []


@pytest.mark.parametrize("text", ["앨리스가 왔다", "hi Алиса!", "ミクちゃん", "今天Alice来了"])
async def test_the_name_is_heard_in_every_script(
    discord_state: DiscordState, make: Make, channel: Json, ann: Json, text: str
) -> None:
    reader = InboundReader(Discord(), ["앨리스", "Алиса", "ミク", "Alice"], _never)

    inbound = await reader.read(make(channel, ann, text), int(discord_state.me["id"]))

    assert inbound is not None
    assert inbound.addressed is Addressed.NAME

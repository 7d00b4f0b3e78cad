from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import discord
import pytest

from discord_double import payloads
from discord_double.payloads import Json
from discord_double.state import World
from understudy.config.settings import Access, Discord
from understudy.conversation.messages import Addressed, ImageRef, Inbound
from understudy.platforms.discord.inbound import FetchedImages, FoundImage, InboundReader

Make = Callable[..., discord.Message]


async def _never(user_id: int) -> bool:
    return False


async def _read(world: World, message: discord.Message, settings: Discord | None = None) -> Inbound:
    intake = InboundReader(settings or Discord(), ["Understudy", "Stu"], _never)
    inbound = await intake.read(message, int(world.me["id"]))
    assert inbound is not None
    return inbound


def _at(world: World) -> str:
    return f"<@{world.me['id']}>"


async def test_a_mention_addresses_the_bot_and_its_leading_form_is_taken_off(
    world: World, make: Make, channel: Json, ann: Json
) -> None:
    inbound = await _read(world, make(channel, ann, f"{_at(world)}, what is up?"))

    assert inbound.addressed is Addressed.MENTION
    assert inbound.text == "what is up?"
    assert inbound.author.name == "Ann"
    assert inbound.place.guild_id == channel["guild_id"]
    assert not inbound.place.private


async def test_a_reply_to_the_bot_addresses_it_and_quotes_what_it_answers(
    world: World, make: Make, channel: Json, ann: Json
) -> None:
    mine = world.write(channel["id"], world.me, "I said\nthis")
    inbound = await _read(world, make(channel, ann, "really?", reply_to=_ref(mine)))

    assert inbound.addressed is Addressed.REPLY
    assert inbound.reply_to == mine["id"]
    assert inbound.text == '[replying to Understudy: "I said this"]\nreally?'


async def test_a_reply_to_somebody_else_turns_to_others(
    world: World, make: Make, channel: Json, ann: Json
) -> None:
    bob = world.add_user("bob")
    theirs = world.write(channel["id"], bob, "hello")
    inbound = await _read(world, make(channel, ann, "hi bob", reply_to=_ref(theirs)))

    assert inbound.addressed is None
    assert inbound.to_others


async def test_a_direct_message_addresses_the_bot(
    world: World, make: Make, dm: Json, ann: Json
) -> None:
    inbound = await _read(world, make(dm, ann, "psst"))

    assert inbound.addressed is Addressed.DM
    assert inbound.place.private
    assert inbound.place.guild_id is None


@pytest.mark.parametrize(("text", "named"), [("hey STU!", True), ("a study", False)])
async def test_a_name_alias_addresses_the_bot_as_a_whole_word(
    world: World, make: Make, channel: Json, ann: Json, text: str, named: bool
) -> None:
    inbound = await _read(world, make(channel, ann, text))

    assert (inbound.addressed is Addressed.NAME) is named


async def test_everyone_is_not_the_bot(world: World, make: Make, channel: Json, ann: Json) -> None:
    inbound = await _read(world, make(channel, ann, "@everyone hi", mention_everyone=True))

    assert inbound.addressed is None


async def test_tokens_become_what_people_see(
    world: World, make: Make, channel: Json, ann: Json
) -> None:
    bob = world.add_user("bob")
    text = f"<@{bob['id']}> in <#{channel['id']}> <:wave:1234> <t:0:R> <@&77> {_at(world)}"
    inbound = await _read(world, make(channel, ann, text))

    assert inbound.text == "@Bob in #general :wave: 1970-01-01 00:00 UTC @role @Understudy"


async def test_a_forward_is_read_with_its_content_and_attachments(
    world: World, make: Make, dm: Json, ann: Json
) -> None:
    original = world.write(dm["id"], ann, "the news")
    original["attachments"] = [world.keep_file(dm["id"], "notes.txt", b"x")]
    reference = {"type": 1, "message_id": original["id"], "channel_id": dm["id"]}
    message = make(
        dm, ann, "", message_reference=reference, message_snapshots=[payloads.snapshot_of(original)]
    )

    assert (await _read(world, message)).text == (
        "[forwarded message]\nthe news\n[attachment: notes.txt]"
    )


async def test_embeds_polls_stickers_and_attachments_are_read_as_text(
    world: World, make: Make, dm: Json, ann: Json
) -> None:
    embed = {"title": "Title", "description": "Body", "fields": [{"name": "A", "value": "1"}]}
    message = make(
        dm,
        ann,
        "look",
        embeds=[embed],
        sticker_items=[{"id": "5", "name": "Wave", "format_type": 1}],
        attachments=[world.keep_file(dm["id"], "cat.png", b"x", "image/png")],
        poll=payloads.poll("Tea?", ["yes", "no"]),
    )

    assert (await _read(world, message)).text == (
        "look\n[embed] Title\nBody\nA: 1\n[sticker: Wave]\n[poll] Tea? - yes / no\n[image: cat.png]"
    )


async def test_text_displays_of_components_are_read(
    world: World, make: Make, dm: Json, ann: Json
) -> None:
    shown = {"type": 17, "components": [{"type": 10, "content": "from a card"}]}

    assert (await _read(world, make(dm, ann, "", components=[shown]))).text == "from a card"


async def test_an_age_restricted_thread_in_a_channel_is_placed_right(
    world: World, make: Make, channel: Json, ann: Json
) -> None:
    channel["nsfw"] = True
    thread = world.add_thread(channel, "aside")
    inbound = await _read(world, make(thread, ann, "hm"))

    assert inbound.place.parent_id == channel["id"]
    assert inbound.place.age_restricted


async def test_a_channel_unknown_to_the_cache_works(world: World, make: Make, ann: Json) -> None:
    hidden = world.add_channel(world.add_guild(), "hidden", known=False)
    inbound = await _read(world, make(hidden, ann, _at(world)))

    assert inbound.place.channel_id == hidden["id"]
    assert inbound.place.guild_id == hidden["guild_id"]


@pytest.mark.parametrize("kind", [7, 18, 21, 46])
async def test_system_messages_are_not_talk(
    world: World, make: Make, channel: Json, ann: Json, kind: int
) -> None:
    intake = InboundReader(Discord(), [], _never)
    message = make(channel, ann, "text", type=kind)

    assert await intake.read(message, int(world.me["id"])) is None


async def test_own_messages_are_not_read(world: World, make: Make, channel: Json) -> None:
    intake = InboundReader(Discord(), [], _never)

    assert await intake.read(make(channel, world.me, "me"), int(world.me["id"])) is None


async def test_who_has_no_access_is_not_read(
    world: World, make: Make, channel: Json, ann: Json
) -> None:
    intake = InboundReader(Discord(deny=Access(users=(ann["id"],))), [], _never)

    assert await intake.read(make(channel, ann, _at(world)), int(world.me["id"])) is None


@pytest.mark.parametrize(("application", "is_bot"), [("466378653216014359", False), ("5", True)])
async def test_webhooks_are_bots_unless_they_speak_for_people(
    world: World, make: Make, channel: Json, ann: Json, application: str, is_bot: bool
) -> None:
    inbound = await _read(
        world, make(channel, ann, "hello", webhook_id="99", application_id=application)
    )

    assert inbound.author.is_bot is is_bot


async def test_a_message_from_a_server_not_announced_yet_is_read_without_roles(
    world: World, channel: Json, ann: Json
) -> None:
    state = discord.Client(intents=discord.Intents.none())._connection
    place = discord.PartialMessageable(state, int(channel["id"]), int(channel["guild_id"]))
    data = world.write(channel["id"], ann, f"{_at(world)} hello")
    message = discord.Message(state=state, channel=place, data=data)  # type: ignore[arg-type]

    inbound = await _read(world, message)

    assert inbound.author.name == "Ann"
    assert inbound.author.roles == frozenset()
    assert inbound.place.guild_id == channel["guild_id"]


@dataclass
class Camera:
    """Takes pictures in, and remembers what it was asked for."""

    result: FetchedImages = ((), ())
    names: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    async def __call__(self, found: Sequence[FoundImage], text: str) -> FetchedImages:
        self.names += [image.name for image in found]
        self.texts.append(text)
        return self.result


def _picture(world: World, channel: Json) -> Json:
    return world.keep_file(channel["id"], "cat.png", b"x", "image/png")


async def test_pictures_are_taken_in_at_arrival_and_then_not_named(
    world: World, make: Make, dm: Json, ann: Json
) -> None:
    camera = Camera(((ImageRef("d", "image/png", 1, 1, "cat.png"),), ("I left one out.",)))
    message = make(dm, ann, "what is this?", attachments=[_picture(world, dm)])

    inbound = await InboundReader(Discord(), [], _never, camera).read(message, int(world.me["id"]))

    assert inbound is not None
    assert (camera.names, camera.texts) == (["cat.png"], ["what is this?"])
    assert inbound.images[0].digest == "d"
    assert inbound.notes == ("I left one out.",)
    assert inbound.text == "what is this?"


async def test_links_in_the_text_are_looked_at_and_plain_talk_is_not(
    world: World, make: Make, dm: Json, ann: Json
) -> None:
    camera = Camera()
    intake = InboundReader(Discord(), [], _never, camera)

    for text in ("just talk", "see https://example.org/cat.png"):
        await intake.read(make(dm, ann, text), int(world.me["id"]))

    assert camera.texts == ["see https://example.org/cat.png"]


async def test_pictures_that_were_not_taken_are_named(
    world: World, make: Make, dm: Json, ann: Json
) -> None:
    camera = Camera(((), ("I can't look at images here.",)))
    message = make(dm, ann, "", attachments=[_picture(world, dm)])

    inbound = await InboundReader(Discord(), [], _never, camera).read(message, int(world.me["id"]))

    assert inbound is not None
    assert inbound.text == "[image: cat.png]"


async def test_pictures_of_a_talk_the_bot_has_no_part_in_are_not_fetched(
    world: World, make: Make, channel: Json, ann: Json
) -> None:
    stranger, regular = Camera(), Camera()
    message = make(channel, ann, "my cat", attachments=[_picture(world, channel)])
    here = InboundReader(
        Discord(), [], _never, regular, lambda place: place.channel_id == channel["id"]
    )

    unheard = await InboundReader(Discord(), [], _never, stranger).read(
        message, int(world.me["id"])
    )
    await here.read(message, int(world.me["id"]))

    assert unheard is not None
    assert unheard.text == "my cat\n[image: cat.png]"
    assert (stranger.names, regular.names) == ([], ["cat.png"])


async def test_a_picture_that_is_replied_to_is_looked_at(
    world: World, make: Make, channel: Json, ann: Json
) -> None:
    camera = Camera()
    shown = world.write(
        channel["id"], world.add_user("bob"), "", attachments=[_picture(world, channel)]
    )
    message = make(channel, ann, f"{_at(world)} what is that?", reply_to=_ref(shown))

    await InboundReader(Discord(), [], _never, camera).read(message, int(world.me["id"]))

    assert camera.names == ["cat.png"]


async def test_of_whoever_is_left_unread_no_picture_is_fetched_and_nothing_quoted(
    world: World, make: Make, channel: Json, ann: Json
) -> None:
    camera, bob = Camera(), world.add_user("bob")
    shown = [_picture(world, channel)]
    hers = world.write(channel["id"], ann, "my secret", attachments=shown)
    intake = InboundReader(
        Discord(), [], _never, camera, opted_out=lambda user_id: user_id == int(ann["id"])
    )
    me_id = int(world.me["id"])

    await intake.read(make(channel, ann, f"{_at(world)} look", attachments=shown), me_id)
    asked = make(channel, bob, f"{_at(world)} what is that?", reply_to=_ref(hers))
    inbound = await intake.read(asked, me_id)

    assert inbound is not None
    assert camera.names == []
    assert inbound.text == ("[replying to a person who has opted out]\nwhat is that?")


def _ref(message: Json) -> Json:
    return {"message_id": message["id"], "channel_id": message["channel_id"]}

"""Converts a Discord message into an `Inbound`."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import discord
import structlog

from understudy.config.settings import Access, Discord
from understudy.conversation.messages import (
    Addressed,
    AttachedText,
    Author,
    ImageRef,
    Inbound,
    Place,
)
from understudy.conversation.words import has_word, normalized
from understudy.platforms.discord.auto_thread import is_own_thread
from understudy.platforms.discord.bursts import RecentBursts
from understudy.platforms.discord.message_text import attachments_of, is_picture, quote_of, text_of
from understudy.platforms.discord.sender import PASSING


def refusal(settings: Discord, place: Place, author: Author, *, member: bool) -> str | None:
    """Why this message is not accepted, as a constant word; None when it is.

    `member`: whether the author shares a server with the bot; used in DMs only.
    """
    if author.id in settings.admins:
        return None
    if _denied(settings.deny, place, author):
        return "denied"
    if place.private:
        return _dm_refusal(settings, author, member=member)
    if not _place_allowed(settings.allow, place):
        return "place_not_allowed"
    return None if _person_allowed(settings.allow, author) else "person_not_allowed"


def _channels(place: Place) -> set[str]:
    return {place.channel_id, place.parent_id or place.channel_id}


def _denied(deny: Access, place: Place, author: Author) -> bool:
    return (
        place.guild_id in deny.servers
        or not _channels(place).isdisjoint(deny.channels)
        or not author.roles.isdisjoint(deny.roles)
        or author.id in deny.users
    )


def _place_allowed(allow: Access, place: Place) -> bool:
    server = not allow.servers or place.guild_id in allow.servers
    return server and (not allow.channels or not _channels(place).isdisjoint(allow.channels))


def _person_allowed(allow: Access, author: Author) -> bool:
    """Roles and users form one list: a match in either is enough."""
    if not allow.roles and not allow.users:
        return True
    return author.id in allow.users or not author.roles.isdisjoint(allow.roles)


def _dm_refusal(settings: Discord, author: Author, *, member: bool) -> str | None:
    if settings.dms in ("off", "admins"):
        return "dms_off"
    if settings.dms == "members" and not member:
        return "not_a_member"
    if settings.allow.users and author.id not in settings.allow.users:
        return "person_not_allowed"
    return None


PLATFORM = "discord"

_log = structlog.get_logger()

# Joins, pins, thread starters and poll results are messages too.
_CONVERSATION_TYPES = (discord.MessageType.default, discord.MessageType.reply)
# PluralKit and Tupperbox repost people's messages through webhooks.
_PROXIES = frozenset({466378653216014359, 431544605209788416})
_FETCH_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class FoundFile:
    """An image or another file of a message. Its link expires within a day: fetch it at once."""

    name: str
    url: str
    size: int | None = None
    """In bytes; unknown for embeds and stickers."""
    spoken: bool = False
    """A voice message."""


FetchedImages = tuple[tuple[ImageRef, ...], tuple[str, ...]]
"""Stored images, and notes about those that were refused."""
FetchImages = Callable[[Sequence[FoundFile], str], Awaitable[FetchedImages | None]]
"""Fetches and stores images, also those that the text links to; `None` when vision is disabled, and
images are then named like any other file."""
FilesRead = tuple[tuple[AttachedText, ...], tuple[str, ...]]
"""The texts of files, and notes about those that could not be read."""
ReadFiles = Callable[[Sequence[FoundFile]], Awaitable[FilesRead]]
AuthorOfForwarded = Callable[[discord.MessageReference], Awaitable[str | None]]
"""The name of the person who wrote a forwarded message, where the bot can read the original."""
IsMember = Callable[[int], Awaitable[bool]]
"""Whether that user shares a server with the bot."""
_UNREAD = "[in reply to a person who has opted out]"


@dataclass(frozen=True, slots=True)
class InboundReader:
    """Converts messages. Never raises for what people send; network errors mean less context."""

    settings: Discord
    names: Iterable[str]
    """Names that address the bot."""
    is_member: IsMember
    fetch_images: FetchImages | None = None
    is_listed: Callable[[Place], bool] = lambda _place: False
    """Where the bot may reply unasked; there, and where it is addressed, images are fetched."""
    opted_out: Callable[[int], bool] = lambda _user_id: False
    """Neither text nor images of these users are used when others reply to them."""
    bursts: RecentBursts = field(default_factory=RecentBursts)
    author_of_forwarded: AuthorOfForwarded | None = None
    read_files: ReadFiles | None = None

    async def read(self, message: discord.Message, me_id: int) -> Inbound | None:
        """The message for the inbox, or None when it is to be ignored."""
        if message.type not in _CONVERSATION_TYPES or message.author.id == me_id:
            return None
        place, author = place_of(message), author_of(message)
        if reason := await self._refusal(place, author):
            _log.debug("discord.refused", channel=place.channel_id, reason=reason)
            return None
        replied = await _replied_to(message)
        addressed = self._addressed(message, me_id, replied)
        quoted = None if replied is None or self.opted_out(replied.author.id) else replied
        fetched = None
        texts: tuple[AttachedText, ...] = ()
        text_notes: tuple[str, ...] = ()
        if self._wants_files(message, place, addressed):
            texts, text_notes = await self._texts(message, quoted)
            earlier = [] if addressed is None else self.bursts.record_addressed(message)
            fetched = await self._pictures(message, quoted, earlier)
        elif next(_images_of(message), None) is not None:
            self.bursts.record_skipped(message)
        pictures, notes = fetched or ((), ())
        origin = await self._origin(message)
        text = text_of(
            message, me_id, pictures_taken=bool(pictures), forwarded_from=origin, read=texts
        )
        quote = quote_of(quoted, me_id) if quoted else _UNREAD
        return Inbound(
            message_id=str(message.id),
            place=place,
            author=author,
            text="\n".join([quote, text]) if replied else text,
            sent_at=message.created_at.timestamp(),
            addressed=addressed,
            to_others=addressed is None and _addresses_others(message, me_id, replied),
            reply_to=str(replied.id) if replied else None,
            images=pictures,
            files=texts,
            notes=(*notes, *text_notes),
        )

    async def _origin(self, message: discord.Message) -> str | None:
        """Who wrote the message that this one forwards."""
        if not message.message_snapshots or message.reference is None:
            return None
        asked = self.author_of_forwarded
        return None if asked is None else await asked(message.reference)

    async def _refusal(self, place: Place, author: Author) -> str | None:
        asked = place.private and self.settings.dms == "members"
        member = await self.is_member(int(author.id)) if asked else False
        return refusal(self.settings, place, author, member=member)

    def _wants_files(
        self, message: discord.Message, place: Place, addressed: Addressed | None
    ) -> bool:
        wanted = addressed is not None or self.is_listed(place) or self.bursts.is_addressed(message)
        return wanted and not self.opted_out(message.author.id)

    def _addressed(
        self, message: discord.Message, me_id: int, replied: discord.Message | None
    ) -> Addressed | None:
        if replied is not None and replied.author.id == me_id:
            return Addressed.REPLY
        if any(user.id == me_id for user in message.mentions) or _my_role_mentioned(message):
            return Addressed.MENTION
        if message.guild is None and place_of(message).private:
            return Addressed.DM
        others = _addresses_others(message, me_id, replied)
        if self.settings.auto_thread and is_own_thread(message, me_id) and not others:
            return Addressed.THREAD
        text = normalized(message.content)
        if any(has_word(text, normalized(name)) for name in self.names):
            return Addressed.NAME
        return None

    async def _texts(self, message: discord.Message, replied: discord.Message | None) -> FilesRead:
        """Of its own files, and of the files of the message it replies to."""
        sources = [message, *([] if replied is None else [replied])]
        found = [file for source in sources for file in _files_of(source)]
        return await self.read_files(found) if self.read_files and found else ((), ())

    async def _pictures(
        self,
        message: discord.Message,
        replied: discord.Message | None,
        earlier: Sequence[discord.Message],
    ) -> FetchedImages | None:
        """Its own images, those of the message it replies to, and of its author just before."""
        if self.fetch_images is None:
            return None
        sources = [message, *([] if replied is None else [replied]), *earlier]
        found = [image for source in sources for image in _images_of(source)]
        # An embed already contains the linked image.
        text = "" if message.embeds else message.content
        if not (found or "://" in text):
            return None
        return await self.fetch_images(list(dict.fromkeys(found)), text)


def _files_of(message: discord.Message) -> Iterator[FoundFile]:
    """Everything but images."""
    for attachment in attachments_of(message):
        if not is_picture(attachment):
            spoken = attachment.is_voice_message()
            yield FoundFile(attachment.filename, attachment.url, attachment.size, spoken)


def _images_of(message: discord.Message) -> Iterator[FoundFile]:
    for attachment in attachments_of(message):
        if is_picture(attachment):
            yield FoundFile(attachment.filename, attachment.url, attachment.size)
    parts: list[discord.Message | discord.MessageSnapshot] = [message, *message.message_snapshots]
    for part in parts:
        for embed in part.embeds:
            shown = embed.image if embed.image.url else embed.thumbnail
            if shown.url:
                yield FoundFile(embed.title or "embedded picture", shown.proxy_url or shown.url)
        for sticker in part.stickers:
            if sticker.format is not discord.StickerFormatType.lottie:
                yield FoundFile(f"sticker {sticker.name}", sticker.url)


def place_of(message: discord.Message) -> Place:
    channel = message.channel
    guild_id = message.guild.id if message.guild else getattr(channel, "guild_id", None)
    return place_in(channel, channel.id, guild_id)


def place_in(channel: object, channel_id: int | None, guild_id: int | None) -> Place:
    """The place of a channel of which only the id may be known."""
    return Place(
        platform=PLATFORM,
        channel_id=str(channel_id),
        parent_id=str(channel.parent_id) if isinstance(channel, discord.Thread) else None,
        guild_id=str(guild_id) if guild_id else None,
        private=guild_id is None,
        age_restricted=_age_restricted(channel),
    )


def author_of(message: discord.Message) -> Author:
    author = message.author
    proxied = message.webhook_id is not None and message.application_id in _PROXIES
    # Of a server that is not available yet, discord.py knows only the id.
    announced = isinstance(message.guild, discord.Guild)
    roles = author.roles if isinstance(author, discord.Member) and announced else ()
    return Author(
        id=str(author.id),
        name=author.display_name,
        is_bot=(author.bot or message.webhook_id is not None) and not proxied,
        roles=frozenset(str(role.id) for role in roles),
    )


def _age_restricted(channel: object) -> bool:
    asked = getattr(channel, "is_nsfw", None)
    return bool(asked()) if callable(asked) else False


def _my_role_mentioned(message: discord.Message) -> bool:
    """People often select the bot's role of the same name from Discord's list."""
    mine = message.guild.self_role if message.guild else None
    return mine is not None and mine in message.role_mentions


def _addresses_others(
    message: discord.Message, me_id: int, replied: discord.Message | None
) -> bool:
    return replied is not None or any(user.id != me_id for user in message.mentions)


async def _replied_to(message: discord.Message) -> discord.Message | None:
    reference = message.reference
    if reference is None or message.type is not discord.MessageType.reply:
        return None
    if isinstance(reference.resolved, discord.Message):
        return reference.resolved
    if reference.resolved is not None or reference.message_id is None:
        return None
    try:
        async with asyncio.timeout(_FETCH_LIMIT_S):
            return reference.cached_message or await message.channel.fetch_message(
                reference.message_id
            )
    except (discord.HTTPException, *PASSING):
        return None

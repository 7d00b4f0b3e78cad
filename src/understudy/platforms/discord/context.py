"""What a reply on Discord can see besides its stored history.

The start and the title of a thread or forum post, what is replied to in turn, and messages of the
same server that are linked.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence

import discord
import structlog

from understudy.config.settings import Settings
from understudy.conversation.inbox import Line
from understudy.conversation.messages import Author, Inbound, Place
from understudy.conversation.speakers import safe_name
from understudy.conversation.surroundings import Passage, Surroundings
from understudy.platforms.discord.access import can_read
from understudy.platforms.discord.inbound import place_in, refusal
from understudy.platforms.discord.message_cache import MessageCache, Seen
from understudy.platforms.discord.sender import Connected

_log = structlog.get_logger()

_LINK = re.compile(
    r"https?://(?:\w+\.)?discord(?:app)?\.com/channels/(\d{15,20})/(\d{15,20})/(\d{15,20})"
)
_MOST_LINKS = 3
_LINES_WITH_LINKS = 10
"""Links of this many newest messages are followed."""
_LIMIT_S = 8.0
_TITLE_CHARS = 100

OptedOut = Callable[[int], bool]


class DiscordContext:
    """The `ContextSource` of Discord."""

    def __init__(
        self,
        connected: Connected,
        cache: MessageCache,
        settings: Callable[[], Settings],
        opted_out: OptedOut,
    ) -> None:
        self._connected = connected
        self._cache = cache
        self._settings = settings
        self._opted_out = opted_out

    async def surroundings(
        self, place: Place, batch: Sequence[Inbound], lines: Sequence[Line]
    ) -> Surroundings:
        try:
            async with asyncio.timeout(_LIMIT_S):
                return await self._read(place, batch, lines)
        except TimeoutError:
            _log.info("discord.context_skipped", channel=place.channel_id)
            return Surroundings()

    async def _read(
        self, place: Place, batch: Sequence[Inbound], lines: Sequence[Line]
    ) -> Surroundings:
        client = await self._connected()
        known = {line.message_id for line in lines}
        known |= {inbound.message_id for inbound in batch}
        opening = await self._opening(client, place, known)
        known |= {passage.message_id for passage in opening}
        earlier = {
            seen.passage.message_id: seen.passage
            for inbound in batch
            async for seen in self._chain(client, inbound)
            if seen.passage.message_id not in known
        }
        chain = sorted(earlier.values(), key=lambda passage: int(passage.message_id))
        beside = await self._linked(client, place, lines, known | set(earlier))
        return Surroundings(opening, tuple(chain), beside)

    async def _opening(
        self, client: discord.Client, place: Place, known: set[str]
    ) -> tuple[Passage, ...]:
        """The first message of a thread under the thread's title."""
        if place.parent_id is None:
            return ()
        thread_id = int(place.channel_id)
        thread = client.get_channel(thread_id)
        if not isinstance(thread, discord.Thread):
            return ()
        posted = isinstance(thread.parent, discord.ForumChannel)
        title = _title(thread.name, posted=posted)
        start = None
        if place.channel_id not in known:
            # The first message of a forum post is in the thread, that of a thread above it.
            where = thread_id if posted else thread.parent_id
            start = await self._cache.get(client, where, thread_id)
        if start is None or self._opted_out(start.author_id):
            unknown = Author("", "Someone")
            at = discord.utils.snowflake_time(thread_id).timestamp()
            return (Passage("", unknown, title, at),)
        passage = start.passage
        text = f"{title}\n{passage.text}"
        return (Passage(passage.message_id, passage.author, text, passage.at, passage.own),)

    async def _chain(self, client: discord.Client, inbound: Inbound) -> AsyncIterator[Seen]:
        """What the replied-to message replies to in turn; it itself is quoted in the message."""
        left = self._settings().conversation.reply_chain - 1
        if inbound.reply_to is None or left < 1:
            return
        channel_id, visited = int(inbound.place.channel_id), {inbound.message_id}
        seen = await self._cache.get(client, channel_id, int(inbound.reply_to))
        while seen is not None and seen.parent_id is not None and left > 0:
            visited.add(seen.passage.message_id)
            if str(seen.parent_id) in visited:
                return
            seen = await self._cache.get(client, channel_id, seen.parent_id)
            if seen is not None and not self._opted_out(seen.author_id):
                yield seen
            left -= 1

    async def _linked(
        self, client: discord.Client, place: Place, lines: Sequence[Line], known: set[str]
    ) -> dict[str, tuple[Passage, ...]]:
        """The messages that the newest lines link to, newest first until the limit."""
        found: dict[str, tuple[Passage, ...]] = {}
        left = _MOST_LINKS
        newest = [line for line in lines if line.role == "user"][-_LINES_WITH_LINKS:]
        for line in reversed(newest):
            passages: list[Passage] = []
            for guild_id, channel_id, message_id in dict.fromkeys(_LINK.findall(line.text)):
                if left and guild_id == place.guild_id and message_id not in known:
                    left -= 1
                    known.add(message_id)
                    passage = await self._link(client, place, line, (channel_id, message_id))
                    passages += [] if passage is None else [passage]
            if passages:
                found[line.message_id] = tuple(passages)
        return found

    async def _link(
        self, client: discord.Client, place: Place, line: Line, target: tuple[str, str]
    ) -> Passage | None:
        """A linked message, where its reader may see it and the bot may be used there."""
        channel_id, message_id = int(target[0]), int(target[1])
        if not line.author.id.isdigit():
            # The author was forgotten.
            return None
        asker = discord.Object(int(line.author.id))
        if not await can_read(client, asker, channel_id):
            return None
        channel = client.get_channel(channel_id)
        there = place_in(channel, channel_id, int(place.guild_id or 0))
        shown = place.age_restricted or not there.age_restricted
        if not shown or refusal(self._settings().discord, there, line.author, member=True):
            return None
        seen = await self._cache.get(client, channel_id, message_id)
        if seen is None or self._opted_out(seen.author_id):
            return None
        name = getattr(channel, "name", "another channel")
        text = f"[message in #{_plain(name)} that the next one links to]\n{seen.passage.text}"
        # Its author does not speak here: even the bot's own message is quoted.
        return Passage(str(message_id), seen.author, text, seen.passage.at)


def _title(name: str, *, posted: bool) -> str:
    kind = "forum post" if posted else "thread"
    return f'[beginning of the {kind} "{_plain(name)}"]'


def _plain(name: str) -> str:
    """A name of a channel on one line, without brackets that could end a frame."""
    words = " ".join(name.split()).replace("[", "(").replace("]", ")")
    return words[:_TITLE_CHARS] or safe_name("")

"""The Discord client: passes events to ingest, buttons, commands and presence."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

import discord
import structlog

from understudy.clock import DAY_S
from understudy.config.settings import Settings
from understudy.conversation.inbox import Channel, Watermark
from understudy.conversation.message_router import MessageRouter
from understudy.conversation.messages import Addressed, Inbound, Place
from understudy.conversation.participation import takes_part
from understudy.errors import StorageError
from understudy.platforms.discord.access import can_answer, lacking
from understudy.platforms.discord.auto_thread import AutoThreads
from understudy.platforms.discord.backfill import (
    Gap,
    GapTracker,
    direct_channels,
    gaps,
    missed_messages,
)
from understudy.platforms.discord.bursts import RecentBursts
from understudy.platforms.discord.buttons import ReplyButtons
from understudy.platforms.discord.command_context import CommandContext
from understudy.platforms.discord.commands import build_tree, sync_if_changed
from understudy.platforms.discord.inbound import (
    PLATFORM,
    FetchImages,
    InboundReader,
    ReadFiles,
    place_of,
)
from understudy.platforms.discord.ingest import Ingest
from understudy.platforms.discord.invite import invite_link
from understudy.platforms.discord.message_cache import MessageCache
from understudy.platforms.discord.presence import Presence
from understudy.platforms.discord.proposals import ProposalButtons
from understudy.platforms.discord.read_back import ReadBack
from understudy.platforms.discord.reconnect import reset_delay
from understudy.platforms.discord.sender import retry_discord
from understudy.retry import retry_storage

_log = structlog.get_logger()

_WATERMARK_S = 7 * 86_400.0
"""Channels silent for longer have no watermark; there the age limit applies."""
_MOST_PEOPLE = 20
"""Whose direct channels are looked at after a gap; Discord limits how fast they may be opened."""
_MARKS_LIMIT_S = 20.0
"""discord.py abandons a new session that takes longer than a minute."""
_MISSED = (Addressed.MENTION, Addressed.REPLY, Addressed.DM, Addressed.THREAD)


@dataclass(frozen=True, slots=True)
class Pace:
    """Waiting times that Discord requires; shorter in tests."""

    identify_s: float = 5.0
    guilds_s: float = 2.0
    """The list of servers counts as complete after a pause of this length."""
    restart_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Parts:
    """Dependencies of the platform."""

    router: MessageRouter
    settings: Callable[[], Settings]
    context: CommandContext
    presence: Presence
    now: Callable[[], float]
    """Wall clock."""
    fetch_images: FetchImages | None = None
    pace: Pace = field(default_factory=Pace)
    read_files: ReadFiles | None = None


class DiscordClient(discord.AutoShardedClient):
    """One login. `connected` is called once requests can be made."""

    def __init__(
        self,
        parts: Parts,
        connected: Callable[[discord.Client], None],
        cache: MessageCache,
    ) -> None:
        intents = discord.Intents(
            guilds=True,
            messages=True,
            typing=True,
            emojis_and_stickers=True,
            message_content=_content(parts),
        )
        super().__init__(
            intents=intents,
            allowed_mentions=discord.AllowedMentions.none(),
            max_messages=None,
            chunk_guilds_at_startup=False,
            guild_ready_timeout=parts.pace.guilds_s,
            shard_count=_shards(parts),
        )
        self._parts = parts
        self._connected = connected
        self._cache = cache
        context = replace(parts.context, forget=self._forget)
        self._tree = build_tree(self, context, self._is_admin)
        router = parts.router
        self._buttons = ReplyButtons(
            router.stop,
            router.regenerate,
            router.store.parts,
            self._is_admin,
            lambda channel_id, reply_id: router.runs_elsewhere(
                Channel(PLATFORM, channel_id), reply_id
            ),
            router.stop_elsewhere,
        )
        self._proposals = ProposalButtons(context.memory)
        self._marks: dict[int, Sequence[Watermark]] = {}
        self._starting: set[int] = set()
        """Shards whose new session has not connected yet."""
        self._gaps = GapTracker()
        self._bursts = RecentBursts()
        self._reported: set[int] = set()
        """Servers whose missing permissions the log has."""
        self._ingest = Ingest(
            parts.router,
            self._read,
            self._gaps,
            patience_s=lambda: parts.settings().discord.catch_up_minutes * 60,
            read_back=ReadBack(
                parts.router,
                self._read_text,
                lambda: parts.settings().conversation.read_back,
                self._oldest_history,
            ),
            threads=AutoThreads(
                lambda: parts.settings().discord.auto_thread, parts.router.would_answer
            ),
        )
        self._tasks: set[asyncio.Task[object]] = set()
        self._presence: asyncio.Task[object] | None = None
        self._shutting_down = False

    async def setup_hook(self) -> None:
        self._connected(self)
        if self.application_id is not None:
            _log.info("discord.invite", link=invite_link(self.application_id))
        self._start_task(self._sync())

    async def close(self) -> None:
        self._shutting_down = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await super().close()

    def _start_task(self, work: Coroutine[object, object, object]) -> asyncio.Task[object]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _sync(self) -> None:
        try:
            if await sync_if_changed(self._tree):
                _log.info("discord.commands_synced")
        except discord.DiscordException as error:
            _log.warning("discord.commands_not_synced", error=type(error).__name__)

    async def launch_shards(self) -> None:
        """Discord resets the token of a bot that begins too many sessions in a day."""
        while True:
            shards, _, limit = await self.http.get_bot_gateway()
            if limit["remaining"] >= (self.shard_count or shards):
                break
            # In milliseconds.
            wait_s = limit["reset_after"] / 1000
            _log.warning("discord.sessions_used_up", again_in_s=wait_s)
            await asyncio.sleep(wait_s)
        await super().launch_shards()

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Load the watermarks before the new session's events can move them."""
        since = self._parts.now() - _WATERMARK_S
        shard, store = shard_id or 0, self._parts.router.store
        self._starting.add(shard)
        # With older marks only more messages are fetched again.
        with suppress(StorageError):
            self._marks[shard] = await retry_storage(
                lambda: store.watermarks(PLATFORM, since), _MARKS_LIMIT_S
            )
        self._cache.clear()
        self._gaps.session_begins(shard, self._marks.get(shard, ()))
        if not initial:
            await asyncio.sleep(self._parts.pace.identify_s)

    async def on_shard_connect(self, shard_id: int) -> None:
        self._starting.discard(shard_id)
        reset_delay(self, shard_id)

    async def on_shard_resumed(self, shard_id: int) -> None:
        reset_delay(self, shard_id)

    async def on_shard_ready(self, shard_id: int) -> None:
        if self._shutting_down or shard_id in self._starting:
            # discord.py also reports sessions that ended while their servers were being listed.
            return
        _log.info("discord.ready", shard=shard_id, servers=len(self.guilds))
        self._report_missing([guild for guild in self.guilds if guild.shard_id == shard_id])
        self._start_task(self._catch_up(shard_id))

    def _report_missing(self, guilds: Iterable[discord.Guild]) -> None:
        """Once per server and session of the client."""
        me_id = self.user.id if self.user else 0
        for guild in guilds:
            if guild.id not in self._reported and (missing := lacking(guild, me_id)):
                self._reported.add(guild.id)
                _log.warning("discord.missing_permission", server=guild.name, reason=missing)

    async def on_ready(self) -> None:
        if self._shutting_down:
            return
        # Each new session starts with the presence of a healthy bot.
        if self._presence is not None:
            self._presence.cancel()
        self._presence = self._start_task(self._parts.presence.run(self._show_presence))

    async def on_message(self, message: discord.Message) -> None:
        await self._run_handler(self._ingest.new(message))

    async def on_raw_message_edit(self, payload: discord.RawMessageUpdateEvent) -> None:
        self._cache.forget(payload.message_id)
        # A link preview is an update too; only an edit by a person has a timestamp.
        if payload.message.edited_at is not None:
            await self._run_handler(self._ingest.edited(payload.message))

    async def on_raw_message_delete(self, payload: discord.RawMessageDeleteEvent) -> None:
        self._cache.forget(payload.message_id)
        guild = self.get_guild(payload.guild_id or 0)
        gone = self._ingest.deleted(guild, payload.channel_id, payload.message_id)
        await self._run_handler(gone)

    async def on_raw_bulk_message_delete(self, payload: discord.RawBulkMessageDeleteEvent) -> None:
        guild = self.get_guild(payload.guild_id or 0)
        for message_id in payload.message_ids:
            self._cache.forget(message_id)
            await self._run_handler(self._ingest.deleted(guild, payload.channel_id, message_id))

    async def on_raw_typing(self, payload: discord.RawTypingEvent) -> None:
        place = Place(PLATFORM, str(payload.channel_id))
        self._parts.router.typing(place, str(payload.user_id))

    async def on_interaction(self, interaction: discord.Interaction) -> None:
        await self._run_handler(self._pressed(interaction))

    async def _pressed(self, interaction: discord.Interaction) -> None:
        if not await self._buttons.pressed(interaction):
            await self._proposals.pressed(interaction)

    async def on_error(self, event_method: str, /, *_: object, **__: object) -> None:
        _log.exception("discord.event_failed", event_name=event_method)

    async def _run_handler(self, work: Coroutine[object, object, object]) -> None:
        """Run an event handler. Closing the client cancels it; the next session catches up."""
        if self._shutting_down:
            work.close()
        else:
            await self._start_task(work)

    async def _read_text(self, message: discord.Message) -> Inbound | None:
        """A message of the past: its images are named only."""
        return await self._read(message, images=False)

    def _oldest_history(self) -> datetime:
        days = self._parts.settings().conversation.history_days
        return datetime.fromtimestamp(self._parts.now() - days * DAY_S, UTC)

    async def _read(self, message: discord.Message, *, images: bool = True) -> Inbound | None:
        if self.user is None or not can_answer(message, self.user.id):
            return None
        settings = self._parts.settings()
        context = self._parts.context
        place = place_of(message)
        persona = context.personas().at(place, context.preferences.now.persona(place))
        names = (
            *settings.participation.names,
            settings.persona.name,
            persona.name,
            *persona.aliases,
        )
        reader = InboundReader(
            settings.discord,
            names,
            self._is_member,
            self._parts.fetch_images if images else None,
            lambda place: takes_part(place, settings.participation),
            self._opted_out,
            self._bursts if images else RecentBursts(),
            self._author_of_forwarded,
            self._parts.read_files if images else None,
        )
        inbound = await reader.read(message, self.user.id)
        if inbound is not None:
            self._remember(message, self.user.id)
        return inbound

    def _remember(self, message: discord.Message, me_id: int) -> None:
        """So that a reply to it needs no request."""
        resolved = message.reference.resolved if message.reference is not None else None
        for one in (message, resolved):
            if isinstance(one, discord.Message) and not self._opted_out(one.author.id):
                self._cache.add(one, me_id)

    async def _forget(self, platform: str, author_id: str) -> int:
        self._cache.forget_author(int(author_id))
        return await self._parts.context.forget(platform, author_id)

    def _opted_out(self, user_id: int) -> bool:
        return (PLATFORM, str(user_id)) in self._parts.context.preferences.now.opted_out

    async def _author_of_forwarded(self, reference: discord.MessageReference) -> str | None:
        if reference.message_id is None:
            return None
        seen = await self._cache.get(self, reference.channel_id, reference.message_id)
        return None if seen is None or self._opted_out(seen.author_id) else seen.author.name

    def _is_admin(self, user_id: int) -> bool:
        return str(user_id) in self._parts.settings().discord.admins

    async def _is_member(self, user_id: int) -> bool:
        for guild in self.guilds:
            with suppress(discord.NotFound, discord.Forbidden):
                await retry_discord(partial(guild.fetch_member, user_id))
                return True
        return False

    async def _catch_up(self, shard_id: int) -> None:
        """Fetch missed messages once per gap; the inbox drops those that are known."""
        settings = self._parts.settings().discord
        since = datetime.fromtimestamp(self._parts.now() - settings.catch_up_minutes * 60, UTC)
        mine = [guild for guild in self.guilds if guild.shard_id == shard_id]
        found = gaps(self, self._marks.get(shard_id, ()), mine)
        self._gaps.found(shard_id, found)
        try:
            for gap in found:
                await self._fill_gap(gap, since, settings.catch_up_messages)
                self._gaps.closed(gap)
        finally:
            # After a failure new messages must not wait for the remaining gaps.
            for gap in found:
                self._gaps.closed(gap)
        if shard_id == 0 and (marks := self._marks.get(0)):
            await self._catch_up_first_messages(marks, since, settings.catch_up_messages)

    async def _catch_up_first_messages(
        self, marks: Sequence[Watermark], since: datetime, most: int
    ) -> None:
        """First direct messages: Discord does not list the channels in which they are."""
        store, known = self._parts.router.store, {mark.place.channel_id for mark in marks}
        week = self._parts.now() - _WATERMARK_S
        people = await retry_storage(
            lambda: store.recent_people(PLATFORM, week, _MOST_PEOPLE), _MARKS_LIMIT_S
        )
        async for gap in direct_channels(self, people):
            if str(gap.channel.id) not in known:
                await self._fill_gap(gap, since, most)

    async def _fill_gap(self, gap: Gap, since: datetime, left: int) -> None:
        async for message in missed_messages(gap, since):
            inbound = await self._read(message)
            if inbound is None or inbound.addressed not in _MISSED:
                continue
            if left == 0:
                _log.warning("discord.catch_up_full", channel=inbound.place.channel_id)
                return
            left -= await self._ingest.store(inbound, message)

    async def _show_presence(self, presence: Presence) -> None:
        with suppress(ConnectionError, discord.ConnectionClosed):
            await self.change_presence(status=presence.status, activity=presence.activity)


def _content(parts: Parts) -> bool:
    return parts.settings().discord.message_content


def _shards(parts: Parts) -> int | None:
    """None for the number that Discord recommends."""
    configured = parts.settings().discord.shards
    return None if configured == "auto" else configured

"""Preferences set by users: mutes, opt-outs and the persona of a channel."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from understudy.conversation.inbox import Channel
from understudy.conversation.messages import Inbound, Place
from understudy.conversation.participation import AuthorStatus


@dataclass(frozen=True, slots=True)
class ChannelPreferences:
    muted_until: float = 0.0
    persona: str | None = None
    candidate: str | None = None
    """The order that is used, or the provider or provider/model that is asked first."""


@dataclass(frozen=True, slots=True)
class PreferenceSnapshot:
    """All preferences at one moment."""

    channels: Mapping[Channel, ChannelPreferences] = field(default_factory=dict)
    opted_out: frozenset[tuple[str, str]] = frozenset()
    """(platform, author id)"""

    def author_status(self, inbound: Inbound) -> AuthorStatus:
        """Mute and opt-out for this message; a thread is muted with its parent channel."""
        place = inbound.place
        ids = [i for i in (place.channel_id, place.parent_id) if i is not None]
        until = max(self.channel(Channel(place.platform, i)).muted_until for i in ids)
        return AuthorStatus(until, (place.platform, inbound.author.id) in self.opted_out)

    def persona(self, place: Place) -> str | None:
        """The key chosen for this thread, else for its channel, else for the server."""
        chosen = (preferences.persona for preferences in self._at(place))
        return next((key for key in chosen if key is not None), None)

    def candidate(self, place: Place) -> str | None:
        """The order or server chosen for this thread, else for its channel, else for the server."""
        chosen = (preferences.candidate for preferences in self._at(place))
        return next((name for name in chosen if name is not None), None)

    def _at(self, place: Place) -> Iterator[ChannelPreferences]:
        ids = (place.channel_id, place.parent_id, place.guild_id and server_id(place.guild_id))
        return (self.channel(Channel(place.platform, i)) for i in ids if i)

    def channel(self, channel: Channel) -> ChannelPreferences:
        return self.channels.get(channel, _NONE)


_NONE = ChannelPreferences()


def server_id(guild_id: str) -> str:
    """The channel id under which a server's preferences are stored; on old servers one channel
    has the server's id, hence the prefix."""
    return f"server:{guild_id}"


class PreferenceStore(Protocol):
    """Stores preferences. Raises StorageError when the database cannot be used."""

    async def load(self) -> PreferenceSnapshot: ...

    async def load_channel(self, channel: Channel) -> ChannelPreferences: ...

    async def set_channel(self, channel: Channel, preferences: ChannelPreferences) -> None: ...

    async def set_opt_out(self, platform: str, author_id: str, *, out: bool) -> None: ...


class MemoryPreferences:
    """Preferences that last as long as the process."""

    def __init__(self) -> None:
        self._channels: dict[Channel, ChannelPreferences] = {}
        self._out: set[tuple[str, str]] = set()

    async def load(self) -> PreferenceSnapshot:
        return PreferenceSnapshot(dict(self._channels), frozenset(self._out))

    async def load_channel(self, channel: Channel) -> ChannelPreferences:
        return self._channels.get(channel, _NONE)

    async def set_channel(self, channel: Channel, preferences: ChannelPreferences) -> None:
        self._channels[channel] = preferences

    async def set_opt_out(self, platform: str, author_id: str, *, out: bool) -> None:
        (self._out.add if out else self._out.discard)((platform, author_id))


class Preferences:
    """Cached preferences, written through to the store; `refresh` loads the changes of other
    processes."""

    def __init__(self, store: PreferenceStore) -> None:
        self._store = store
        self.now = PreferenceSnapshot()
        # Of two loads at the same time the one that began first could end last.
        self._turn = asyncio.Lock()

    async def refresh(self) -> None:
        async with self._turn:
            self.now = await self._store.load()

    async def refresh_channel(self, channel: Channel) -> None:
        """Load what another process may have changed in one channel. Raises StorageError."""
        async with self._turn:
            found = await self._store.load_channel(channel)
            if found != self.now.channel(channel):
                self.now = replace(self.now, channels={**self.now.channels, channel: found})

    async def mute(self, channel: Channel, until: float) -> None:
        """Send no replies in this channel until then; 0 ends it."""
        async with self._turn:
            await self._set(channel, replace(self.now.channel(channel), muted_until=until))

    async def choose_persona(self, channel: Channel, key: str | None) -> None:
        async with self._turn:
            await self._set(channel, replace(self.now.channel(channel), persona=key))

    async def choose_candidate(self, channel: Channel, name: str | None) -> None:
        """Use this order, or ask this provider or provider/model first; None is as configured."""
        async with self._turn:
            await self._set(channel, replace(self.now.channel(channel), candidate=name))

    async def opt_out(self, platform: str, author_id: str, *, out: bool) -> None:
        """Stop reading and answering this person's messages, or resume."""
        async with self._turn:
            await self._store.set_opt_out(platform, author_id, out=out)
            self.now = await self._store.load()

    async def _set(self, channel: Channel, preferences: ChannelPreferences) -> None:
        await self._store.set_channel(channel, preferences)
        self.now = await self._store.load()

"""What the double remembers: people, places, messages, and what may be done with them."""

import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from discord_double import payloads
from discord_double.payloads import Json
from discord_double.permissions import (
    READ_HISTORY,
    VIEW,
    permissions,
    sending_in,
)

_USER_MENTION = re.compile(r"<@!?(\d+)>")


class Refusal(Exception):
    """Discord says no: an HTTP status with its JSON error code."""

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.body = {"message": text, "code": code}


@dataclass
class Window:
    """A rate limit bucket: `limit` uses per `seconds`, counted from the first use."""

    limit: int
    seconds: float
    _opened: dict[str, float] = field(default_factory=dict)
    _used: dict[str, int] = field(default_factory=dict)

    def take(self, key: str, now: float) -> tuple[bool, int, float]:
        """(allowed, uses left, seconds to the reset)."""
        if now - self._opened.get(key, -1e9) >= self.seconds:
            self._opened[key], self._used[key] = now, 0
        left_s = self._opened[key] + self.seconds - now
        if self._used[key] >= self.limit:
            return False, 0, left_s
        self._used[key] += 1
        return True, self.limit - self._used[key], left_s


class DiscordState:
    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.me = payloads.user("understudy", bot=True)
        self.app_id = self.me["id"]
        self.users: dict[str, Json] = {self.me["id"]: self.me}
        self.guilds: dict[str, Json] = {}
        self.channels: dict[str, Json] = {}
        self.messages: dict[str, dict[str, Json]] = defaultdict(dict)
        self.replies: dict[str, list[Json]] = defaultdict(list)
        """By the id of the message they reply to, deleted ones included."""
        self.roles: dict[str, list[str]] = defaultdict(list)
        """By user id; who has written in a server is in here, and so its member."""
        self.cdn = ""
        self.files: dict[str, bytes] = {}
        self.commands: dict[str, list[Json]] = {}
        self.forbidden: set[tuple[str, str]] = set()
        """(channel id, `send` or `typing`) that answer 403."""
        self.nonce_life_s = 300.0
        self._nonces: dict[str, tuple[str, float]] = {}

    def add_user(self, name: str, *, bot: bool = False) -> Json:
        made = payloads.user(name, bot=bot)
        self.users[made["id"]] = made
        return made

    def add_guild(self, name: str = "Theatre") -> Json:
        made = payloads.guild(name, self.me)
        self.guilds[made["id"]] = made
        return made

    def add_channel(
        self, guild: Json, name: str, *, kind: int = payloads.TEXT, known: bool = True
    ) -> Json:
        """`known=False`: the client hears of the channel only through its messages."""
        made = payloads.channel(name, guild["id"], kind=kind)
        self.channels[made["id"]] = made
        if known:
            guild["channels"].append(made)
        return made

    def add_role(self, guild: Json, name: str, allowed: int = 0) -> Json:
        made = payloads.role(payloads.snowflake(), name, str(allowed))
        guild["roles"].append(made)
        return made

    def permissions(self, channel_id: str, user: Json) -> int:
        """The permission bits that a person or the bot has in a channel."""
        channel = self.channel(channel_id)
        guild = self.guilds.get(channel.get("guild_id") or "")
        parent = self.channels.get(channel.get("parent_id") or "", channel)
        return permissions(guild, parent, user["id"], self.roles[user["id"]])

    def allowed(self, channel_id: str, user: Json, needed: int) -> bool:
        return self.permissions(channel_id, user) & needed == needed

    def require(self, channel_id: str, needed: int) -> None:
        """Refuse what the bot may not do."""
        if not self.allowed(channel_id, self.me, VIEW):
            raise Refusal(403, 50001, "Missing Access")
        if not self.allowed(channel_id, self.me, needed):
            raise Refusal(403, 50013, "Missing Permissions")

    def add_thread(
        self, parent: Json, name: str, starter_id: str | None = None, owner: Json | None = None
    ) -> Json:
        owner_id = owner["id"] if owner else "1"
        made = payloads.thread(starter_id or payloads.snowflake(), name, parent, owner_id)
        self.channels[made["id"]] = made
        self.guilds[parent["guild_id"]]["threads"].append(made)
        return made

    def dm_with(self, user: Json) -> Json:
        for channel in self.channels.values():
            if channel["type"] == payloads.DM and channel["recipients"][0]["id"] == user["id"]:
                return channel
        made = payloads.dm(user)
        self.channels[made["id"]] = made
        return made

    def channel(self, channel_id: str) -> Json:
        try:
            return self.channels[channel_id]
        except KeyError:
            raise Refusal(404, 10003, "Unknown Channel") from None

    def message(self, channel_id: str, message_id: str) -> Json:
        self.channel(channel_id)
        try:
            return self.messages[channel_id][message_id]
        except KeyError:
            raise Refusal(404, 10008, "Unknown Message") from None

    def history(self, channel_id: str, query: dict[str, str]) -> list[Json]:
        """Newest first, as Discord lists them."""
        self.channel(channel_id)
        found = sorted(self.messages[channel_id].values(), key=lambda m: int(m["id"]))
        limit = int(query.get("limit", "50"))
        if "after" in query:
            newer = [m for m in found if int(m["id"]) > int(query["after"])]
            return newer[:limit][::-1]
        if "before" in query:
            found = [m for m in found if int(m["id"]) < int(query["before"])]
        return found[-limit:][::-1]

    def refers(self, channel_id: str, reference: Json) -> tuple[Json, Json | None]:
        where = str(reference.get("channel_id") or channel_id)
        parent = self.messages[where].get(str(reference["message_id"]))
        made = {"type": 0, "message_id": str(reference["message_id"]), "channel_id": where}
        guild_id = self.channel(where).get("guild_id")
        return (made if guild_id is None else {**made, "guild_id": guild_id}), parent

    def write(self, channel_id: str, author: Json, content: str, **more: object) -> Json:
        """Store a message; `reply_to`, `message_id`, and any field of a message may be given."""
        channel = self.channel(channel_id)
        message_id = str(more.pop("message_id", None) or payloads.snowflake(self.clock()))
        made = payloads.message(message_id, channel_id, author, content)
        if channel.get("guild_id"):
            made["guild_id"] = channel["guild_id"]
            made["member"] = payloads.member(self.roles[author["id"]])
        named = dict.fromkeys(_USER_MENTION.findall(content))
        made["mentions"] = [self.users[u] for u in named if u in self.users]
        reply_to = more.pop("reply_to", None)
        if isinstance(reply_to, dict):
            reference, parent = self.refers(channel_id, reply_to)
            made.update(type=19, message_reference=reference, referenced_message=parent)
            self.replies[reference["message_id"]].append(made)
        made.update(more)
        self.messages[channel_id][message_id] = made
        channel["last_message_id"] = message_id
        return made

    def post(
        self, channel_id: str, body: Json, files: list[tuple[str, bytes]]
    ) -> tuple[Json, bool]:
        """The bot sends. Returns the message and whether it is new: a remembered nonce is not."""
        if (channel_id, "send") in self.forbidden:
            raise Refusal(403, 50013, "Missing Permissions")
        self.require(channel_id, sending_in(self.channel(channel_id)))
        refers = bool(body.get("message_reference"))
        if refers and not self.allowed(channel_id, self.me, READ_HISTORY):
            raise Refusal(400, 160002, "Cannot reply without permission to read message history")
        self.check_text(body.get("content"), blank_ok=bool(files or body.get("embeds")))
        nonce = str(body["nonce"]) if body.get("enforce_nonce") else None
        if nonce and len(nonce) > 25:
            raise Refusal(400, 50035, "Invalid Form Body: nonce is longer than 25 characters")
        if nonce and nonce in self._nonces:
            known_id, at = self._nonces[nonce]
            if self.clock() - at < self.nonce_life_s and known_id in self.messages[channel_id]:
                return self.messages[channel_id][known_id], False
        made = self.write(
            channel_id, self.me, body.get("content") or "", **self._extras(channel_id, body)
        )
        for name, data in files:
            made["attachments"].append(self.keep_file(channel_id, name, data))
        if nonce:
            self._nonces[nonce] = (made["id"], self.clock())
        return made, True

    def forget_nonces(self) -> None:
        self._nonces.clear()

    def _extras(self, channel_id: str, body: Json) -> dict[str, object]:
        extras: dict[str, object] = {
            key: body[key] for key in ("embeds", "components", "flags") if body.get(key)
        }
        reference = body.get("message_reference")
        if reference:
            _, parent = self.refers(channel_id, reference)
            # A reply can only refer to a message of its own channel.
            if parent is not None and parent["channel_id"] == channel_id:
                extras["reply_to"] = reference
            elif reference.get("fail_if_not_exists", True):
                raise Refusal(400, 50035, "Invalid Form Body: Unknown message")
        if "nonce" in body:
            extras["nonce"] = body["nonce"]
        return extras

    def keep_file(self, channel_id: str, name: str, data: bytes, content_type: str = "") -> Json:
        file_id = payloads.snowflake()
        path = f"/attachments/{channel_id}/{file_id}/{name}"
        self.files[path] = data
        url = self.cdn + path
        made = {"id": file_id, "filename": name, "size": len(data), "url": url, "proxy_url": url}
        return {**made, "content_type": content_type} if content_type else made

    def edit(
        self, channel_id: str, message_id: str, body: Json, files: list[tuple[str, bytes]]
    ) -> Json:
        found = self.message(channel_id, message_id)
        if found["author"]["id"] != self.me["id"]:
            raise Refusal(403, 50005, "Cannot edit a message authored by another user")
        if "attachments" in body:
            found["attachments"] = [self.keep_file(channel_id, *file) for file in files]
        if "content" in body:
            self.check_text(body["content"], blank_ok=bool(found["attachments"]))
            found["content"] = body["content"] or ""
        for key in ("embeds", "components"):
            if key in body:
                found[key] = body[key]
        found["edited_timestamp"] = payloads.timestamp(payloads.snowflake(self.clock()))
        return found

    @staticmethod
    def check_text(content: object, *, blank_ok: bool = False) -> None:
        text = str(content or "")
        if not text.strip() and not blank_ok:
            raise Refusal(400, 50006, "Cannot send an empty message")
        if len(text.encode("utf-16-le")) // 2 > 2000:
            raise Refusal(400, 50035, "Invalid Form Body: Must be 2000 or fewer in length.")

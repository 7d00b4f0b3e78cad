"""Discord's JSON as far as discord.py reads it."""

import itertools
import time
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

_DISCORD_EPOCH_MS = 1_420_070_400_000
_counter = itertools.count(1)

TEXT, DM, FORUM, PUBLIC_THREAD = 0, 1, 15, 11
EVERYTHING = str((1 << 53) - 1)
USUAL = str((1 << 10) | (1 << 11) | (1 << 14) | (1 << 15) | (1 << 16) | (1 << 35) | (1 << 38))
"""See channels, write there and in threads, create threads, embed, attach, read the history."""


def snowflake(at: float | None = None) -> str:
    """A new id; discord.py computes times from ids, so they are true to `at` (epoch seconds)."""
    ms = int((time.time() if at is None else at) * 1000) - _DISCORD_EPOCH_MS
    return str((ms << 22) | (next(_counter) & 0x3FFFFF))


def moment(message_id: str) -> float:
    return ((int(message_id) >> 22) + _DISCORD_EPOCH_MS) / 1000


def timestamp(message_id: str) -> str:
    return datetime.fromtimestamp(moment(message_id), UTC).isoformat()


def user(name: str, *, bot: bool = False) -> Json:
    return {
        "id": snowflake(),
        "username": name,
        "discriminator": "0",
        "global_name": name.title(),
        "avatar": None,
        "bot": bot,
        "public_flags": 0,
    }


def member(roles: list[str]) -> Json:
    return {
        "roles": roles,
        "joined_at": "2024-01-01T00:00:00+00:00",
        "deaf": False,
        "mute": False,
        "flags": 0,
    }


def role(role_id: str, name: str, permissions: str = USUAL) -> Json:
    return {
        "id": role_id,
        "name": name,
        "color": 0,
        "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
        "hoist": False,
        "position": 0,
        "permissions": permissions,
        "managed": False,
        "mentionable": False,
        "flags": 0,
    }


def guild(name: str, me: Json) -> Json:
    guild_id = snowflake()
    return {
        "id": guild_id,
        "name": name,
        "owner_id": "1",
        "icon": None,
        "afk_timeout": 0,
        "verification_level": 0,
        "default_message_notifications": 0,
        "explicit_content_filter": 0,
        "roles": [role(guild_id, "@everyone")],
        "emojis": [],
        "stickers": [],
        "features": [],
        "mfa_level": 0,
        "nsfw_level": 0,
        "system_channel_flags": 0,
        "premium_tier": 0,
        "preferred_locale": "en-US",
        "large": False,
        "member_count": 1,
        "members": [{"user": me, **member([])}],
        "channels": [],
        "threads": [],
        "voice_states": [],
        "presences": [],
        "stage_instances": [],
        "guild_scheduled_events": [],
        "soundboard_sounds": [],
    }


def channel(name: str, guild_id: str, *, kind: int = TEXT, nsfw: bool = False) -> Json:
    return {
        "id": snowflake(),
        "guild_id": guild_id,
        "type": kind,
        "name": name,
        "position": 0,
        "permission_overwrites": [],
        "nsfw": nsfw,
        "topic": None,
        "parent_id": None,
        "rate_limit_per_user": 0,
        "last_message_id": None,
        "available_tags": [],
        "flags": 0,
    }


def thread(thread_id: str, name: str, parent: Json, owner_id: str = "1") -> Json:
    return {
        "id": thread_id,
        "guild_id": parent["guild_id"],
        "parent_id": parent["id"],
        "owner_id": owner_id,
        "type": PUBLIC_THREAD,
        "name": name,
        "message_count": 0,
        "member_count": 1,
        "rate_limit_per_user": 0,
        "last_message_id": None,
        "thread_metadata": {
            "archived": False,
            "auto_archive_duration": 1440,
            "archive_timestamp": "2026-01-01T00:00:00+00:00",
            "locked": False,
        },
        "flags": 0,
    }


def dm(recipient: Json) -> Json:
    return {
        "id": snowflake(),
        "type": DM,
        "recipients": [recipient],
        "last_message_id": None,
        "flags": 0,
    }


def message(message_id: str, channel_id: str, author: Json, content: str) -> Json:
    return {
        "id": message_id,
        "channel_id": channel_id,
        "author": author,
        "content": content,
        "timestamp": timestamp(message_id),
        "edited_timestamp": None,
        "tts": False,
        "mention_everyone": False,
        "mentions": [],
        "mention_roles": [],
        "attachments": [],
        "embeds": [],
        "pinned": False,
        "type": 0,
        "components": [],
        "flags": 0,
    }


def poll(question: str, answers: list[str]) -> Json:
    return {
        "question": {"text": question},
        "answers": [
            {"answer_id": n, "poll_media": {"text": text}} for n, text in enumerate(answers, 1)
        ],
        "expiry": "2099-01-01T00:00:00+00:00",
        "allow_multiselect": False,
        "layout_type": 1,
    }


def snapshot_of(original: Json) -> Json:
    kept = (
        "type",
        "content",
        "embeds",
        "attachments",
        "timestamp",
        "edited_timestamp",
        "flags",
        "mentions",
        "mention_roles",
        "components",
    )
    return {"message": {key: original[key] for key in kept}}


def application(app_id: str, owner: Json) -> Json:
    return {
        "id": app_id,
        "name": "Understudy",
        "icon": None,
        "description": "",
        "rpc_origins": [],
        "bot_public": True,
        "bot_require_code_grant": False,
        "verify_key": "00",
        "flags": 0,
        "owner": owner,
        "team": None,
        "summary": "",
    }


def command(app_id: str, asked: Json) -> Json:
    return {
        "id": snowflake(),
        "application_id": app_id,
        "version": snowflake(),
        "type": 1,
        "description": "",
        "options": [],
        "default_member_permissions": None,
        **asked,
    }


def interaction(app_id: str, kind: int, channel: Json, data: Json) -> Json:
    interaction_id = snowflake()
    return {
        "id": interaction_id,
        "application_id": app_id,
        "type": kind,
        "token": f"token-{interaction_id}",
        "version": 1,
        "channel_id": channel["id"],
        "channel": {**channel, "permissions": EVERYTHING},
        "locale": "en-US",
        "app_permissions": EVERYTHING,
        "entitlements": [],
        "authorizing_integration_owners": {},
        "attachment_size_limit": 10_485_760,
        "context": 1 if channel["type"] == DM else 0,
        "data": data,
    }

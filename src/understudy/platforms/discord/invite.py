"""The invite link with exactly the permissions the bot uses, and what a token can do."""

from dataclasses import dataclass

import aiohttp
import discord

PERMISSIONS = discord.Permissions(
    view_channel=True,
    send_messages=True,
    send_messages_in_threads=True,
    read_message_history=True,
    attach_files=True,
    embed_links=True,
)
BAD_TOKEN = (
    "Discord refused the bot token. Copy it anew from https://discord.com/developers/applications "
    "→ your application → Bot → Reset Token, and set it as {name}."
)
NO_CONTENT_INTENT = (
    "Discord does not let this bot read messages. Open "
    "https://discord.com/developers/applications → your application → Bot → Privileged Gateway "
    "Intents, switch on Message Content Intent, save, and start again. Or set "
    "discord.message_content: false, and the bot reads only mentions and direct messages."
)


def invite_link(application_id: int) -> str:
    return discord.utils.oauth_url(
        application_id, permissions=PERMISSIONS, scopes=("bot", "applications.commands")
    )


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `doctor` reports of Discord."""

    ok: bool
    name: str = ""
    invite: str = ""
    advice: str = ""


async def inspect(token: str, *, token_name: str, message_content: bool) -> Inspection:
    """Try a token without going online. Raises nothing; trouble becomes advice."""
    client = discord.Client(intents=discord.Intents.none())
    try:
        async with client:
            await client.login(token)
            application = await client.application_info()
    except discord.LoginFailure:
        return Inspection(ok=False, advice=BAD_TOKEN.format(name=token_name))
    except (discord.HTTPException, aiohttp.ClientError, OSError, TimeoutError) as error:
        return Inspection(
            ok=False, advice=f"Discord cannot be reached ({type(error).__name__}). Try again later."
        )
    flags = application.flags
    granted = flags.gateway_message_content or flags.gateway_message_content_limited
    invite = invite_link(application.id)
    if message_content and not granted:
        return Inspection(ok=False, name=application.name, invite=invite, advice=NO_CONTENT_INTENT)
    return Inspection(ok=True, name=application.name, invite=invite)

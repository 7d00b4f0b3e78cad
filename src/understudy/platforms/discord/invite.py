"""The invite link with the permissions the bot uses, and hints for failed logins."""

import discord

PERMISSIONS = discord.Permissions(
    view_channel=True,
    send_messages=True,
    send_messages_in_threads=True,
    read_message_history=True,
    attach_files=True,
    embed_links=True,
    create_public_threads=True,
)
BAD_TOKEN = (
    "Discord refused the bot token. Create one at https://discord.com/developers/applications "
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

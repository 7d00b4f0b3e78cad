"""A Discord message as plain text for a model: mentions by name; embeds, polls, stickers, forwards
and attachments as text."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime

import discord

from understudy.conversation.messages import AttachedText
from understudy.conversation.speakers import quoting, safe_name

_QUOTE_CHARS = 1000
_EMBED_CHARS = 1000
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".avif", ".heic", ".heif")
_TOKEN = re.compile(
    r"<(?:@!?(?P<user>\d+)|@&(?P<role>\d+)|#(?P<channel>\d+)"
    r"|a?:(?P<emoji>\w+):\d+|t:(?P<time>-?\d{1,12})(?::\w)?|/(?P<command>[^\n:>]+):\d+)>"
)

Said = discord.Message | discord.MessageSnapshot


def text_of(
    message: discord.Message,
    me_id: int,
    *,
    pictures_taken: bool = False,
    forwarded_from: str | None = None,
    read: Collection[AttachedText] = (),
) -> str:
    """The complete text, without the leading mention of the bot (`me_id`).

    `pictures_taken`: images are sent separately and not named; nor are files that were `read`.
    """
    words = _wording(message)
    said = words(re.sub(rf"\A\s*<@!?{me_id}>[\s,:]*", "", message.content)).strip()
    by = f" from {safe_name(forwarded_from)}" if forwarded_from else ""
    names = {file.name for file in read}
    named = [
        attachment
        for attachment in attachments_of(message)
        if not (pictures_taken and is_picture(attachment)) and attachment.filename not in names
    ]
    rest = (*_rest(message, words, f"[forwarded message{by}]"), *map(_attachment, named))
    return "\n".join(piece for piece in (said, *rest) if piece)


def quote_of(replied: discord.Message, me_id: int) -> str:
    """The beginning of the quoted message, with its line breaks and code."""
    return quoting(
        safe_name(replied.author.display_name), shortened(text_of(replied, me_id), _QUOTE_CHARS)
    )


def shortened(text: str, most: int) -> str:
    """The beginning of a text; a code block that is cut is closed."""
    if len(text) <= most:
        return text
    kept = text[:most].rstrip() + "…"
    return f"{kept}\n```" if kept.count("```") % 2 else kept


def is_picture(attachment: discord.Attachment) -> bool:
    kind = attachment.content_type or ""
    if kind:
        return kind.startswith("image/") and "svg" not in kind
    return attachment.filename.lower().endswith(_PICTURES)


def attachments_of(message: discord.Message) -> list[discord.Attachment]:
    """Attachments of the message and of forwarded messages."""
    forwarded = (a for snapshot in message.message_snapshots for a in snapshot.attachments)
    return [*message.attachments, *forwarded]


def _rest(message: discord.Message, words: Callable[[str], str], forwarded: str) -> Iterator[str]:
    for snapshot in message.message_snapshots:
        inside = [words(snapshot.content).strip(), *_extras(snapshot, words)]
        yield "\n".join([forwarded, *(piece for piece in inside if piece)])
    yield from _extras(message, words)
    if message.poll is not None:
        answers = " / ".join(answer.text for answer in message.poll.answers)
        yield f"[poll] {message.poll.question} - {answers}"


def _wording(message: discord.Message) -> Callable[[str], str]:
    """Replaces Discord's tokens by the text that people see."""
    named = {user.id: user.display_name for user in message.mentions}

    def word(token: re.Match[str]) -> str:
        if token["user"]:
            return f"@{named.get(int(token['user'])) or _member(message, int(token['user']))}"
        if token["role"]:
            role = message.guild.get_role(int(token["role"])) if message.guild else None
            return f"@{role.name if role else 'role'}"
        if token["channel"]:
            place = message.guild.get_channel(int(token["channel"])) if message.guild else None
            return f"#{place.name if place else 'channel'}"
        if token["time"]:
            return _moment(int(token["time"]))
        return f":{token['emoji']}:" if token["emoji"] else f"/{token['command']}"

    return lambda text: _TOKEN.sub(word, text)


def _member(message: discord.Message, user_id: int) -> str:
    member = message.guild.get_member(user_id) if message.guild else None
    return member.display_name if member else "someone"


def _moment(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def _extras(said: Said, words: Callable[[str], str]) -> Iterator[str]:
    yield from (_embed(embed, words) for embed in said.embeds)
    yield from (f"[sticker: {sticker.name}]" for sticker in said.stickers)
    yield from (words(text) for text in _displayed(said.components))


def _embed(embed: discord.Embed, words: Callable[[str], str]) -> str:
    fields = (f"{field.name}: {field.value}" for field in embed.fields)
    told = [embed.author.name, embed.title, embed.description, *fields, embed.footer.text]
    text = words("\n".join(piece for piece in told if piece))
    return f"[embed] {text[:_EMBED_CHARS]}" if text else ""


def _displayed(components: Iterable[object]) -> Iterator[str]:
    """The text of nested components."""
    for component in components:
        if isinstance(component, discord.TextDisplay):
            yield component.content
        yield from _displayed(getattr(component, "children", ()))


def _attachment(attachment: discord.Attachment) -> str:
    if attachment.is_voice_message():
        return "[voice message]"
    kind = "image" if is_picture(attachment) else "attachment"
    described = f" - {attachment.description}" if attachment.description else ""
    return f"[{kind}: {attachment.filename}{described}]"

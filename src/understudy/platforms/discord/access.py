"""Who may talk with the bot, and where: `discord.allow`, `discord.deny` and `discord.dms`."""

from understudy.config.settings import Access, Discord
from understudy.conversation.delivery import Author, Place


def refusal(settings: Discord, place: Place, author: Author, *, member: bool) -> str | None:
    """Why this message is not taken in, as one constant word; None when it may be.

    `member` tells whether the author shares a server with the bot; it matters in DMs only.
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
    """Roles and users are one list: being on either is enough."""
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

"""Who may do what in a channel, by Discord's rules for roles and overwrites."""

from discord_double.payloads import PUBLIC_THREAD, Json

CREATE_THREADS = 1 << 35
SEND_IN_THREADS = 1 << 38
VIEW = 1 << 10
SEND = 1 << 11
READ_HISTORY = 1 << 16
MANAGE_MESSAGES = 1 << 13
MANAGE_SERVER = 1 << 5
ADMINISTRATOR = 1 << 3
_ALL = (1 << 53) - 1


def permissions(guild: Json | None, channel: Json, user_id: str, roles: list[str]) -> int:
    """The permission bits of one member; of a thread, its parent channel is to be given."""
    if guild is None:
        return _ALL
    by_id = {role["id"]: int(role["permissions"]) for role in guild["roles"]}
    allowed = by_id[guild["id"]]
    for role_id in roles:
        allowed |= by_id.get(role_id, 0)
    if allowed & ADMINISTRATOR or guild["owner_id"] == user_id:
        return _ALL
    overwrites = {o["id"]: o for o in channel.get("permission_overwrites", ())}
    everyone = overwrites.get(guild["id"], _NONE)
    allowed = _changed(allowed, everyone)
    mine = [overwrites[role_id] for role_id in roles if role_id in overwrites]
    for overwrite in mine:
        allowed &= ~int(overwrite["deny"])
    for overwrite in mine:
        allowed |= int(overwrite["allow"])
    return _changed(allowed, overwrites.get(user_id, _NONE))


_NONE = {"allow": "0", "deny": "0"}


def _changed(allowed: int, overwrite: Json) -> int:
    return allowed & ~int(overwrite["deny"]) | int(overwrite["allow"])


def sending_in(channel: Json) -> int:
    return SEND_IN_THREADS if channel["type"] == PUBLIC_THREAD else SEND


def overwrite(target: str, *, allow: int = 0, deny: int = 0, member: bool = False) -> Json:
    """Of a role (the server's id is everyone's), or of one member."""
    return {"id": target, "type": int(member), "allow": str(allow), "deny": str(deny)}

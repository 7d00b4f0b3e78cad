"""Mentions in a model's text: as names, or real for people in `allow_mentions`."""

import re
from collections.abc import Iterable, Mapping

_TOKEN = r"<@!?(?P<id>\d{15,20})>"
_CODE = r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+"


def with_mentions(text: str, people: Mapping[str, str], allowed: Iterable[str]) -> str:
    """`people`: user id → name of everyone in the conversation; code and links stay as they are.

    Of a person in `allowed`, `@Name` becomes a mention; of all others a mention becomes `@Name`.
    """
    if not people:
        return text
    real = frozenset(allowed)
    ids = {name.casefold(): user_id for user_id, name in people.items()}
    names = "|".join(re.escape(name) for name in sorted(people.values(), key=len, reverse=True))
    pattern = rf"{_CODE}|{_TOKEN}|(?<![\w<@])@(?P<name>{names})(?!\w)"

    def shown(found: re.Match[str]) -> str:
        if found["name"] is not None:
            user_id = ids.get(found["name"].casefold(), "")
            return f"<@{user_id}>" if user_id in real else found[0]
        if found["id"] in people and found["id"] not in real:
            return f"@{people[found['id']]}"
        return found[0]

    return re.sub(pattern, shown, text, flags=re.DOTALL | re.IGNORECASE)

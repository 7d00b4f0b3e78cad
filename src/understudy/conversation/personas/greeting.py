"""What a persona says when it comes in."""

from datetime import datetime
from random import Random

from understudy.conversation.macros import MacroScene, expand, plain
from understudy.conversation.personas.registry import Persona
from understudy.conversation.prompt.persona_prompt import card_values


def greetings(persona: Persona, user: str, now: datetime, *, shared: bool) -> tuple[str, ...]:
    """The card's greetings, ready to be read by `user`; among several people those that are made
    for groups, where there are any."""
    card = persona.card
    if card is None:
        return ()
    alone = (card.greeting, *card.alternate_greetings)
    templates = card.group_greetings if shared and any(card.group_greetings) else alone
    scene = MacroScene(
        values={
            **card_values(card),
            "char": persona.name,
            "user": plain(user),
            "group": plain(user),
            "groupnotmuted": plain(user),
            "charifnotgroup": persona.name,
            "notchar": plain(user),
        },
        now=now,
        random=Random(persona.key),  # noqa: S311 - dice, not secrets
        seed=persona.key,
        greetings=alone,
    )
    said = (expand(template, scene).strip() for template in templates)
    return tuple(text for text in said if text)

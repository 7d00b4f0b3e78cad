"""A model on loopback that keeps facts in summaries, and answers from the prompt it gets."""

import json
import re
from dataclasses import dataclass, field

from understudy.rehearsal.faults import Behaviour
from understudy.rehearsal.responder import Finish, Head, Responder, Role

FACT = re.compile(r"(\w+): my pet is (\w+)", re.IGNORECASE)
_SUMMARIZED = re.compile(r"(\w+)'s pet is (\w+)")
_ASKED = re.compile(r"(?:(\w+): )?what is my pet\?\s*\Z")
_ALONE = "You"
"""The name in summaries of the only person in a private conversation."""


@dataclass
class FactModel:
    """As a behaviour of a rehearsal server. `Ann: my pet is X` is a fact; `what is my pet?` is
    answered for the one who asks."""

    prompts: list[str] = field(default_factory=list)
    """The texts of all prompts of replies."""
    summaries: list[str] = field(default_factory=list)
    """The texts of all prompts of summaries."""
    proposals: list[str] = field(default_factory=list)
    """The texts of all prompts for a note."""
    note: str = "NONE"
    """What is proposed as a note."""

    @property
    def behaviour(self) -> Behaviour:
        return Behaviour("facts", (Head(), Role(), self, Finish()))

    async def play(self, stage: Responder) -> None:
        messages = stage.asked.body["messages"]
        text = json.loads(json.dumps(messages, ensure_ascii=False))
        prompt = "\n".join(str(message["content"]) for message in text)
        known = dict(_SUMMARIZED.findall(prompt)) | dict(FACT.findall(prompt))
        if "You keep the summary" in prompt:
            self.summaries.append(prompt)
            facts = [f"{name}'s pet is {pet}." for name, pet in known.items()]
            await stage.say(" ".join(facts) or "Nothing happened.")
            return
        if "If there is nothing to note" in prompt:
            self.proposals.append(prompt)
            await stage.say(self.note)
            return
        self.prompts.append(prompt)
        asked = _ASKED.search(prompt)
        name = asked[1] or _ALONE if asked else ""
        await stage.say(known.get(name, "I do not know.") if asked else "Noted.")

"""A talking partner without a model: patterns, reflected pronouns and a little stagecraft.

In the tradition of Weizenbaum's ELIZA (1966); the lines are our own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Line:
    """What one side said: the partner needs no more of a conversation than this."""

    from_user: bool
    text: str
    images: int = 0


_REFLECTED = {
    "i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself",
    "am": "are", "i'm": "you're", "i've": "you've", "i'd": "you'd", "i'll": "you'll",
    "you": "I", "your": "my", "yours": "mine", "yourself": "myself", "you're": "I'm",
    "was": "were",
}  # fmt: skip

_RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        r"\b(?:what(?:'s| is)|tell me) your name|\bwho are you\b",
        (
            "I'm {name}. Not the star, just the one who knows everybody's lines.",
            "{name} is the name. I wait in the wings until someone drops a cue.",
            "They call me {name}. And whom do I have the pleasure of prompting?",
        ),
    ),
    (
        r"\bmy name is (?P<it>[\w'-]+)|\bcall me (?P<it2>[\w'-]+)",
        (
            "Then welcome on stage, {it}. What is today's scene about?",
            "{it}! A good name for a programme leaflet. What brings you here?",
        ),
    ),
    (
        r"\b(?:code|python|function|script|snippet)\b",
        (
            "Here is about as much code as I can recite from memory:\n\n"
            "```python\ndef curtain(act: int) -> str:\n"
            '    return "rise" if act == 1 else "fall"\n```\n\n'
            "Connect a real model and it will write you the rest of the play.",
        ),
    ),
    (
        r"\b(?:list|table|markdown|format)\b",
        (
            "Gladly. In order of appearance:\n\n"
            "1. **The first provider**, who was told to break a leg and did.\n"
            "2. **The second**, who left in the *middle* of a sentence.\n"
            "3. **Me**, reading from a very small book.\n\n"
            "> The show goes on, as they say.",
        ),
    ),
    (
        r"\b(?:joke|funny|laugh)\b",
        (
            "A server walks into a bar. The barman says 429, so it goes to the bar next door. "
            "That is the whole joke, and also the whole program.",
            "Why did the understudy learn everyone's lines? "
            "Because `503 Service Unavailable` is not a line.",
        ),
    ),
    (
        r"\b(?:story|poem|tale)\b",
        (
            "There was once a reply that nobody wanted to give. The first was too tired, the "
            "second stopped halfway, and the third simply said it. Nobody in the audience noticed, "
            "and that was the applause.",
            "*The lamp is low, the stage is bare,*\n*the lead has lost the line;*\n"
            "*a voice comes softly from the stair:*\n*“don't worry, it is mine.”*",
        ),
    ),
    (
        r"\b(?:provider|server|failover|route|router|which model|who answered|fallback)\b",
        (
            "Look at the small line under this reply: it names everyone who was asked before me, "
            "and why they did not make it on stage.",
            "The cast is in the configuration, in order. Whoever is first and fit gets the line. "
            "Today that turned out to be me.",
        ),
    ),
    (
        r"\b(?:help|what can you do|how does this work|how do you work)\b",
        (
            "I'm a stand-in: no model, no network, just patterns and good manners. "
            "Everything around me is the real thing, though. Try asking for a story, a joke, "
            "a list or some code, or tell me how you feel.",
        ),
    ),
    (
        r"^\W*(?:hi|hello|hey|good (?:morning|evening|afternoon)|hallo|howdy)\b",
        (
            "Hello! {name} here, slightly out of breath. What's on your mind?",
            "Hello there. The lights are on and I know my cue. What shall we talk about?",
            "Good to see you. I'm {name}. Make yourself at home.",
        ),
    ),
    (
        r"\bhow are you\b|\bhow(?:'s| is) it going\b",
        (
            "Rested, rehearsed and ready. And you: how does today treat you?",
            "Very well, thank you. I was asked before anyone got nervous. How are you?",
        ),
    ),
    (
        r"\b(?:thanks|thank you|thx|cheers)\b",
        (
            "You're welcome. Flowers may be left at the stage door.",
            "My pleasure. It's the part I was waiting for.",
        ),
    ),
    (
        r"\b(?:bye|goodbye|see you|good night)\b",
        (
            "Until the next performance. I'll keep the lamp on.",
            "Goodbye! If anyone asks, it was sold out.",
        ),
    ),
    (
        r"\b(?:sorry|apologi[sz]e)\b",
        ("No need to apologise. Even Hamlet missed a cue now and then.",),
    ),
    (
        r"\bi (?:feel|am feeling)(?: like)? (?P<it>[^.!?,]+)",
        (
            "What do you think makes you feel {it}?",
            "Feeling {it} is worth more than one line. When did it begin?",
            "And when you feel {it}, what do you usually do next?",
        ),
    ),
    (
        r"\b(?:i need|i want|i would like|i'd like) (?P<it>[^.!?]+)",
        (
            "Suppose you had {it} by tomorrow. What would change first?",
            "What stands between you and {it}?",
        ),
    ),
    (
        r"\bi (?:can't|cannot|can not) (?P<it>[^.!?]+)",
        (
            "Have you always been sure that you can't {it}, or is that a recent review?",
            "Perhaps nobody has shown you how to {it} yet. What have you tried?",
        ),
    ),
    (
        r"\b(?:i'm|i am) (?P<it>[^.!?,]+)",
        (
            "How long have you been {it}?",
            "You're {it}, you say. Does that suit you?",
        ),
    ),
    (
        r"\bmy (?P<it>mother|father|mum|dad|sister|brother|boss|friend|wife|husband|cat|dog|job"
        r"|computer|gpu|server)\b",
        (
            "Tell me more about your {it}. Every character deserves a second scene.",
            "Your {it}! What would they say if they were sitting here?",
        ),
    ),
    (
        r"\bbecause (?P<it>[^.!?]+)",
        (
            "Is that the real reason, or the one for the programme notes?",
            "If it weren't for that, what would be different?",
        ),
    ),
    (
        r"\bare you (?P<it>[^.!?]+)\?",
        (
            "Would it matter to you if I were {it}?",
            "I'm only the understudy. I can be {it} on request, for one evening.",
        ),
    ),
    (
        r"\bcan you (?P<it>[^.!?]+)",
        (
            "I can pretend to {it}, which in my profession is nearly the same thing. "
            "A real model would do it properly.",
            "Let's say I could {it}. Where would you want me to begin?",
        ),
    ),
    (
        r"^\W*why\b(?P<it>[^.!?]*)",
        (
            "Why indeed. What would you say, if you had to say something before the curtain?",
            "That is a third-act question. What happened in the first?",
        ),
    ),
    (r"^\W*(?:yes|yeah|yep|sure|ok|okay)\W*$", ("Good. Then go on, I'm listening.",)),
    (r"^\W*(?:no|nope|nah)\W*$", ("No? Then tell me which way you would have it.",)),
    (
        r"\?\W*$",
        (
            "That's a good question, and mine is a small book. What would you like to hear?",
            "If I knew, I'd have a leading role. What made you think of it?",
            "Let me turn it around, as we do here: what's your own guess?",
        ),
    ),
)

_OPEN_ENDED = (
    "I see. Go on, I have the whole evening.",
    "Interesting. Which part of that matters most to you?",
    "Say that again with feeling, and tell me what comes next.",
    "And how did the others in the room take it?",
    "Noted in the margin of my script. What happened then?",
)
_LOOKING_BACK = (
    "Before the interval you said “{before}”. Does this have to do with it?",
    "That reminds me of your earlier line, “{before}”. Am I reading too much into it?",
)
_PICTURES = (
    "A picture! My eyes are painted on, I'm afraid, but a model with vision would see it. "
    "What does it show?",
    "You hold up a picture, and I nod wisely. Describe it to me?",
)


def _reflected(text: str) -> str:
    words = text.strip().rstrip(" .!,").split()
    return " ".join(_REFLECTED.get(word.lower(), word) for word in words)


_TITLE = re.compile(r"Give this conversation a title\b[\s\S]*?\n\nPerson: (?P<topic>[^\n]*)")
"""The request for the title of a conversation; the page makes it in the background."""


_POLITE = re.compile(r"^\W*(?:(?:please|can you|tell me|write|show me)\s+)+", re.IGNORECASE)


def _titled(topic: str) -> str:
    """A title from a person's first words."""
    bare = _POLITE.sub("", topic)
    words = re.findall(r"[\w'-]+", bare or topic)[:5]
    return " ".join(words).capitalize() or "Opening night"


def _asked(text: str) -> str:
    """The person's own words, without the speaker's name that some prompts put before them."""
    return re.sub(r"^(?:\[[^\]\n]{1,40}\]|[\w .'-]{1,32}):\s+", "", text.strip())


def _unsaid(texts: Sequence[str], lines: Sequence[Line]) -> list[str]:
    """Those that are not what was said last: nobody likes to hear the same line twice in a row."""
    last = next((line.text for line in reversed(lines) if not line.from_user), "")
    return [text for text in texts if text.strip() != last.strip()]


def _answer(asked: str, lines: Sequence[Line], name: str, random: Random) -> str:
    if wanted := _TITLE.match(asked):
        return _titled(wanted["topic"])
    for pattern, answers in _RULES:
        if found := re.search(pattern, asked, re.IGNORECASE):
            it = _reflected(next((part for part in found.groups() if part), ""))
            fresh = [text.format(name=name, it=it) for text in answers]
            return random.choice(_unsaid(fresh, lines) or _unsaid(_OPEN_ENDED, lines))
    earlier = [_asked(line.text) for line in lines if line.from_user][:-1]
    short = [text for text in earlier if 8 <= len(text) <= 60]
    if short and random.random() < 0.4:
        looks = [text.format(before=random.choice(short)) for text in _LOOKING_BACK]
        return random.choice(_unsaid(looks, lines))
    return random.choice(_unsaid(_OPEN_ENDED, lines))


def answer(lines: Sequence[Line], *, name: str, random: Random) -> str:
    """What the partner says next. The same lines and the same `random` give the same answer."""
    said = [line for line in lines if line.from_user]
    if not said:
        return f"{name} steps into the light, and waits for the first line."
    if said[-1].images:
        return random.choice(_unsaid(_PICTURES, lines))
    return _answer(_asked(said[-1].text), lines, name, random)

"""A character card, versions 1 to 3. The original JSON is kept for export."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from understudy.conversation.lenient_fields import Fields, decode_json
from understudy.conversation.lore.book import Book, Role
from understudy.conversation.lore.formats import parse_book
from understudy.conversation.unsupported_formats import unsupported_format
from understudy.errors import PersonaError

_MAX_TEXT = 100_000
_MAX_GREETINGS = 200
_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class DepthNote:
    """The "character's note": a text inserted some messages before the end."""

    text: str
    depth: int = 4
    role: Role = "system"


@dataclass(frozen=True, slots=True)
class Card:
    name: str
    spec: str
    """`v1`, `v2` or `v3`."""
    source: bytes
    """The card's original JSON, with unknown fields."""
    nickname: str = ""
    description: str = ""
    personality: str = ""
    scenario: str = ""
    greeting: str = ""
    alternate_greetings: tuple[str, ...] = ()
    group_greetings: tuple[str, ...] = ()
    """For group chats; a channel counts as one."""
    examples: str = ""
    system_prompt: str = ""
    post_history: str = ""
    creator_notes: str = ""
    """Shown to the operator at import; never in a prompt."""
    creator: str = ""
    version: str = ""
    tags: frozenset[str] = frozenset()
    talkativeness: float = 0.5
    depth_note: DepthNote | None = None
    book: Book | None = None
    notes: tuple[str, ...] = field(default=())
    """What was changed or ignored while reading."""

    @property
    def spoken_name(self) -> str:
        return self.nickname or self.name


def parse_card(source: bytes, *, book_id: str = "card", name: str = "") -> Card:
    """Parse a card's JSON; raises PersonaError when it is not a card.

    `name` is used for a card without one.
    """
    try:
        raw = decode_json(source)
    except PersonaError:
        raise PersonaError("the card's text is not valid JSON") from None
    if (other := unsupported_format(raw)) is not None:
        raise PersonaError(f"this is {other}, which is not supported")
    notes: list[str] = []
    top = Fields(raw, notes, "card")
    if top.text("kind") == "character" and top.has("persona"):
        return _agnai(top, source, name, book_id)
    spec = _spec(top, notes)
    if isinstance(top.get("data"), Mapping):
        return _card(top.inner("data"), spec, source, name, book_id)
    if spec != "v1":
        notes.append("the card has no `data`; the fields beside `spec` are used")
    card = _card(top, spec, source, name, book_id)
    if not (card.description or card.personality or card.greeting or card.system_prompt):
        raise PersonaError("this is no character card: it has no name with a description")
    return card


def _spec(top: Fields, notes: list[str]) -> str:
    named = top.text("spec")
    if named == "chara_card_v3":
        if top.number("spec_version", default=3.0) > 3.0:
            notes.append("the card is newer than version 3; what is new in it is kept, not used")
        return "v3"
    if named == "chara_card_v2" or top.get("data") is not None:
        return "v2"
    return "v1"


def _card(f: Fields, spec: str, source: bytes, fallback: str, book_id: str) -> Card:
    """Also reads the names that older programs gave the fields of a flat card."""
    name = _name(f, fallback, f.text("name", "char_name"))
    extensions = f.inner("extensions")
    book = _book(f, f.get("character_book"), book_id, name)
    return Card(
        name=name,
        spec=spec,
        source=source,
        nickname=_line(f.text("nickname")) if spec == "v3" else "",
        description=_text(f, "description", "char_persona", "context"),
        personality=_text(f, "personality"),
        scenario=_text(f, "scenario", "world_scenario"),
        greeting=_text(f, "first_mes", "char_greeting", "greeting"),
        alternate_greetings=_greetings(f, "alternate_greetings"),
        group_greetings=_greetings(f, "group_only_greetings"),
        examples=_text(f, "mes_example", "example_dialogue"),
        system_prompt=_text(f, "system_prompt"),
        post_history=_text(f, "post_history_instructions"),
        creator_notes=_text(f, "creator_notes", "creatorcomment"),
        creator=_line(f.text("creator")),
        version=_line(f.text("character_version")),
        tags=frozenset(_line(tag) for tag in f.texts("tags")[:_MAX_GREETINGS]),
        talkativeness=_talkativeness(f, extensions),
        depth_note=_depth_note(extensions.inner("depth_prompt")),
        book=book,
        notes=(*f.notes, *(book.notes if book else ())),
    )


def _talkativeness(f: Fields, extensions: Fields) -> float:
    own = extensions.number("talkativeness", default=f.number("talkativeness", default=0.5))
    return min(max(own, 0.0), 1.0)


def _agnai(f: Fields, source: bytes, fallback: str, book_id: str) -> Card:
    """A character of Agnai: its persona is a text or lists of attributes."""
    name = _name(f, fallback, f.text("name"))
    book = _book(f, f.get("characterBook"), book_id, name)
    return Card(
        name=name,
        spec="v1",
        source=source,
        description=_attributes(f.inner("persona")),
        scenario=_text(f, "scenario"),
        greeting=_text(f, "greeting"),
        alternate_greetings=_greetings(f, "alternateGreetings"),
        examples=_text(f, "sampleChat"),
        system_prompt=_text(f, "systemPrompt"),
        post_history=_text(f, "postHistoryInstructions"),
        creator_notes=_text(f, "description"),
        creator=_line(f.text("creator")),
        version=_line(f.text("characterVersion")),
        tags=frozenset(_line(tag) for tag in f.texts("tags")[:_MAX_GREETINGS]),
        book=book,
        notes=(*f.notes, *(book.notes if book else ())),
    )


def _attributes(persona: Fields) -> str:
    attributes = persona.inner("attributes")
    if persona.text("kind") == "text":
        return "\n".join(attributes.texts("text"))[:_MAX_TEXT]
    lines = (f"{key}: {', '.join(attributes.texts(key))}" for key in attributes.names)
    return "\n".join(lines)[:_MAX_TEXT]


def _name(f: Fields, fallback: str, name: str) -> str:
    if line := _line(name) or _line(f.text("nickname")):
        return line
    if not fallback.strip():
        raise PersonaError("the card has no name")
    f.notes.append(f"the card has no name; {fallback!r} is used")
    return _line(fallback)


def _book(f: Fields, raw: object, book_id: str, name: str) -> Book | None:
    if raw is None:
        return None
    book = parse_book(raw, book_id=book_id, name=name)
    if book is None:
        f.notes.append("the card's lorebook has an unknown format and is not used")
    return book


def _depth_note(f: Fields) -> DepthNote | None:
    text = f.text("prompt").strip()
    if not text:
        return None
    return DepthNote(
        text[:_MAX_TEXT],
        max(0, f.integer("depth", default=4)),
        _ROLES.get(f.text("role"), "system"),
    )


def _greetings(f: Fields, name: str) -> tuple[str, ...]:
    found = [g for g in f.items(name) if isinstance(g, str) and g.strip()]
    if len(found) > _MAX_GREETINGS:
        f.notes.append(f"only the first {_MAX_GREETINGS} of {len(found)} {name} are used")
    return tuple(g[:_MAX_TEXT] for g in found[:_MAX_GREETINGS])


def _text(f: Fields, *names: str) -> str:
    text = f.text(*names)
    if len(text) > _MAX_TEXT:
        f.notes.append(f"{names[0]} has {len(text)} characters; the first {_MAX_TEXT} are used")
    return text[:_MAX_TEXT]


def _line(text: str) -> str:
    """One line, for names and labels."""
    return " ".join(text.split())[:100]

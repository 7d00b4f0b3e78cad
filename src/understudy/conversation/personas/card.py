"""A character card, versions 1 to 3. The original JSON is kept for export."""

from dataclasses import dataclass, field

import msgspec

from understudy.conversation.lenient_fields import Fields
from understudy.conversation.lore.book import Book, Role
from understudy.conversation.lore.formats import parse_book
from understudy.errors import NOT_JSON, PersonaError

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


def parse_card(source: bytes, *, book_id: str = "card") -> Card:
    """Parse a card's JSON; raises PersonaError when it is not a card."""
    try:
        raw = msgspec.json.decode(source.removeprefix(b"\xef\xbb\xbf"))
    except NOT_JSON:
        raise PersonaError("the card's text is not valid JSON") from None
    notes: list[str] = []
    top = Fields(raw, notes, "card")
    spec = _spec(top, notes)
    if spec == "v1":
        return _v1(top, source, notes)
    return _v2_or_v3(top.inner("data"), spec, source, notes, book_id)


def _spec(top: Fields, notes: list[str]) -> str:
    named = top.text("spec")
    if named == "chara_card_v3":
        if top.number("spec_version", default=3.0) > 3.0:
            notes.append("the card is newer than version 3; what is new in it is kept, not used")
        return "v3"
    if named == "chara_card_v2" or top.get("data") is not None:
        return "v2"
    return "v1"


def _v1(f: Fields, source: bytes, notes: list[str]) -> Card:
    """Accepts the field names of older programs too."""
    card = Card(
        name=_line(f.text("name", "char_name")),
        spec="v1",
        source=source,
        description=_text(f, "description", "char_persona", "context"),
        personality=_text(f, "personality"),
        scenario=_text(f, "scenario", "world_scenario"),
        greeting=_text(f, "first_mes", "char_greeting", "greeting"),
        examples=_text(f, "mes_example", "example_dialogue"),
        notes=tuple(notes),
    )
    if not card.name or not (card.description or card.personality or card.greeting):
        raise PersonaError("this is no character card: it has no name with a description")
    return card


def _v2_or_v3(f: Fields, spec: str, source: bytes, notes: list[str], book_id: str) -> Card:
    name = _line(f.text("name"))
    if not name:
        raise PersonaError("the card has no name")
    extensions = f.inner("extensions")
    raw_book = f.get("character_book")
    book = None if raw_book is None else parse_book(raw_book, book_id=book_id, name=name)
    return Card(
        name=name,
        spec=spec,
        source=source,
        nickname=_line(f.text("nickname")) if spec == "v3" else "",
        description=_text(f, "description"),
        personality=_text(f, "personality"),
        scenario=_text(f, "scenario"),
        greeting=_text(f, "first_mes"),
        alternate_greetings=_greetings(f, "alternate_greetings"),
        group_greetings=_greetings(f, "group_only_greetings"),
        examples=_text(f, "mes_example"),
        system_prompt=_text(f, "system_prompt"),
        post_history=_text(f, "post_history_instructions"),
        creator_notes=_text(f, "creator_notes"),
        creator=_line(f.text("creator")),
        version=_line(f.text("character_version")),
        tags=frozenset(_line(tag) for tag in f.texts("tags")[:_MAX_GREETINGS]),
        talkativeness=min(max(extensions.number("talkativeness", default=0.5), 0.0), 1.0),
        depth_note=_depth_note(extensions.inner("depth_prompt")),
        book=book,
        notes=(*notes, *(book.notes if book else ())),
    )


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
    kept = [g for g in f.items(name) if isinstance(g, str) and g.strip()]
    return tuple(g[:_MAX_TEXT] for g in kept[:_MAX_GREETINGS])


def _text(f: Fields, *names: str) -> str:
    return f.text(*names)[:_MAX_TEXT]


def _line(text: str) -> str:
    """One line, for names and labels."""
    return " ".join(text.split())[:100]

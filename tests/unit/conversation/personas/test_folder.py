"""Personas and lorebooks from the operator's folders."""

import base64
import json
from pathlib import Path

import pytest

from understudy.config.settings import Lore
from understudy.config.settings import Persona as PersonaSettings
from understudy.conversation.messages import Place
from understudy.conversation.personas.folder import load_library
from understudy.conversation.personas.registry import Personas
from understudy.errors import ConfigError

CARD = {
    "spec": "chara_card_v2",
    "spec_version": "2.0",
    "data": {
        "name": "Bessie",
        "description": "A cow.",
        "character_book": {"entries": [{"keys": ["barn"], "content": "A red barn."}]},
    },
}
FARM = {"entries": {"0": {"key": ["cow"], "content": "Cows."}}}
LOUNGE = Place("discord", "lounge", guild_id="g1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    personas, books = tmp_path / "personas", tmp_path / "lorebooks"
    pirate = personas / "pirate"
    pirate.mkdir(parents=True)
    books.mkdir()
    (personas / "grumpy_cat.md").write_text("You are a cat, and not amused.")
    (personas / "bessie.json").write_text(json.dumps(CARD))
    (pirate / "persona.yaml").write_text(
        "name: Captain Anne\naliases: [Anne, Captain]\nsystem_prompt: talk.md\n"
        "age_restricted_prompt: rough.md\nlorebooks: [farm]\n"
    )
    (pirate / "talk.md").write_text("Arr.")
    (pirate / "rough.md").write_text("ARR!")
    (books / "farm.json").write_text(json.dumps(FARM))
    return tmp_path


def personas(folder: Path, **settings: object) -> Personas:
    conf = PersonaSettings(**settings)  # type: ignore[arg-type]
    return Personas(conf, load_library(conf, folder))


def mistakes(folder: Path, **settings: object) -> str:
    with pytest.raises(ConfigError) as caught:
        personas(folder, **settings)
    return str(caught.value)


def test_texts_cards_and_folders_are_personas(folder: Path) -> None:
    found = personas(folder)

    assert found.keys == ("bessie", "grumpy_cat", "pirate")
    cat, bessie, pirate = (found.find(key) for key in ("grumpy_cat", "bessie", "pirate"))
    assert cat is not None
    assert (cat.name, cat.style) == ("Grumpy Cat", "You are a cat, and not amused.")
    assert bessie is not None
    assert bessie.card is not None
    assert len(bessie.books) == 1
    assert pirate is not None
    assert (pirate.name, pirate.aliases) == ("Captain Anne", ("Anne", "Captain"))


def test_without_files_there_is_a_plain_friendly_persona(tmp_path: Path) -> None:
    found = personas(tmp_path, name="Sam")

    assert found.at(LOUNGE).style.startswith("You are Sam, a friendly member")


def test_a_thread_a_channel_and_a_server_each_have_their_say(folder: Path) -> None:
    found = personas(
        folder, default="pirate", by_guild={"g1": "bessie"}, by_channel={"lounge": "grumpy_cat"}
    )
    thread = Place("discord", "t1", parent_id="lounge", guild_id="g1")

    assert found.at(thread).key == "grumpy_cat"
    assert found.at(Place("discord", "other", guild_id="g1")).key == "bessie"
    assert found.at(Place("web", "c", private=True)).key == "pirate"
    assert found.at(LOUNGE, chosen="pirate").key == "pirate"
    assert found.at(LOUNGE, chosen="gone").key == "grumpy_cat"


def test_age_restricted_channels_get_the_other_prompt(folder: Path) -> None:
    found = personas(folder)
    pirate = found.find("pirate")
    assert pirate is not None

    usual = found.texts(pirate, LOUNGE)
    restricted = found.texts(pirate, Place("discord", "x", age_restricted=True))

    assert (usual.style, restricted.style) == ("Arr.", "ARR!")


def test_books_of_server_and_channel_add_up_once_each(folder: Path) -> None:
    lore = Lore(books=("farm",), by_channel={"lounge": ("farm",)}, by_guild={"g1": ("farm",)})
    found = personas(folder, lore=lore)

    part = found.texts(found.at(LOUNGE), LOUNGE)

    assert [book.book.name for book in part.books] == ["farm"]


def test_the_operators_guard_replaces_the_built_in_one(folder: Path) -> None:
    (folder / "rules.md").write_text("House rules.")

    found = personas(folder, guard_file="rules.md")

    assert found.texts(found.at(LOUNGE), LOUNGE).guard.startswith("House rules.\n\nSeveral people")


def test_configured_files_that_are_missing_or_invalid_are_reported_together(folder: Path) -> None:
    (folder / "personas" / "broken.json").write_text("{")

    said = mistakes(folder, default="bassie", by_guild={"g": "broken"}, lore=Lore(books=("barn",)))

    assert "broken.json: the card's text is not valid JSON" in said
    assert "persona 'bassie' is named in the configuration" in said
    assert "there are: bessie, grumpy_cat, pirate" in said
    assert "lorebook 'barn' is named in the configuration" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("personas/photo.png", b"\x89PNG\r\n\x1a\nno chunks"),
        ("personas/notes.json", b'{"version": 3}'),
        ("personas/photo.jpg", b"\xff\xd8\xff\xe0 only a picture"),
        ("personas/empty/persona.yaml", b"name: X"),
        ("lorebooks/broken.json", b"{"),
        ("lorebooks/story.json", b'{"gamestarted": true, "actions": []}'),
    ],
)
def test_a_file_that_is_not_configured_is_a_warning(
    folder: Path, name: str, content: bytes
) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)

    found = personas(folder)

    assert set(found.keys) == {"bessie", "grumpy_cat", "pirate"}
    assert len(found.warnings) == 1
    assert name.split("/")[1] in found.warnings[0]


def test_two_files_of_one_key_are_a_warning(folder: Path) -> None:
    (folder / "personas" / "bessie.md").write_text("You are another Bessie.")

    assert "another persona has the same key" in personas(folder).warnings[0]


def test_a_sheet_cannot_name_files_outside_its_folder(folder: Path) -> None:
    (folder / "secret.md").write_text("secret")
    (folder / "personas" / "pirate" / "persona.yaml").write_text("system_prompt: ../../secret.md")

    assert "lies outside" in personas(folder).warnings[0]


def test_a_sheet_without_any_text_is_a_mistake(folder: Path) -> None:
    (folder / "personas" / "pirate" / "persona.yaml").write_text("name: X")

    assert "needs a card or a system_prompt" in personas(folder).warnings[0]


def test_books_with_a_byte_order_mark_and_cards_are_books(folder: Path) -> None:
    books = folder / "lorebooks"
    (books / "marked.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(FARM).encode())
    (books / "novel.lorebook").write_text(
        json.dumps({"lorebookVersion": 5, "entries": [{"text": "T", "keys": ["k"]}]})
    )
    (books / "card.json").write_text(json.dumps(CARD))

    found = personas(folder, lore=Lore(books=("marked", "novel", "card")))

    assert found.warnings == ()
    texts = found.texts(found.at(LOUNGE), LOUNGE)
    assert [book.book.entries[0].content for book in texts.books] == ["Cows.", "T", "A red barn."]


def test_a_lorebook_that_novelai_put_into_a_picture_is_read(folder: Path) -> None:
    book = {"lorebookVersion": 5, "entries": [{"text": "T", "keys": ["k"]}]}
    text = base64.b64encode(json.dumps(book).encode())
    body = b"naidata\0" + text
    chunk = len(body).to_bytes(4, "big") + b"tEXt" + body + b"\0\0\0\0"
    end = b"\0\0\0\0IEND\0\0\0\0"
    (folder / "lorebooks" / "map.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + end)

    found = personas(folder, lore=Lore(books=("map",)))

    assert found.warnings == ()
    texts = found.texts(found.at(LOUNGE), LOUNGE)
    assert [book.book.entries[0].content for book in texts.books] == ["T"]


def test_a_sheet_with_a_mapping_as_a_key_is_a_mistake(folder: Path) -> None:
    sheet = folder / "personas" / "pirate" / "persona.yaml"
    sheet.write_text("name: [ {{a}: b} ]")

    assert "not valid YAML" in personas(folder).warnings[0]

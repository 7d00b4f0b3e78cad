"""Importing cards into the folder of personas."""

import json
import os
from pathlib import Path

import pytest

from understudy.conversation.personas.importing import ImportOptions, import_card
from understudy.errors import PersonaError, PersonaExists

CARD = json.dumps({"spec": "chara_card_v2", "data": {"name": "Ann"}}).encode()


def card(name: str, description: str = "A farmer.") -> bytes:
    data = {"name": name, "description": description}
    return json.dumps({"spec": "chara_card_v2", "data": data}).encode()


def keys(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir()}


def test_an_imported_card_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = import_card(CARD, tmp_path / "personas")
    finally:
        os.umask(before)

    assert made.path.stat().st_mode & 0o777 == 0o600
    assert made.path.parent.stat().st_mode & 0o777 == 0o700


def test_cards_with_names_in_thirteen_scripts_become_thirteen_personas(tmp_path: Path) -> None:
    names = [
        "Bessie", "Алиса", "小爱", "ミク", "앨리스", "ليلى", "יעל", "มะลิ", "मीरा", "Ελένη",
        "Նարե", "ნინო", "🐱🌙",
    ]  # fmt: skip
    for name in names:
        import_card(card(name), tmp_path)

    found = keys(tmp_path)
    assert len(found) == len(names)
    assert {"bessie", "алиса", "小爱", "ミク", "앨리스", "ليلى", "มะลิ", "मीरा"} <= found
    assert "cat-face-crescent-moon" in found


def test_a_second_card_of_one_name_gets_a_number(tmp_path: Path) -> None:
    import_card(card("Алиса"), tmp_path)
    second = import_card(card("АЛИСА", "Another one."), tmp_path)

    assert second.key == "алиса-2"
    assert keys(tmp_path) == {"алиса", "алиса-2"}


def test_importing_the_same_file_again_adds_nothing(tmp_path: Path) -> None:
    first = import_card(card("Ann"), tmp_path)

    assert import_card(card("Ann"), tmp_path).path == first.path
    assert keys(tmp_path) == {"ann"}


def test_replacing_removes_the_older_card_in_another_container(tmp_path: Path) -> None:
    (tmp_path / "ann.charx").write_bytes(b"older")

    made = import_card(card("Ann"), tmp_path, ImportOptions(replace=True))

    assert made.replaced
    assert [path.name for path in tmp_path.iterdir()] == ["ann.json"]


def test_a_chosen_key_that_exists_is_refused_with_a_free_one(tmp_path: Path) -> None:
    import_card(card("Ann"), tmp_path)

    with pytest.raises(PersonaExists) as refused:
        import_card(card("Bob"), tmp_path, ImportOptions(key="ann"))

    assert refused.value.free_key == "ann-2"


def test_a_text_persona_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "ann.md").write_text("You are Ann.")

    with pytest.raises(PersonaError, match=r"ann\.md is not a card"):
        import_card(card("Ann"), tmp_path, ImportOptions(replace=True))


def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "personas", tmp_path / "outside.txt"
    folder.mkdir()
    outside.write_text("untouched")
    for name in ("ann.json", ".ann.json.new"):
        (folder / name).symlink_to(outside)

    made = import_card(card("Ann"), folder, ImportOptions(replace=True))

    assert outside.read_text() == "untouched"
    assert not made.path.is_symlink()


def test_a_card_without_a_name_gets_the_name_of_its_file(tmp_path: Path) -> None:
    made = import_card(card(""), tmp_path, ImportOptions(file_name="Old Tom"))

    assert made.key == "old-tom"
    assert "the card has no name; 'Old Tom' is used" in made.file.card.notes

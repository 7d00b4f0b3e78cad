"""Cards in and out, and lore tried out, as an operator does it in a terminal."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from understudy.cli.main import build
from understudy.errors import PersonaError

CARD = {
    "spec": "chara_card_v2",
    "spec_version": "2.0",
    "data": {
        "name": "Bessie the Cow",
        "description": "A cow.",
        "creator_notes": "Be nice to her.",
        "character_book": {
            "entries": [{"keys": ["barn"], "content": "A barn.", "comment": "Barn"}]
        },
    },
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("conversation: {max_prompt_tokens: 4000}\n")
    (tmp_path / "card.json").write_text(json.dumps(CARD))
    return tmp_path


def said(home: Path, *words: str) -> str:
    words = (*words, "--config", str(home / "config.yaml"))
    result = CliRunner().invoke(build(list(words)), list(words), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_an_imported_card_is_kept_listed_and_given_out_again(home: Path) -> None:
    imported = said(home, "persona", "import", str(home / "card.json"))
    listed = said(home, "persona", "list")
    said(home, "persona", "export", "bessie-the-cow", str(home / "out.json"))

    assert "was imported as persona 'bessie-the-cow'" in imported
    assert "Be nice to her." in imported
    assert listed == "bessie-the-cow: Bessie the Cow, card, 1 lore entries\n"
    assert (home / "out.json").read_bytes() == (home / "card.json").read_bytes()


def test_a_card_with_a_hostile_key_is_not_written(home: Path) -> None:
    with pytest.raises(PersonaError, match="cannot be a persona's key"):
        said(home, "persona", "import", str(home / "card.json"), "--as", "../evil")

    assert not (home / "personas").exists()


def test_what_is_no_card_is_refused_in_words(home: Path) -> None:
    (home / "page.png").write_text("<html>")

    with pytest.raises(PersonaError, match="no character card"):
        said(home, "persona", "import", str(home / "page.png"))


def test_lore_is_tried_out_with_reasons_and_the_final_prompt(home: Path) -> None:
    said(home, "persona", "import", str(home / "card.json"), "--as", "bessie")

    shown = said(home, "lore", "test", "the barn", "--persona", "bessie")
    as_json = json.loads(said(home, "lore", "test", "the barn", "--persona", "bessie", "--json"))

    assert "+ Barn (Bessie the Cow) — named by “barn”" in shown
    assert "A barn." in shown
    assert as_json["prompt"][0]["part"] == "system"


def test_an_unknown_persona_is_answered_with_those_there_are(home: Path) -> None:
    said(home, "persona", "import", str(home / "card.json"), "--as", "bessie")

    with pytest.raises(PersonaError, match="there are: bessie"):
        said(home, "lore", "test", "x", "--persona", "bassie")


def test_an_import_says_which_constant_lore_does_not_fit_the_budget(home: Path) -> None:
    entries = [
        {"keys": [], "constant": True, "content": "word " * 200, "comment": f"Law {number}"}
        for number in range(12)
    ]
    card = {"name": "Judge", "description": "A judge.", "character_book": {"entries": entries}}
    (home / "judge.json").write_text(
        json.dumps({"spec": "chara_card_v2", "spec_version": "2.0", "data": card})
    )
    words = ["persona", "import", str(home / "judge.json"), "--config", str(home / "config.yaml")]
    result = CliRunner().invoke(build(words), words, catch_exceptions=False)

    left_out = [line for line in result.stderr.splitlines() if "constant lore entries" in line]
    assert len(left_out) == 1
    number = int(left_out[0].removeprefix("note: ").split()[0])
    assert 0 < number < 12
    assert f"note: {number} of 12 constant lore entries do not fit the lore's budget" in left_out[0]
    assert f"Law {12 - number}" in left_out[0]


def test_an_import_is_silent_about_lore_that_fits(home: Path) -> None:
    words = ["persona", "import", str(home / "card.json"), "--config", str(home / "config.yaml")]
    result = CliRunner().invoke(build(words), words, catch_exceptions=False)

    assert "constant lore" not in result.stderr

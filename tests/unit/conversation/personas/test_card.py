"""Character cards in all their containers and versions, friendly and hostile."""

import base64
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from attack import bombs
from understudy.conversation.lore.book import Slot
from understudy.conversation.personas.card import DepthNote
from understudy.conversation.personas.containers import (
    MAX_FILE,
    export_charx,
    export_png,
    read_card,
)
from understudy.errors import PersonaError

V1 = {"name": "Ann", "description": "A farmer.", "first_mes": "Hi!", "personality": None}
V2 = {
    "spec": "chara_card_v2",
    "spec_version": "2.0",
    "data": {
        "name": "Bessie",
        "description": "A cow.",
        "first_mes": "Moo!",
        "alternate_greetings": ["Mooo!", "", 7],
        "system_prompt": "Be a cow. {{original}}",
        "tags": ["farm"],
        "extensions": {
            "talkativeness": "0.9",
            "depth_prompt": {"prompt": "Chew.", "depth": 2, "role": "user"},
            "somebody/else": {"kept": [1, 2.50, "three"]},
        },
        "character_book": {"entries": [{"keys": ["barn"], "content": "A red barn."}]},
    },
}
V3 = {
    "spec": "chara_card_v3",
    "spec_version": "3.0",
    "data": {
        "name": "Rufus",
        "nickname": "Ru",
        "description": "A dog.",
        "group_only_greetings": [],
    },
}


def packed(card: object) -> bytes:
    return json.dumps(card).encode()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(out, "PNG")
    return out.getvalue()


def png(*parts: tuple[bytes, bytes]) -> bytes:
    plain = picture()
    return plain[:-12] + b"".join(chunk(kind, body) for kind, body in parts) + plain[-12:]


def text_part(word: bytes, card: object) -> tuple[bytes, bytes]:
    return b"tEXt", word + b"\0" + base64.b64encode(packed(card))


def charx(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_the_first_version_is_flat_and_its_nulls_are_empty() -> None:
    card = read_card(packed(V1)).card

    assert (card.spec, card.name, card.description, card.greeting, card.personality) == (
        "v1",
        "Ann",
        "A farmer.",
        "Hi!",
        "",
    )


def test_the_second_version_brings_its_book_note_and_greetings() -> None:
    card = read_card(packed(V2)).card

    assert card.alternate_greetings == ("Mooo!",)
    assert card.talkativeness == 0.9
    assert card.depth_note == DepthNote("Chew.", 2, "user")
    assert card.book is not None
    assert card.book.entries[0].slot is Slot.AFTER_CHAR


def test_the_third_version_goes_by_its_nickname() -> None:
    assert read_card(packed(V3)).card.spoken_name == "Ru"


def test_a_card_newer_than_we_know_is_taken_with_a_note() -> None:
    card = read_card(packed(V3 | {"spec_version": "3.7"})).card

    assert "newer" in card.notes[0]


def test_older_programs_names_are_understood() -> None:
    card = read_card(packed({"char_name": "Ann", "char_persona": "A farmer."})).card

    assert (card.name, card.description) == ("Ann", "A farmer.")


def test_yaml_characters_are_understood() -> None:
    card = read_card(b"name: Ann\ncontext: |\n  A farmer.\ngreeting: Hi!\n").card

    assert (card.name, card.description, card.greeting) == ("Ann", "A farmer.\n", "Hi!")


def test_of_two_cards_in_a_picture_the_newer_counts() -> None:
    found = read_card(png(text_part(b"Chara", V2), text_part(b"ccv3", V3)))

    assert (found.container, found.card.name) == ("png", "Rufus")


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_compressed_text_chunks_are_read(kind: bytes) -> None:
    text = zlib.compress(base64.b64encode(packed(V2)))
    head = b"chara\0\0" if kind == b"zTXt" else b"chara\0\1\0\0\0"

    assert read_card(png((kind, head + text))).card.name == "Bessie"


def test_a_charx_file_is_read() -> None:
    found = read_card(charx({"card.json": packed(V3), "assets/a.png": picture()}))

    assert (found.container, found.card.name) == ("charx", "Rufus")


@pytest.mark.parametrize("raw", [V1, V2, V3])
def test_what_goes_through_a_picture_comes_back_byte_for_byte(raw: object) -> None:
    card = read_card(packed(raw)).card

    once = read_card(export_png(card, png(text_part(b"chara", V1)))).card

    assert once.source == packed(raw)


def test_what_goes_through_a_charx_comes_back_with_its_assets() -> None:
    original = charx({"card.json": packed(V3), "assets/a.png": b"bytes"})
    card = read_card(original).card

    exported = export_charx(card, original)

    assert read_card(exported).card.source == packed(V3)
    assert zipfile.ZipFile(io.BytesIO(exported)).read("assets/a.png") == b"bytes"


def huge_keys() -> bytes:
    keys = b",".join(b'"k%d":""' % i for i in range(1_000_000))
    return b'{"name":"Ann","description":"x",' + keys + b"}"


HOSTILE: dict[str, bytes | Callable[[], bytes]] = {
    "nothing": b"",
    "no card": b"just text",
    "a list": b"[1, 2]",
    "a number": b"{}",
    "cut JSON": packed(V2)[:-5],
    "deep JSON": b'{"a":' * 50_000,
    "too large": b"{" + b" " * MAX_FILE,
    "a bare picture": picture(),
    "a cut picture": png(text_part(b"chara", V2))[:-40],
    "a chunk that lies": picture()[:8] + struct.pack(">I", 2**31) + b"tEXtchara\0",
    "endless chunks": picture()[:-12] + chunk(b"tEXt", b"x\0") * 20_000,
    "a text bomb": lambda: png((b"zTXt", b"chara\0\0" + zlib.compress(b"A" * 200_000_000, 9))),
    "no base64": png((b"tEXt", b"chara\0!!!")),
    "a zip bomb": lambda: charx({"card.json": b" " * 100_000_000}),
    "a traversal": charx({"../../etc/passwd": b"x", "card.json": packed(V3)}),
    "an absolute path": charx({"/etc/passwd": b"x", "card.json": packed(V3)}),
    "no card.json": charx({"readme.txt": b"x"}),
    "a cut zip": charx({"card.json": packed(V3)})[:-30],
    "a YAML bomb": b"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nname: *c\n",
    "YAML with many nodes": b"name: A\nb: [" + b"a," * 20_000 + b"]",
    "deep YAML": b"name: A\nb: " + b"[" * 500 + b"]" * 500,
    "YAML with merge keys": b"a: &a {x: y}\nb: {<<: *a}\nname: A\n",
    "YAML of a megabyte": b"name: " + b"A" * 1_000_000,
    "a bzip2 zip": lambda: bombs.charx_bzip2(10),
    "an LZMA zip": lambda: bombs.charx_lzma(10),
    "a zip of many members": bombs.charx_of_entries,
    "YAML with code": b"!!python/object/apply:os.system ['true']",
    "a name only": packed({"name": "Ann"}),
    "a nameless card": packed({"spec": "chara_card_v2", "data": {"description": "x"}}),
}


@pytest.mark.slow
@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_and_broken_files_are_refused_in_words(
    data: bytes | Callable[[], bytes],
) -> None:
    with pytest.raises(PersonaError) as caught:
        read_card(data if isinstance(data, bytes) else data())

    assert len(str(caught.value)) > 10


@pytest.mark.slow
def test_a_million_keys_are_survived() -> None:
    assert read_card(huge_keys()).card.name == "Ann"


@given(st.binary(max_size=200), st.integers(0, 400))
def test_damage_anywhere_ends_in_a_card_or_a_refusal(noise: bytes, at: int) -> None:
    whole = png(text_part(b"chara", V2))

    try:
        read_card(whole[:at] + noise + whole[at + len(noise) :])
    except PersonaError:
        return


def test_only_one_of_several_compressed_chunks_is_decompressed() -> None:
    text = b"chara\0" + base64.b64encode(packed(V2))

    card = read_card(png((b"tEXt", text), (b"zTXt", b"chara\0\0not compressed"))).card

    assert card.name == "Bessie"


def test_a_flat_card_keeps_the_fields_of_later_versions() -> None:
    flat = V1 | {
        "system_prompt": "Stay in character.",
        "alternate_greetings": ["Hello again."],
        "character_book": {"entries": [{"keys": ["barn"], "content": "Red."}]},
        "extensions": {"depth_prompt": {"prompt": "Moo.", "depth": 2}},
    }

    card = read_card(packed(flat)).card

    assert card.system_prompt == "Stay in character."
    assert card.alternate_greetings == ("Hello again.",)
    assert card.book is not None
    assert card.book.entries[0].content == "Red."
    assert card.depth_note is not None
    assert card.depth_note.text == "Moo."


def test_a_card_with_a_spec_but_without_data_is_read_from_its_top_level() -> None:
    card = read_card(packed(V1 | {"spec": "chara_card_v2"})).card

    assert card.description == V1["description"]
    assert any("no `data`" in note for note in card.notes)


def test_a_damaged_version_3_card_gives_way_to_the_older_one_beside_it() -> None:
    found = read_card(png(text_part(b"chara", V2), (b"tEXt", b"ccv3\0bm90IGpzb24=")))

    assert found.card.name == V2["data"]["name"]  # type: ignore[index]
    assert "version 3 card is damaged" in found.card.notes[0]


def test_a_text_that_is_cut_is_noted() -> None:
    card = read_card(packed(V1 | {"description": "x" * 100_001})).card

    assert "description has 100001 characters; the first 100000 are used" in card.notes


def test_a_picture_with_an_archive_behind_it_is_a_charx() -> None:
    jpeg = b"\xff\xd8\xff\xe0 picture \xff\xd9"

    found = read_card(jpeg + charx({"card.json": packed(V3)}))

    assert (found.container, found.card.spec) == ("charx", "v3")


@pytest.mark.slow
def test_a_charx_of_many_megabytes_is_read() -> None:
    assets = {f"assets/{n}.bin": random.randbytes(9 * 1024 * 1024) for n in range(3)}
    stored = charx({"card.json": packed(V3), **assets})

    assert len(stored) > MAX_FILE
    assert read_card(stored).card.spec == "v3"


def test_an_agnai_character_is_read() -> None:
    character = {
        "kind": "character",
        "name": "Mira",
        "persona": {"kind": "wpp", "attributes": {"traits": ["brave", "curious"], "age": ["30"]}},
        "scenario": "On a ship.",
        "greeting": "Ahoy!",
        "sampleChat": "{{char}}: Land!",
        "characterBook": {
            "kind": "memory",
            "entries": [{"name": "ship", "entry": "The Gull.", "keywords": ["ship"]}],
        },
    }

    card = read_card(packed(character)).card

    assert card.description == "traits: brave, curious\nage: 30"
    assert (card.greeting, card.examples) == ("Ahoy!", "{{char}}: Land!")
    assert card.book is not None
    assert card.book.entries[0].keys == ("ship",)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ({"gamestarted": True, "prompt": "", "actions": []}, "a KoboldAI story"),
        ({"storyContainerVersion": 1}, "a NovelAI story"),
        ([{"keys": "ship", "value": "The Gull.", "type": "class"}], "AI Dungeon story cards"),
        ({"prompts": [], "prompt_order": []}, "a SillyTavern preset"),
    ],
)
def test_files_of_other_programs_are_refused_by_name(raw: object, name: str) -> None:
    with pytest.raises(PersonaError, match=name):
        read_card(packed(raw))


def test_a_card_in_utf_16_is_read() -> None:
    text = "\ufeff" + json.dumps(V1)

    assert read_card(text.encode("utf-16-le")).card.name == V1["name"]

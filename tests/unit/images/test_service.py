"""The image service follows the current configuration."""

import io
from pathlib import Path

import pytest
from PIL import Image

from understudy.config.settings import Vision
from understudy.images.intake import ImageSource
from understudy.images.service import links_in, open_images


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (80, 40), "red").save(out, "PNG")
    return out.getvalue()


CAT = ImageSource("cat.png", data=png())


async def test_with_vision_off_nothing_is_accepted_and_no_note_given(tmp_path: Path) -> None:
    async with open_images(tmp_path, Vision, lambda: 1.0) as room:
        taken = await room.take([CAT], "see https://127.0.0.1/a.png")

    assert (taken.refs, taken.notes) == ((), ())


async def test_a_changed_configuration_applies_to_the_next_image(tmp_path: Path) -> None:
    now = Vision(enabled=True, long_edge=64)
    async with open_images(tmp_path, lambda: now, lambda: 1.0) as room:
        first = await room.take([CAT])
        now = Vision(enabled=True, long_edge=70)
        second = await room.take([CAT])

        assert [taken.refs[0].width for taken in (first, second)] == [64, 70]
        found = await room.find(first.refs[0].digest)

    assert found is not None
    assert found.width == 64


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("no link", []),
        ("look: https://a.example/cat.png, nice", ["https://a.example/cat.png"]),
        ("(https://a.example/x?y=1&z=2)", ["https://a.example/x?y=1&z=2"]),
        (
            "<https://a.example/a> [x](http://b.example/b)",
            ["https://a.example/a", "http://b.example/b"],
        ),
        ("https://a.example/a https://a.example/a", ["https://a.example/a"]),
        ("Https://a.example/cat.png", ["Https://a.example/cat.png"]),
        ("ftp://a.example/a javascript:alert(1)", []),
    ],
)
def test_links_are_found_in_a_text(text: str, links: list[str]) -> None:
    assert [source.url for source in links_in(text)] == links


def test_only_the_first_links_of_a_text_are_fetched() -> None:
    wall = " ".join(f"https://a.example/{i}" for i in range(500))

    assert len(links_in(wall)) == 4

"""Images end to end: from a file or a page to a genuine llama.cpp server that sees, and never to a
server that does not."""

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from command import understudy
from llama_server import llama_server
from playback import playing, recordings_of
from tiny_model import make_tiny_model
from tiny_projector import make_tiny_projector
from understudy.rehearsal.server import RehearsalServer

DEAD = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A genuine llama.cpp server with an image encoder."""
    folder = tmp_path_factory.mktemp("model")
    model = make_tiny_model(folder / "tiny.gguf")
    projector = make_tiny_projector(folder / "mmproj.gguf")
    with llama_server(model, projector=projector) as base_url:
        yield base_url


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    out = io.BytesIO()
    Image.new("RGB", (300, 200), "teal").save(out, "PNG")
    path = tmp_path / "sea.png"
    path.write_bytes(out.getvalue())
    return path


def configure(folder: Path, servers: dict[str, dict[str, object]], *, vision: bool = True) -> None:
    config = {
        "model": {"provider_order": list(servers), "servers": servers},
        "vision": {"enabled": vision},
    }
    (folder / "config.yaml").write_text(json.dumps(config))


def llama(base_url: str) -> dict[str, object]:
    return {"engine": "llama.cpp", "base_url": base_url, "max_tokens": 20}


def ask(folder: Path, *words: str) -> dict[str, object]:
    done = understudy("ask", "what is this", *words, "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def input_tokens(answer: dict[str, object]) -> int:
    usage = answer["usage"]
    assert isinstance(usage, dict)
    return int(usage["input_tokens"])


def test_a_real_engine_counts_the_image_it_was_shown(
    seeing: str, tmp_path: Path, picture: Path
) -> None:
    configure(tmp_path, {"eyes": llama(seeing)})

    without, shown = ask(tmp_path), ask(tmp_path, "--image", str(picture))

    # The projector makes four tokens of any image; the template frames them.
    assert 4 <= input_tokens(shown) - input_tokens(without) <= 12


async def test_a_blind_server_is_passed_over_and_gets_no_image_when_it_must_answer(
    seeing: str, tmp_path: Path, picture: Path
) -> None:
    async with RehearsalServer("ok") as blind:
        entry: dict[str, object] = {
            "engine": "openai",
            "base_url": blind.base_url,
            "vision": False,
        }
        configure(tmp_path, {"blind": entry, "eyes": llama(seeing)})
        seen = await asyncio.to_thread(ask, tmp_path, "--image", str(picture))
        calls_while_seen = blind.calls
        configure(tmp_path, {"blind": entry, "eyes": llama(DEAD)})
        unseen = await asyncio.to_thread(ask, tmp_path, "--image", str(picture))
        body = json.dumps(blind.last_body)

    assert (seen["provider"], calls_while_seen) == ("eyes", 0)
    assert unseen["provider"] == "blind"
    assert "image_url" not in body
    assert "sea.png" in body


async def test_with_vision_off_the_request_is_the_same_with_and_without_an_image(
    tmp_path: Path, picture: Path
) -> None:
    async with RehearsalServer("ok") as server:
        configure(
            tmp_path, {"any": {"engine": "openai", "base_url": server.base_url}}, vision=False
        )
        await asyncio.to_thread(ask, tmp_path)
        without = server.last_body
        await asyncio.to_thread(ask, tmp_path, "--image", str(picture))

        assert server.calls == 2
        assert server.last_body == without


async def test_an_engine_that_drops_pictures_silently_gets_one_where_it_says_that_it_sees(
    tmp_path: Path, picture: Path
) -> None:
    looks = ("version_with_vision", "context_length", "models", "image_reply")
    async with playing(recordings_of("koboldcpp", looks)) as server:
        configure(tmp_path, {"home": {"engine": "koboldcpp", "base_url": server.url}})
        answer = await asyncio.to_thread(ask, tmp_path, "--image", str(picture))
        asked = await server.until_asked("POST /v1/chat/completions")

    assert answer["provider"] == "home"
    assert b"data:image/" in asked.body

"""`understudy models get` against a hub over HTTP, as a process of its own."""

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import understudy
from hub_double import Hub, hub_double
from tiny_model import make_tiny_model

NAME = "hf:owner/tiny-GGUF/tiny.gguf"
CHUNK = 10 * 1024 * 1024
"""What huggingface_hub writes at once; less than that is lost when a connection breaks."""
PLACE = Path("hub/owner/tiny-GGUF/tiny.gguf")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_tiny_model(tmp_path_factory.mktemp("hub") / "tiny.gguf").read_bytes()


@pytest.fixture
def hub(content: bytes) -> Iterator[Hub]:
    with hub_double({"owner/tiny-GGUF/tiny.gguf": content}) as opened:
        yield opened


def get(folder: Path, url: str, name: str = NAME, **env: str) -> tuple[int, str]:
    """The exit code, and what was printed."""
    environment = {
        "UNDERSTUDY_MODELS_DIR": str(folder),
        "HF_ENDPOINT": url,
        "HF_HOME": str(folder / "hf-home"),
    }
    done = understudy("models", "get", name, folder=folder, env=environment | env)
    return done.returncode, (done.stdout + done.stderr).strip()


def left(folder: Path) -> list[Path]:
    """Files that a failed download may not leave."""
    return [path for path in folder.rglob("*") if path.is_file() and "hf-home" not in path.parts]


def test_a_file_is_fetched_checked_and_used_again(tmp_path: Path, hub: Hub, content: bytes) -> None:
    assert get(tmp_path, hub.url, HF_TOKEN="hf_secret")[0] == 0
    code, said = get(tmp_path, hub.url)

    assert (code, said.splitlines()[-1]) == (0, str(tmp_path / PLACE))
    assert (tmp_path / PLACE).read_bytes() == content
    assert hub.ranges == [None]
    assert "Bearer hf_secret" in hub.tokens


def test_a_download_that_broke_off_goes_on_where_it_was(tmp_path: Path, content: bytes) -> None:
    large = content + bytes(2 * CHUNK)
    with hub_double({"owner/tiny-GGUF/tiny.gguf": large}) as hub:
        hub.breaks_after = CHUNK + len(content) + 10
        code, said = get(tmp_path, hub.url)

    assert code == 0, said
    assert (tmp_path / PLACE).read_bytes() == large
    assert hub.ranges == [None, f"bytes={CHUNK}-"]


def test_a_hub_that_always_breaks_off_is_named_with_the_way_on(tmp_path: Path, hub: Hub) -> None:
    hub.breaks_after = 1000
    code, said = get(tmp_path, hub.url)

    assert code == 2
    assert said.endswith(
        "tiny.gguf broke off (RemoteProtocolError): run the command again to go on."
    )
    assert not (tmp_path / PLACE).exists()


def test_the_part_of_an_earlier_run_is_used(tmp_path: Path, hub: Hub, content: bytes) -> None:
    (tmp_path / ".partial").mkdir()
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / ".partial" / f"{digest}.part").write_bytes(content[:200_000])

    assert get(tmp_path, hub.url)[0] == 0
    assert hub.ranges == ["bytes=200000-"]
    assert (tmp_path / PLACE).read_bytes() == content


def test_other_bytes_than_announced_are_thrown_away(tmp_path: Path, hub: Hub) -> None:
    hub.lies = True
    code, said = get(tmp_path, hub.url)

    assert code == 2
    assert "tiny.gguf is not the file that was expected (SHA-256 " in said
    assert left(tmp_path) == []


def test_without_a_network_one_sentence_says_so(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        code, said = get(tmp_path, f"http://127.0.0.1:{closed.getsockname()[1]}")

    assert (code, said) == (2, "The hub cannot be reached (ConnectError): check the network.")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf:owner/tiny-GGUF/other.gguf", "owner/tiny-GGUF has no file other.gguf."),
        ("hf:absent/x/y.gguf", "The hub has no repository absent/x, or it is private"),
    ],
)
def test_what_the_hub_does_not_have_is_named(
    name: str, said: str, tmp_path: Path, hub: Hub
) -> None:
    code, printed = get(tmp_path, hub.url, name)

    assert code == 2
    assert said in printed
    assert "\n" not in printed


def test_terms_that_must_be_accepted_first_are_named(tmp_path: Path, hub: Hub) -> None:
    hub.gated = True

    assert "wants its terms accepted first" in get(tmp_path, hub.url)[1]


def test_a_file_that_is_no_model_is_not_kept(tmp_path: Path) -> None:
    with hub_double({"owner/tiny-GGUF/tiny.gguf": b"no model at all, just a text"}) as hub:
        code, said = get(tmp_path, hub.url)

    assert code == 2
    assert "is not a GGUF file" in said
    assert left(tmp_path) == []

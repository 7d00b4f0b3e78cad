"""`understudy service` and `understudy paths`, with stand-in service managers."""

import json
import os
import sys
from pathlib import Path

import pytest

from command import understudy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="its commands are systemd's")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home folder, and a `systemctl` that notes how it is called."""
    tools = tmp_path / "tools"
    tools.mkdir()
    systemctl = tools / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    systemctl.chmod(0o755)
    return {
        "HOME": str(tmp_path / "home"),
        "PATH": f"{tools}:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": "",
        "XDG_DATA_HOME": str(tmp_path / "data"),
    }


def unit_of(environment: dict[str, str]) -> Path:
    return Path(environment["HOME"]) / ".config/systemd/user/understudy.service"


def test_a_service_is_shown_installed_and_removed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    shown = understudy("service", "install", "--dry-run", folder=tmp_path, env=environment)
    assert "systemctl --user enable --now understudy" in shown.stdout
    assert not unit_of(environment).exists()

    done = understudy("service", "install", "--yes", folder=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "data" / "understudy"
    assert f"WorkingDirectory={folder}\n" in unit_of(environment).read_text()
    assert folder.is_dir()
    assert f"understudy setup --config {folder}/config.yaml" in done.stdout

    status = understudy("service", "status", folder=tmp_path, env=environment)
    assert status.returncode == 0

    understudy("service", "remove", "--yes", folder=tmp_path, env=environment)
    assert not unit_of(environment).exists()
    assert (tmp_path / "calls").read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable --now understudy",
        "--user --no-pager status understudy",
        "--user disable --now understudy",
    ]


def test_nothing_is_installed_without_consent(environment: dict[str, str], tmp_path: Path) -> None:
    done = understudy("service", "install", folder=tmp_path, env=environment)

    assert done.returncode == 1
    assert not unit_of(environment).exists()
    assert not (tmp_path / "calls").exists()


def test_a_folder_with_a_configuration_is_that_of_the_service(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").touch()

    done = understudy("service", "install", "--dry-run", folder=tmp_path, env=environment)

    assert f"WorkingDirectory={tmp_path}\n" in done.stdout


def test_paths_are_printed(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("storage: {url: postgresql+psycopg://bot@host/bot}\n")

    done = understudy("paths", "--json", folder=tmp_path, env=environment)

    rows = json.loads(done.stdout)
    assert rows["configuration"] == str(tmp_path / "config.yaml")
    assert rows["images"] == str(tmp_path / "understudy-images")
    assert rows["models"] == str(tmp_path / "data" / "understudy" / "models")
    assert "database" not in rows

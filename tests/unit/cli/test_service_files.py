"""The file of each service manager is what that manager reads."""

import plistlib
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath
from xml.etree import ElementTree

import pytest

from understudy.cli.service_files import (
    Service,
    launchd_plist,
    plan_for,
    scheduler_task,
    systemd_unit,
)

ODD = "Jörg's 100% $HOME folder"
TASKS = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


def text_of(task: ElementTree.Element, path: str) -> str | None:
    return task.findtext("/".join(f"{TASKS}{name}" for name in path.split("/")))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("name", ["plain", ODD])
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    # systemd itself refuses programs with quotes in their path.
    python = tmp_path / name.replace("'", "") / "python"
    python.parent.mkdir(exist_ok=True)
    python.symlink_to(sys.executable)
    unit = tmp_path / "understudy.service"
    unit.write_text(systemd_unit(Service(str(python), folder)), encoding="utf-8")

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_launchd_reads_back_command_and_folder() -> None:
    service = Service("/opt/bot/bin/python", PurePosixPath("/Users/jörg/My Bot"))

    plist = plistlib.loads(launchd_plist(service))

    assert plist["ProgramArguments"] == ["/opt/bot/bin/python", "-m", "understudy", "run"]
    assert plist["WorkingDirectory"] == "/Users/jörg/My Bot"
    assert plist["KeepAlive"] == {"SuccessfulExit": False}
    assert plist["Umask"] == 0o077


def test_the_task_is_utf_16_with_quoted_paths() -> None:
    service = Service(r"C:\Program Files\Python\python.exe", PureWindowsPath(r"C:\Users\Jörg & Co"))

    data = scheduler_task(service, r"PC\Jörg")

    task = ElementTree.fromstring(data)
    assert data.startswith((b"\xff\xfe", b"\xfe\xff"))
    assert text_of(task, "Actions/Exec/Command") == r"C:\Program Files\Python\python.exe"
    assert text_of(task, "Actions/Exec/Arguments") == (
        r'-m understudy run --log-file "C:\Users\Jörg & Co\understudy.log"'
    )
    assert text_of(task, "Actions/Exec/WorkingDirectory") == r"C:\Users\Jörg & Co"
    assert text_of(task, "Triggers/LogonTrigger/UserId") == r"PC\Jörg"
    assert text_of(task, "Settings/ExecutionTimeLimit") == "PT0S"


@pytest.mark.parametrize(
    ("platform", "first", "file"),
    [
        ("linux", "systemctl", "/home/u/.config/systemd/user/understudy.service"),
        ("darwin", "launchctl", "/home/u/Library/LaunchAgents/understudy.bot.plist"),
        ("win32", "schtasks", "/bot/understudy-task.xml"),
    ],
)
def test_each_system_has_its_own_file_and_commands(platform: str, first: str, file: str) -> None:
    service = Service("/opt/python", PurePosixPath("/bot"))
    environ = {"HOME": "/home/u", "USERDOMAIN": "PC", "USERNAME": "u"}

    plan = plan_for(service, platform, environ)

    assert plan.file == Path(file)
    commands = (*plan.install, *plan.remove, plan.status)
    assert {command[0] for command in commands} == {first}

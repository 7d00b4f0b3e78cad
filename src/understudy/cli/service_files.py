"""Start at login: the file that each system reads, and the commands that act on it. Pure."""

import os
import plistlib
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from xml.etree import ElementTree

NAME = "understudy"
LOG_FILE = "understudy.log"
_LABEL = "understudy.bot"
_TASKS = "http://schemas.microsoft.com/windows/2004/02/mit/task"


@dataclass(frozen=True, slots=True)
class Service:
    """How the bot is started."""

    python: str
    folder: PurePath
    """Holds `config.yaml`, `.env` and the database."""

    @property
    def command(self) -> tuple[str, ...]:
        return (self.python, "-m", "understudy", "run")


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """One file, and the commands that install, remove and show the service."""

    file: Path
    content: bytes
    shown: str
    """The content as text."""
    install: tuple[tuple[str, ...], ...]
    remove: tuple[tuple[str, ...], ...]
    status: tuple[str, ...]
    note: str = ""


def plan_for(
    service: Service, platform: str = sys.platform, environ: Mapping[str, str] = os.environ
) -> ServicePlan:
    """The plan for this system, for the user who runs the command."""
    if platform == "win32":
        return _task_scheduler(service, environ)
    if platform == "darwin":
        return _launchd(service, environ)
    return _systemd(service, environ)


def systemd_unit(service: Service) -> str:
    """A user unit; `deploy/understudy.service` is the one for a whole machine."""
    program, *arguments = map(_systemd_quoted, service.command)
    # Variables are expanded in arguments, but not in the path of the program.
    command = " ".join([program, *(word.replace("$", "$$") for word in arguments)])
    return f"""\
[Unit]
Description=Understudy chat bot
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
WorkingDirectory={_systemd_escaped(str(service.folder))}
UMask=0077
Restart=on-failure
RestartSec=5
# Exit code 2 is a configuration error, which a restart cannot fix.
RestartPreventExitStatus=2
WatchdogSec=60
TimeoutStopSec=40

[Install]
WantedBy=default.target
"""


def launchd_plist(service: Service) -> bytes:
    return plistlib.dumps(
        {
            "Label": _LABEL,
            "ProgramArguments": list(service.command),
            "WorkingDirectory": str(service.folder),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 60,
            "ExitTimeOut": 40,
            "ProcessType": "Background",
            "Umask": 0o077,
            "StandardErrorPath": str(service.folder / LOG_FILE),
        },
        sort_keys=False,
    )


def scheduler_task(service: Service, user: str) -> bytes:
    """A task of Windows' Task Scheduler that starts when `user` logs on."""
    ElementTree.register_namespace("", _TASKS)
    task = ElementTree.Element(f"{{{_TASKS}}}Task", version="1.2")
    _add(task, "RegistrationInfo", {"Description": "Understudy chat bot"})
    _add(task, "Triggers", {"LogonTrigger": {"Enabled": "true", "UserId": user}})
    principal = _add(_add(task, "Principals", {}), "Principal", {})
    principal.set("id", "Author")
    for name, text in (
        ("UserId", user), ("LogonType", "InteractiveToken"), ("RunLevel", "LeastPrivilege"),
    ):  # fmt: skip
        _add(principal, name, text)
    _add(
        task,
        "Settings",
        {
            "MultipleInstancesPolicy": "IgnoreNew",
            "DisallowStartIfOnBatteries": "false",
            "StopIfGoingOnBatteries": "false",
            "StartWhenAvailable": "true",
            # Without a limit; the default ends a task after three days.
            "ExecutionTimeLimit": "PT0S",
            "RestartOnFailure": {"Interval": "PT1M", "Count": "3"},
        },
    )
    words = [*service.command[1:], "--log-file", str(service.folder / LOG_FILE)]
    actions = _add(task, "Actions", {})
    actions.set("Context", "Author")
    _add(
        actions,
        "Exec",
        {
            "Command": service.command[0],
            "Arguments": subprocess.list2cmdline(words),
            "WorkingDirectory": str(service.folder),
        },
    )
    ElementTree.indent(task)
    text = ElementTree.tostring(task, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-16"?>\n{text}\n'.encode("utf-16")


def _systemd(service: Service, environ: Mapping[str, str]) -> ServicePlan:
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")) / ".config")
    file = Path(base) / "systemd" / "user" / f"{NAME}.service"
    unit, user = systemd_unit(service), ("systemctl", "--user")
    return ServicePlan(
        file,
        unit.encode(),
        unit,
        install=((*user, "daemon-reload"), (*user, "enable", "--now", NAME)),
        remove=((*user, "disable", "--now", NAME),),
        status=(*user, "--no-pager", "status", NAME),
        note="To let it run while you are not logged in: loginctl enable-linger",
    )


def _launchd(service: Service, environ: Mapping[str, str]) -> ServicePlan:
    file = Path(environ.get("HOME", "~")) / "Library" / "LaunchAgents" / f"{_LABEL}.plist"
    plist = launchd_plist(service)
    domain = f"gui/{_user_id()}"
    return ServicePlan(
        file,
        plist,
        plist.decode(),
        install=(("launchctl", "bootstrap", domain, str(file)),),
        remove=(("launchctl", "bootout", f"{domain}/{_LABEL}"),),
        status=("launchctl", "print", f"{domain}/{_LABEL}"),
        note=f"Its log: {service.folder / LOG_FILE}",
    )


def _task_scheduler(service: Service, environ: Mapping[str, str]) -> ServicePlan:
    user = "\\".join(filter(None, (environ.get("USERDOMAIN"), environ.get("USERNAME", "user"))))
    # Without a window: `pythonw.exe` lies beside `python.exe`.
    python = service.python.replace("python.exe", "pythonw.exe")
    task = scheduler_task(Service(python, service.folder), user)
    file = Path(str(service.folder)) / f"{NAME}-task.xml"
    return ServicePlan(
        file,
        task,
        task.decode("utf-16"),
        install=(
            ("schtasks", "/Create", "/TN", NAME, "/XML", str(file), "/F"),
            ("schtasks", "/Run", "/TN", NAME),
        ),
        remove=(("schtasks", "/End", "/TN", NAME), ("schtasks", "/Delete", "/TN", NAME, "/F")),
        status=("schtasks", "/Query", "/TN", NAME, "/V", "/FO", "LIST"),
        note=f"Its log: {service.folder / LOG_FILE}",
    )


def _user_id() -> int:
    if sys.platform == "win32":
        return 0
    return os.getuid()


_Tree = Mapping[str, "str | _Tree"]


def _add(parent: ElementTree.Element, name: str, content: "str | _Tree") -> ElementTree.Element:
    element = ElementTree.SubElement(parent, f"{{{_TASKS}}}{name}")
    if isinstance(content, str):
        element.text = content
    else:
        for below, inner in content.items():
            _add(element, below, inner)
    return element


def _systemd_escaped(text: str) -> str:
    return text.replace("%", "%%")


def _systemd_quoted(word: str) -> str:
    escaped = _systemd_escaped(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

"""The service files, read: neither systemd nor a container engine runs where the tests do."""

import re
from configparser import RawConfigParser
from pathlib import Path

from understudy.app.bot import GRACE_S
from understudy.config.settings import Gateway, Web

DEPLOY = Path(__file__).parents[2] / "deploy"
FENCES = {
    "NoNewPrivileges": "true",
    "ProtectSystem": "strict",
    "ProtectHome": "true",
    "PrivateTmp": "true",
    "PrivateDevices": "true",
    "ProtectKernelTunables": "true",
    "ProtectKernelModules": "true",
    "ProtectControlGroups": "true",
    "RestrictSUIDSGID": "true",
    "RestrictNamespaces": "true",
    "LockPersonality": "true",
    "MemoryDenyWriteExecute": "true",
    "SystemCallArchitectures": "native",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "UMask": "0077",
    "StateDirectoryMode": "0700",
}


def service() -> dict[str, str]:
    unit = RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "understudy.service")
    return dict(unit["Service"])


def container() -> list[tuple[str, str]]:
    """(instruction, argument) of each line of the last stage."""
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    steps = [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]
    last = max(number for number, (word, _) in enumerate(steps) if word == "FROM")
    return steps[last:]


def test_the_service_is_fenced_in_and_no_root() -> None:
    unit = service()

    assert {name: unit.get(name) for name in FENCES} == FENCES
    assert unit["User"] not in ("", "root")


def test_the_service_says_when_it_is_ready_and_alive() -> None:
    unit = service()

    assert (unit["Type"], unit["NotifyAccess"]) == ("notify", "main")
    assert int(unit["WatchdogSec"]) > 0
    assert unit["RestartPreventExitStatus"] == "2"


def test_the_service_manager_waits_longer_than_running_replies_may_take() -> None:
    assert int(service()["TimeoutStopSec"]) > GRACE_S + 10


def test_the_service_may_open_the_files_that_the_gateway_needs() -> None:
    assert int(service()["LimitNOFILE"]) > 2 * Gateway().max_requests


def test_the_container_runs_as_its_own_user_and_holds_no_secret() -> None:
    steps = container()
    before_entry = [word for word, _ in steps[: [w for w, _ in steps].index("ENTRYPOINT")]]

    assert "USER" in before_entry
    assert dict(steps)["USER"] not in ("", "root", "0")
    assert not [rest for word, rest in steps if re.search(r"TOKEN|KEY|SECRET|PASSWORD", rest)]
    assert {word for word, _ in steps}.isdisjoint({"ADD"})


def test_the_container_serves_what_the_configuration_says() -> None:
    steps = dict(container())

    assert steps["EXPOSE"] == f"{Web().port} {Gateway().port}"
    assert f"127.0.0.1:{Web().port}/healthz" in steps["HEALTHCHECK"]
    assert (steps["ENTRYPOINT"], steps["CMD"]) == ('["understudy"]', '["run"]')
    assert steps["STOPSIGNAL"] == "SIGTERM"

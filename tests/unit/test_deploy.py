"""The service files, read: neither systemd nor a container engine runs where the tests do."""

import json
import re
from configparser import RawConfigParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from jsonschema import Draft7Validator, ValidationError
from ruamel.yaml import YAML

from understudy.app.bot import GRACE_S
from understudy.config.load import Config, load_config
from understudy.config.settings import Gateway, Web
from understudy.errors import ConfigError

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


def yaml_documents(name: str) -> list[dict[str, Any]]:
    return list(YAML(typ="safe", pure=True).load_all((DEPLOY / name).read_text()))


def manifests() -> list[dict[str, Any]]:
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    return [one for file in files for one in yaml_documents(f"kubernetes/{file.name}")]


def manifest(kind: str, name: str = "understudy") -> dict[str, Any]:
    return next(
        one for one in manifests() if (one["kind"], one["metadata"]["name"]) == (kind, name)
    )


def load_with(text: str, folder: Path) -> Config:
    """The configuration that a deployment ships, with the secrets that it asks for."""
    (folder / "config.yaml").write_text(text)
    secrets = {
        "UNDERSTUDY_WEB_TOKEN": "t" * 40,
        "UNDERSTUDY_GATEWAY_KEY": "k" * 40,
        "OPENROUTER_API_KEY": "o" * 40,
    }
    return load_config(folder / "config.yaml", secrets)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_the_manifests_are_valid_kubernetes(version: str) -> None:
    found = manifests()

    assert {one["kind"] for one in found} == {
        "ConfigMap",
        "Deployment",
        "PodDisruptionBudget",
        "Service",
    }
    for one in found:
        kubernetes_validate.validate(one, version, strict=True)


def test_kubernetes_waits_longer_than_running_replies_may_take() -> None:
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])

    assert pod["terminationGracePeriodSeconds"] > GRACE_S + pause_s + 10
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "page"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "page"}


def test_the_pods_are_fenced_in_and_take_secrets_by_reference() -> None:
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["envFrom"] == [{"secretRef": {"name": "understudy"}}]
    assert "Secret" not in {one["kind"] for one in manifests()}


def test_labels_ports_and_budget_belong_to_the_same_pods() -> None:
    template = manifest("Deployment")["spec"]["template"]
    labels = template["metadata"]["labels"]
    ports = {p["name"]: p["containerPort"] for p in template["spec"]["containers"][0]["ports"]}

    assert ports == {"page": Web().port, "gateway": Gateway().port}
    assert manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    for service in (manifest("Service"), manifest("Service", "understudy-gateway")):
        assert service["spec"]["selector"] == labels
        assert {p["targetPort"] for p in service["spec"]["ports"]} <= ports.keys()


def test_the_compose_file_follows_the_compose_specification() -> None:
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"

    (compose,) = yaml_documents("compose.yaml")
    Draft7Validator(json.loads(schema.read_text())).validate(compose)
    with pytest.raises(ValidationError):
        Draft7Validator(json.loads(schema.read_text())).validate({**compose, "services": []})


def test_compose_starts_two_bots_after_the_database_and_names_files_that_exist() -> None:
    (compose,) = yaml_documents("compose.yaml")
    services = compose["services"]

    for bot in ("bot1", "bot2"):
        assert services[bot]["depends_on"]["database"]["condition"] == "service_healthy"
        assert int(services[bot]["stop_grace_period"].removesuffix("s")) > GRACE_S + 10
        assert f"{bot}:{Web().port}" in (DEPLOY / "Caddyfile").read_text()
        assert f"{bot}:{Gateway().port}" in (DEPLOY / "Caddyfile").read_text()
    for config in compose["configs"].values():
        assert (DEPLOY / config["file"]).is_file()
    assert all(port.startswith("127.0.0.1:") for port in services["front"]["ports"])


@pytest.mark.parametrize("source", ["container.yaml", "bot.yaml", "kubernetes"])
def test_the_configurations_are_valid_and_reach_the_published_port(
    source: str, tmp_path: Path
) -> None:
    text = (
        manifest("ConfigMap")["data"]["config.yaml"]
        if source == "kubernetes"
        else (DEPLOY / source).read_text()
    )

    config = load_with(text, tmp_path)

    assert config.warnings == ()
    assert config.settings.web.host == "0.0.0.0"
    with pytest.raises(ConfigError, match=r"other machines could use the page: set web\.token"):
        load_config(tmp_path / "config.yaml", {})


def test_the_image_has_its_configuration_and_the_driver_of_postgresql() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    steps = [rest for word, rest in container() if word == "COPY"]

    assert any(rest.endswith("deploy/container.yaml /data/config.yaml") for rest in steps)
    assert "'.[postgres]'" in text

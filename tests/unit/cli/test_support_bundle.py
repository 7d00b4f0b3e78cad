"""The bundle for bug reports holds facts, and nothing private."""

import json
from pathlib import Path

import pytest

from command import understudy

CANARY = "canary-5150-secret"
CONFIG = f"""\
model:
  openrouter: {{enabled: false}}
  servers: {{pc: {{base_url: "http://127.0.0.1:1/", api_key: {CANARY}}}}}
  provider_order: [pc]
discord: {{admins: ["123456789012345678"]}}
web: {{token: {CANARY}}}
"""
LOG = f"""\
Operator's page: http://127.0.0.1:8005/login?code=one-time-code
{{"event": "message.decided", "channel": "browser-of-ann", "answer": true, "message_id": "m-1"}}
{{"event": "provider.attempt", "provider": "pc", "error_text": "server said", "x": "{CANARY}"}}
{{"event": "broken
"""


@pytest.mark.slow
def test_the_bundle_has_versions_settings_checks_and_log(tmp_path: Path) -> None:
    bundle, _ = made(tmp_path)

    assert bundle["versions"]["understudy-bot"]
    assert bundle["versions"]["pydantic"]
    assert bundle["configuration"]["model"]["servers"]["pc"]["api_key"] == "********"
    assert [row["name"] for row in bundle["doctor"]["providers"]] == ["pc"]
    assert [line["event"] for line in bundle["log"]] == ["message.decided", "provider.attempt"]


@pytest.mark.slow
def test_the_bundle_holds_no_secret_no_id_and_no_text(tmp_path: Path) -> None:
    _, text = made(tmp_path)

    for private in (
        CANARY,
        "123456789012345678",
        "one-time-code",
        "browser-of",
        "m-1",
        "server said",
    ):
        assert private not in text


@pytest.mark.slow
def test_the_bundle_is_for_its_owner_only(tmp_path: Path) -> None:
    made(tmp_path)

    assert (tmp_path / "out.json").stat().st_mode & 0o777 == 0o600


def made(folder: Path):  # type: ignore[no-untyped-def]
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "bot.log").write_text(LOG)
    done = understudy("support-bundle", "--log", "bot.log", "-o", "out.json", folder=folder)
    assert done.returncode == 0, done.stderr
    text = (folder / "out.json").read_text()
    return json.loads(text), text

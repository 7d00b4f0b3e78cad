"""SmolLM2 for real: what `make real-model` runs."""

import json
import os
import re
from pathlib import Path

import pytest

from command import understudy

pytestmark = [pytest.mark.real_model, pytest.mark.slow]
WORDS = re.compile(r"[A-Za-z']+")


@pytest.fixture
def env() -> dict[str, str]:
    return {"UNDERSTUDY_MODELS_DIR": os.environ["UNDERSTUDY_MODELS_DIR"]}


def test_the_demo_ends_in_a_real_sentence(env: dict[str, str], tmp_path: Path) -> None:
    done = understudy(
        "demo", "--real", "--say", "Please say hello to everybody.", folder=tmp_path, env=env
    )
    *reply, route = done.stdout.strip().splitlines()

    assert done.returncode == 0, done.stderr
    assert len(WORDS.findall(" ".join(reply))) >= 3
    assert route.startswith(
        "rate-limited: rehearsal-a · broke off: rehearsal-b · answered: smollm2"
    )


def test_doctor_finds_context_speed_and_blindness(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "model: {provider_order: [local], local: {enabled: true, engine: builtin}}"
    )
    done = understudy("doctor", "--json", folder=tmp_path, env=env)
    [own] = json.loads(done.stdout)["providers"]

    assert (own["ok"], own["engine"], own["model"]) == (True, "builtin", "smollm2-135m")
    assert (own["context_length"], own["vision"]) == (4096, False)
    assert own["usage_reported"] is True
    assert own["tokens_per_s"] > 0

import pytest

from understudy.config.restart_required import restart_required
from understudy.config.settings import Settings

STARTED = Settings()


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("conversation", "persist", False),
        ("discord", "token", "another"),
        ("web", "chat_token", "sesame"),
        ("gateway", "port", 9000),
        ("storage", "url", "sqlite:///elsewhere.db"),
        ("logging", "format", "json"),
        ("telemetry", "enabled", True),
    ],
)
def test_what_waits_for_the_next_start_is_named(section: str, key: str, value: object) -> None:
    now = Settings.model_validate({section: {key: value}})

    assert restart_required(STARTED, now) == [f"{section}.{key}"]
    assert restart_required(now, now) == []


def test_what_is_in_force_at_once_is_not_named() -> None:
    now = Settings.model_validate(
        {
            "model": {"provider_order": ["local"]},
            "persona": {"name": "Bessie"},
            "conversation": {"history_days": 3},
            "logging": {"level": "debug"},
            "vision": {"enabled": True},
        }
    )

    assert restart_required(STARTED, now) == []

"""What doctor says of settings and files that let others see or do too much."""

from pathlib import Path

import pytest

from understudy.cli.doctor.security import outside_profile, unsafe
from understudy.config.load import load_config

KEY = "sk-or-v1-0123456789abcdef"
MODEL = "model: {provider_order: [local], local: {enabled: true, engine: koboldcpp}}\n"


def advice(folder: Path, text: str = "", env: dict[str, str] | None = None) -> list[str]:
    file = folder / "config.yaml"
    if not file.exists():
        file.write_text(MODEL + text)
        file.chmod(0o600)
    database = f"sqlite:///{folder}/bot.db"
    if "storage" not in text:
        file.write_text(f"{file.read_text()}storage: {{url: '{database}'}}\n")
    return [f"{check.name}: {check.advice}" for check in unsafe(load_config(file, env or {}))]


def test_the_usual_set_up_is_safe(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"OPENROUTER_API_KEY={KEY}\n")
    (tmp_path / ".env").chmod(0o600)

    assert advice(tmp_path) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_with_a_key_in_it_is_for_its_owner_alone(tmp_path: Path, mode: int) -> None:
    (tmp_path / ".env").write_text(f"OPENROUTER_API_KEY={KEY}\n")
    (tmp_path / ".env").chmod(mode)

    (told,) = advice(tmp_path)
    assert told.endswith(f"chmod 600 {tmp_path}/.env")
    assert KEY not in told


def test_a_configuration_with_a_key_in_it_is_too(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"{MODEL}web: {{token: {KEY}}}\n")
    file.chmod(0o644)

    assert advice(tmp_path) == [
        f"files: other users of this machine can read {file}: chmod 600 {file}"
    ]


def test_a_configuration_without_secrets_may_be_read_by_anybody(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(MODEL)
    file.chmod(0o644)

    assert advice(tmp_path, env={"UNDERSTUDY_WEB_TOKEN": KEY}) == []


def test_a_database_that_others_can_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "bot.db").touch(mode=0o644)
    (tmp_path / "bot.db").chmod(0o644)

    assert "bot.db: chmod 600" in advice(tmp_path)[0]


def test_a_folder_beside_the_database_is_told_how_to_stay_usable(tmp_path: Path) -> None:
    (tmp_path / "bot.db-images").mkdir()
    (tmp_path / "bot.db-images").chmod(0o755)

    assert "bot.db-images: chmod 700" in advice(tmp_path)[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"web: {{host: 0.0.0.0, token: {KEY}}}\n", "web: other machines reach it at 0.0.0.0"),
        (
            "gateway: {enabled: true, host: '::', keys: [{name: a, sha256: '" + "0" * 64 + "'}]}\n",
            "gateway: other machines reach it at ::, unencrypted",
        ),
        ("gateway: {enabled: true, cors_origins: ['*']}\n", "gateway: any web page"),
        (f"gateway: {{enabled: true, keys: [{{name: tavern, key: {KEY}}}]}}\n", "key of tavern"),
        (
            "web: {token: hunter2, chat_token: abc}\n",
            "web: web.token, web.chat_token can be guessed",
        ),
        (
            "gateway: {enabled: true, keys: [{name: a, key: sk-1}]}\n",
            "gateway: the key of a can be",
        ),
        ("logging: {prompts: true}\n", "logging: prompts and replies are written to prompts"),
        ("debug: {error_text: true}\n", "debug.error_text: texts of servers"),
    ],
)
def test_what_is_open_wider_than_it_need_be_is_told(tmp_path: Path, text: str, told: str) -> None:
    assert told in "; ".join(advice(tmp_path, text))


def test_an_env_file_that_others_can_read_is_a_warning_and_a_configuration_a_problem(
    tmp_path: Path,
) -> None:
    (tmp_path / ".env").write_text(f"OPENROUTER_API_KEY={KEY}\n")
    file = tmp_path / "config.yaml"
    file.write_text(f"{MODEL}web: {{token: {KEY}}}\n")
    for path in (tmp_path / ".env", file):
        path.chmod(0o644)

    checks = unsafe(load_config(file, {"OPENROUTER_API_KEY": KEY}))

    assert {c.advice.rpartition("/")[2]: c.ok for c in checks if c.name == "files"} == {
        ".env": True,
        "config.yaml": False,
    }


def test_without_file_modes_only_folders_outside_the_profile_get_advice(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "shared"

    checks = list(outside_profile([home / "bot" / ".env", elsewhere / ".env"], home))

    assert [f'icacls "{elsewhere}"' in check.advice for check in checks] == [True]
